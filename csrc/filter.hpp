// Which candidates may be shown. Filters clear `keep`; compact removes the slots that lost it.
#pragma once
#include "arena.hpp"

namespace pairec {

// keep = 1 for every live slot.
void keep_all(Arena& arena) noexcept;

// Drops candidates that are the item of a row among `exposed` [count]. Uses arena.mark.
void drop_exposed(Arena& arena, const std::int32_t* exposed, std::int32_t count) noexcept;

// Drops candidates whose row has a zero in `allowed` [items].
void keep_allowed(Arena& arena, const std::uint8_t* allowed) noexcept;

// The live candidates become `slots` [count], in that order: different ones.
void select(Arena& arena, const std::int32_t* slots, std::int32_t count) noexcept;

// Removes the slots without `keep`, in place and in order. Returns the new count. Where scores live it uses arena.order.
std::int32_t compact(Arena& arena) noexcept;

}  // namespace pairec
