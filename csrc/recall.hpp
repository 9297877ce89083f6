// Candidates into the arena: merged in configured order, each item once, the first recall to bring it keeps it.
#pragma once
#include "arena.hpp"

namespace pairec {

// Item-to-item weights, borrowed: the neighbours of `row` are neighbour[offset[row] .. offset[row + 1]).
struct Neighbours {
  const std::int64_t* offset;    // [items + 1]
  const std::int32_t* neighbour;
  const float* weight;
};

// Takes the first `k` of `rows` [count] whose items are not gone, as the rows that stand for them now, and appends those
// that are no candidates yet (all, where the arena takes repeats), until it is full. Returns how many were added.
std::int32_t add(Arena& arena, const std::int32_t* rows, const float* scores, std::int32_t count, std::int32_t k,
                 std::uint8_t source) noexcept;
std::int32_t add(Arena& arena, const std::int32_t* rows, const double* scores, std::int32_t count, std::int32_t k,
                 std::uint8_t source) noexcept;

// Sums the weights of the neighbours of `history` [history_count] into arena.sum, in double, in the order given.
// Afterwards arena.mark holds the rows that have a sum and arena.touched lists them. Returns how many.
std::int32_t accumulate(Arena& arena, const Neighbours& table, const std::int32_t* history,
                        std::int32_t history_count) noexcept;

// Accumulates, then adds the `k` rows of the largest sums whose items are not gone, best first; equal sums by lower row.
// Returns how many.
std::int32_t add_similar(Arena& arena, const Neighbours& table, const std::int32_t* history,
                         std::int32_t history_count, std::int32_t k, std::uint8_t source) noexcept;

// Merges `rows` [count], of which negative ones are left out, into one weight a row: the sum of `weights`, in the order
// given, or the largest. Afterwards arena.touched begins with the `k` rows of the largest whose items are not gone, best
// first, equal ones by lower row, and arena.sum holds their weights. Returns how many.
std::int32_t merge(Arena& arena, const std::int32_t* rows, const double* weights, std::int32_t count, bool largest,
                   std::int32_t k) noexcept;

// Takes from `lists` lists, rows[offset[list] .. offset[list + 1]), one row each in turn, up to `k` rows: the next of
// the list that is not taken yet, negative ones and those of items that are gone left out. `next` [lists] says where each
// list begins, and is used up. `taken` [k] receives places in `rows`. Returns how many.
std::int32_t in_turn(Arena& arena, const std::int32_t* rows, const std::int64_t* offset, std::int64_t* next,
                     std::int32_t lists, std::int32_t k, std::int32_t* taken) noexcept;

}  // namespace pairec
