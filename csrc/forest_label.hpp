// Scores a block of rows with a forest's bytes (forest_ranks.hpp): rows to columns of ranks, ranks to labels tree by
// tree, labels to leaves. Seven (baseline) to thirty times (AVX-512) as fast as walking the trees, and the same bits:
// leaves are added in double, in tree order, one addition a tree and row. test_forest_label.py, "every level gives the
// bits of LightGBM".
#pragma once
#include <cstddef>
#include <cstdint>

#include "forest.hpp"
#include "forest_columns.hpp"
#include "forest_ranks.hpp"

namespace pairec {

// Adds a tree's leaves to sums [groups * kGroupRows], in the order of the rows. Not for trees of too many leaves.
//   columns [columns_all, kBlockRows]   filled for `groups` groups; those of memberships are written, and bytes beyond
//                                       the groups may be read: what they hold does not matter
using AddTree = void (*)(const Ranks& ranks, const Ranks::Tree& tree, std::int32_t groups, std::uint8_t* columns,
                         double* sums) noexcept;

struct LabelKernels {
  ColumnKernels columns;
  AddTree add_tree;
  std::int32_t rows_min;  // with fewer, walking the trees is faster than filling a group of rows
};

// The kernels of the active level of SIMD. Throws std::invalid_argument for a PAIREC_ISA that cannot be had.
LabelKernels label_kernels();

// All memory forest_score needs beside its arguments, 64-byte aligned; one call at a time.
std::size_t scratch_bytes(const Ranks& ranks) noexcept;

// The same scores, to the bit, as the forest_score without ranks, which it calls for few rows. Allocates nothing.
void forest_score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch, const float* x,
                  std::ptrdiff_t stride, std::int32_t count, double* out, std::ptrdiff_t row_step,
                  std::ptrdiff_t class_step) noexcept;
void forest_score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch, const double* x,
                  std::ptrdiff_t stride, std::int32_t count, double* out, std::ptrdiff_t row_step,
                  std::ptrdiff_t class_step) noexcept;

}  // namespace pairec
