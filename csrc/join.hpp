// The candidates of another arena behind one's own: what a side pipeline found, beside the main line.
#pragma once
#include "arena.hpp"

namespace pairec {

// Walks the slots of `from.order` [from.order_count]. An item that `into` has stays as it is there; another is appended
// with its source and its scores, until `into` is full, at a place that no candidate has.
//   target [from.order_count]  out: the slot in `into` of each, or -1: it was full
// Requires that scores live in both, and that both follow one overlay. Where `from` has fewer algorithm outputs, the
// others are 0. Uses into.mark, into.touched and into.keep. Returns how many were appended.
std::int32_t join(Arena& into, const Arena& from, std::int32_t* target) noexcept;

}  // namespace pairec
