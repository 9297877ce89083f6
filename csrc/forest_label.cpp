#include "forest_label.hpp"

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pairec {
namespace {

using std::int32_t;
using std::ptrdiff_t;
using std::size_t;
using std::uint8_t;

constexpr int32_t kRowsMin = 16;  // below, walking the trees is faster than filling a group's columns

// Bytes that compare as signed ones.
typedef signed char Bytes __attribute__((vector_size(16), may_alias));

Bytes all(int byte) noexcept { return Bytes{} + static_cast<signed char>(byte); }

// Columns of the sets this tree tests: -1 where the category is in the set and goes left, 0 where it goes right.
[[gnu::always_inline]] inline void spread_memberships(const Ranks& ranks, const Ranks::Tree& tree, int32_t groups,
                                                      uint8_t* columns) noexcept {
  const Ranks::Membership* membership = ranks.memberships.data() + tree.membership;
  uint8_t* out = columns + (ranks.columns.size() + ranks.sets.size()) * kBlockRows;
  for (int32_t i = 0; i < tree.memberships; ++i, out += kBlockRows) {
    const uint8_t* from = columns + size_t(membership[i].column) * kBlockRows;
    const uint8_t bit = membership[i].bit;
    for (int32_t row = 0; row < groups * kGroupRows; ++row) out[row] = from[row] & bit ? 0 : 0xFF;
  }
}

void add_tree_baseline(const Ranks& ranks, const Ranks::Tree& tree, int32_t groups, uint8_t* columns,
                       double* sums) noexcept {
  spread_memberships(ranks, tree, groups, columns);
  const Ranks::Split* split = ranks.splits.data() + tree.split;
  const double* leaf = ranks.leaves.data() + tree.leaf;
  constexpr int32_t kAtOnce = 8;  // what a split says is spread over a register once for so many
  for (int32_t begin = 0; begin < groups * kGroupRows; begin += kAtOnce * int32_t(sizeof(Bytes))) {
    alignas(64) Bytes label[kAtOnce] = {};
    for (int32_t i = 0; i < tree.splits; ++i) {
      const auto* column = reinterpret_cast<const Bytes*>(columns + size_t(split[i].column) * kBlockRows + begin);
      const Bytes rank = all(split[i].rank), from = all(split[i].from), moves = all(split[i].from ^ split[i].to);
#pragma GCC unroll 8
      for (int32_t k = 0; k < kAtOnce; ++k) label[k] ^= (column[k] > rank) & (label[k] == from) & moves;
    }
    uint8_t leaves[sizeof label];
    std::memcpy(leaves, label, sizeof label);
    const int32_t end = std::min(int32_t(sizeof label), groups * kGroupRows - begin);
    for (int32_t i = 0; i < end; ++i) sums[begin + i] += leaf[leaves[i]];
  }
}

template <typename Value>
void score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, FillColumns<Value> fill,
           void* scratch, const Value* x, ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step,
           ptrdiff_t class_step) noexcept {
  if (count < kRowsMin) return forest_score(forest, x, stride, count, out, row_step, class_step);
  auto* sums = static_cast<double*>(scratch);
  auto* columns = static_cast<uint8_t*>(scratch) + sizeof(double) * kBlockRows;
  for (ptrdiff_t begin = 0; begin < count; begin += kBlockRows) {
    const auto rows = static_cast<int32_t>(std::min<ptrdiff_t>(kBlockRows, count - begin));
    const int32_t groups = (rows + kGroupRows - 1) / kGroupRows;
    const Value* x_block = x + stride * begin;
    fill(ranks, x_block, stride, rows, columns);
    for (int32_t k = 0; k < forest.classes; ++k) {
      std::fill_n(sums, kBlockRows, 0.0);
      for (size_t tree = size_t(k); tree < ranks.trees.size(); tree += size_t(forest.classes)) {
        if (ranks.trees[tree].leaves > 0) {
          kernels.add_tree(ranks, ranks.trees[tree], groups, columns, sums);
        } else {
          forest_add_tree(forest, tree, x_block, stride, rows, sums, 1);
        }
      }
      double* to = out + row_step * begin + class_step * k;
      for (int32_t i = 0; i < rows; ++i) to[row_step * i] = sums[i];
    }
  }
}

}  // namespace

LabelKernels label_kernels() {
  return {column_kernels(std::min(isa_active(), Isa::avx2)), add_tree_baseline};
}

size_t scratch_bytes(const Ranks& ranks) noexcept {
  return (sizeof(double) + size_t(ranks.columns_all)) * kBlockRows;
}

void forest_score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch, const float* x,
                  ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step, ptrdiff_t class_step) noexcept {
  score(forest, ranks, kernels, kernels.columns.fill32, scratch, x, stride, count, out, row_step, class_step);
}

void forest_score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch,
                  const double* x, ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step,
                  ptrdiff_t class_step) noexcept {
  score(forest, ranks, kernels, kernels.columns.fill64, scratch, x, stride, count, out, row_step, class_step);
}

}  // namespace pairec
