// In what order candidates are shown.
#pragma once
#include "arena.hpp"

namespace pairec {

// Writes to arena.order the slots of the `size` highest scores, best first; equal scores by lower row. NaN sorts last.
// Requires 0 < size <= count. O(count log size).
void top_k(Arena& arena, std::int32_t size) noexcept;

// Reorders arena.order [order_count] by `key` [count] of the slots, `size` of them, and leaves the rest out; equal keys stay
// in their order. Requires 0 <= size <= order_count, and no NaN. O(order_count log size), O(order_count) for many and all.
// Uses spare and scratch.
void order_by(Arena& arena, const double* key, bool descending, std::int32_t size) noexcept;

// Makes every NaN among the live scores minus infinity.
void settle_scores(Arena& arena) noexcept;

}  // namespace pairec
