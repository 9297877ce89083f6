// Labels a block of rows, tree by tree, and adds the leaves (forest_ranks.hpp). Leaves are added in double, in tree
// order, one addition a tree and row: test_forest_label.py, "every level gives the bits of LightGBM".
#pragma once
#include <cstddef>
#include <cstdint>

#include "forest_columns.hpp"

namespace pairec {

// A tree's splits, all of them or those that folding left, and its leaves.
struct Labels {
  const std::uint16_t* column;
  const std::uint8_t* mask;
  const std::int8_t* rank;
  const std::uint8_t *from, *to;
  std::int32_t splits;
  std::uint8_t first;         // label of all rows before the first split
  bool is_masked;             // masks are not all ones
  std::int32_t labels;        // each below it
  const std::uint8_t* live;   // [labels] leaf of a label, or null: labels are leaves
  std::int32_t leaves;
  const double* leaf;         // [leaves]
  const std::uint8_t* planes; // the same in parts, or null
};

inline Labels labels_of(const Ranks& ranks, const Ranks::Tree& tree) noexcept {
  const std::size_t at = tree.split;
  return {ranks.column.data() + at, ranks.mask.data() + at, ranks.rank.data() + at, ranks.from.data() + at,
          ranks.to.data() + at, std::int32_t(tree.leaves) - 1, 0, tree.is_masked != 0, std::int32_t(tree.leaves),
          nullptr, std::int32_t(tree.leaves), ranks.leaves.data() + tree.leaf, ranks.planes.data() + tree.plane};
}

// Adds the leaves of `count` trees, each `step` after the other, to sums [groups * kGroupRows] in the order of rows.
//   columns [columns, kBlockRows]   filled for `groups` groups; what bytes beyond them hold does not matter
using AddTrees = void (*)(const Labels* trees, std::int32_t count, std::int32_t step, std::int32_t groups,
                          const std::uint8_t* columns, double* sums) noexcept;

AddTrees label_kernel(Isa level) noexcept;

}  // namespace pairec
