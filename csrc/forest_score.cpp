#include "forest_score.hpp"

#include <algorithm>

#include "forest_walk.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::int64_t;
using std::ptrdiff_t;
using std::size_t;
using std::uint8_t;

// Labelling a group costs what walking so many rows does. Measured on 300 trees of 31 leaves, 500 of 63 and 1000 of
// 127: 3.7, 5.1 and 9.5 rows with AVX-512, 5.4, 6.9 and 9.4 with AVX2, and 18, 27 and 36 at the baseline.
int64_t group_rows_min(const Ranks& ranks, Isa level) noexcept {
  const auto leaves = static_cast<int64_t>(ranks.leaves.size() / ranks.trees.size());
  return (level == Isa::baseline ? 4 : 1) * (3 + leaves / 16);
}

constexpr size_t lines(size_t bytes) { return (bytes + sizeof(Line) - 1) / sizeof(Line) * sizeof(Line); }

void add_walked(const Scorer& scorer, size_t tree, const Scratch& scratch, int32_t count) noexcept {
  const Ranks& ranks = scorer.ranks;
  walk_rows(ranks, ranks.trees[tree], scratch.columns, scorer.level, count, scratch.leaf);
  const double* leaf = ranks.leaves.data() + ranks.trees[tree].leaf;
  for (int32_t i = 0; i < count; ++i) scratch.sums[i] += leaf[scratch.leaf[i]];
}

}  // namespace

Scorer scorer_of(const void* bytes, size_t size) {
  const Isa level = isa_active();
  Scorer out{forest_view(bytes, size), level, column_kernels(level), label_kernel(level), {}};
  for (const Ranks::Tree& tree : out.ranks.trees) {
    out.trees.push_back(tree.is_labelled ? labels_of(out.ranks, tree) : Labels{});
  }
  return out;
}

size_t scratch_bytes(const Ranks& ranks) noexcept {
  return (sizeof(double) + sizeof(int32_t) + ranks.columns) * kBlockRows + lines(ranks.columns + 1);
}

Scratch scratch_of(const Ranks& ranks, void* memory) noexcept {
  auto* begin = static_cast<uint8_t*>(memory);
  auto* leaf = begin + sizeof(double) * kBlockRows;
  auto* row = leaf + sizeof(int32_t) * kBlockRows;
  return {reinterpret_cast<double*>(begin), reinterpret_cast<int32_t*>(leaf), row, row + lines(ranks.columns + 1)};
}

void score_block(const Scorer& scorer, const Labels* trees, const Scratch& scratch, int32_t count, double* out,
                 ptrdiff_t row_step, ptrdiff_t class_step) noexcept {
  const Ranks& ranks = scorer.ranks;
  const auto classes = size_t(ranks.classes), all = ranks.trees.size();
  const int32_t groups = (count + kGroupRows - 1) / kGroupRows;
  for (size_t k = 0; k < classes; ++k) {
    std::fill_n(scratch.sums, kBlockRows, ranks.base[k]);
    for (size_t tree = k, next; tree < all; tree = next) {
      next = tree + classes;
      if (trees[tree].from == nullptr) {
        add_walked(scorer, tree, scratch, count);
      } else {
        while (next < all && trees[next].from != nullptr && !ranks.is_single) next += classes;
        scorer.add_trees(trees + tree, int32_t((next - tree) / classes), int32_t(classes), groups, scratch.columns,
                         scratch.sums);
      }
      if (ranks.is_single) {
        for (int32_t i = 0; i < count; ++i) scratch.sums[i] = double(float(scratch.sums[i]));
      }
    }
    double* to = out + class_step * ptrdiff_t(k);
    for (int32_t i = 0; i < count; ++i) to[row_step * i] = scratch.sums[i];
  }
}

void forest_score(const Scorer& scorer, const Scratch& scratch, const Rows& rows, double* out, ptrdiff_t row_step,
                  ptrdiff_t class_step) noexcept {
  const Ranks& ranks = scorer.ranks;
  if (rows.count < group_rows_min(ranks, scorer.level)) {
    for (ptrdiff_t row = 0; row < rows.count; ++row) {
      fill_row(ranks, rows, row, scratch.row);
      walk_trees(ranks, scratch.row, out + row_step * row, class_step);
    }
    return;
  }
  for (ptrdiff_t begin = 0; begin < rows.count; begin += kBlockRows) {
    const auto count = static_cast<int32_t>(std::min<ptrdiff_t>(kBlockRows, rows.count - begin));
    scorer.columns.fill(ranks, rows, begin, count, scratch.columns);
    score_block(scorer, scorer.trees.data(), scratch, count, out + row_step * begin, row_step, class_step);
  }
}

void forest_leaves(const Scorer& scorer, const Scratch& scratch, const Rows& rows, int32_t* out) noexcept {
  const Ranks& ranks = scorer.ranks;
  const auto trees = ptrdiff_t(ranks.trees.size());
  for (ptrdiff_t begin = 0; begin < rows.count; begin += kBlockRows) {
    const auto count = static_cast<int32_t>(std::min<ptrdiff_t>(kBlockRows, rows.count - begin));
    scorer.columns.fill(ranks, rows, begin, count, scratch.columns);
    for (ptrdiff_t k = 0; k < trees; ++k) {
      const Ranks::Tree& tree = ranks.trees[size_t(k)];
      walk_rows(ranks, tree, scratch.columns, scorer.level, count, scratch.leaf);
      for (int32_t i = 0; i < count; ++i) {
        out[(begin + i) * trees + k] = ranks.number[tree.leaf + size_t(scratch.leaf[i])];
      }
    }
  }
}

}  // namespace pairec
