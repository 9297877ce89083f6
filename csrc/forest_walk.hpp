// Walks trees over bytes, split by split: for a row alone, for trees of too many leaves to label, and to name leaves.
#pragma once
#include "forest_columns.hpp"

namespace pairec {

// Writes the leaf (counted from the left) that each of `count` rows of a block reaches.
//   columns [columns, kBlockRows]   as filled at this level
void walk_rows(const Ranks& ranks, const Ranks::Tree& tree, const std::uint8_t* columns, Isa level, std::int32_t count,
               std::int32_t* leaf) noexcept;

// Writes the raw scores of one row: class k to out[k * step].
//   row [columns]
void walk_trees(const Ranks& ranks, const std::uint8_t* row, double* out, std::ptrdiff_t step) noexcept;

}  // namespace pairec
