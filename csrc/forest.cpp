// Source of what a split means: LightGBM include/LightGBM/tree.h, NumericalDecision and CategoricalDecision.
#include "forest.hpp"

#include <algorithm>
#include <cmath>

namespace pairec {
namespace {

using std::int32_t;
using std::size_t;

constexpr int32_t kBlock = 512;  // rows kept in cache while all trees pass over them

// 1 if category `x` is not in set `number`. Truncates toward zero as LightGBM's cast does, so (-1, 0] is category 0;
// compares first, because casting what an int cannot hold is undefined.
unsigned outside_set(const Forest& forest, double number, double x) noexcept {
  if (!(x > -1.0 && x < 2147483648.0)) return 1;
  const auto which = static_cast<size_t>(number), category = static_cast<size_t>(static_cast<int32_t>(x));
  const size_t word = forest.set_begin[which] + category / 32;
  return word >= forest.set_begin[which + 1] || !(forest.set[word] >> (category % 32) & 1);
}

// Adds one tree's leaf to out[i * step] for `count` rows, `kLanes` at once: each waits some ten cycles for its
// loads at every step, so they wait together. Spare lanes of the last round repeat its last row.
template <int kLanes, Splits kSplits, typename Value>
void add_leaves(const Forest& forest, size_t tree, const Value* x, std::ptrdiff_t stride, int32_t count, double* out,
                std::ptrdiff_t step) noexcept {
  const Node* nodes = forest.nodes.data() + forest.root[tree];
  for (int32_t row = 0; row < count; row += kLanes) {
    const int32_t lanes = std::min(kLanes, count - row);
    const Value* at[kLanes];
    int32_t node[kLanes] = {};
    for (int lane = 0; lane < kLanes; ++lane) at[lane] = x + stride * (row + std::min(lane, lanes - 1));
    int32_t moved;
    do {
      moved = 0;
      for (int lane = 0; lane < kLanes; ++lane) {
        const Node& here = nodes[node[lane]];
        const double value = at[lane][here.feature()];
        unsigned is = static_cast<unsigned>(value > here.threshold) | static_cast<unsigned>(value != value) << 1;
        if constexpr (kSplits != Splits::plain) is |= static_cast<unsigned>(std::fabs(value) <= kZero) << 2;
        unsigned right = here.rule() >> is & 1;
        if constexpr (kSplits == Splits::sets) {
          if (here.rule() & kBySet) right = outside_set(forest, here.threshold, value);
        }
        const int32_t next = here.next + int32_t(right);
        moved |= next ^ node[lane];
        node[lane] = next;
      }
    } while (moved);
    for (int lane = 0; lane < lanes; ++lane) out[step * (row + lane)] += nodes[node[lane]].threshold;
  }
}

template <int kLanes, typename Value>
void add_tree(const Forest& forest, size_t tree, const Value* x, std::ptrdiff_t stride, int32_t count, double* out,
              std::ptrdiff_t step) noexcept {
  switch (forest.splits[tree]) {
    case Splits::plain: return add_leaves<kLanes, Splits::plain>(forest, tree, x, stride, count, out, step);
    case Splits::zeros: return add_leaves<kLanes, Splits::zeros>(forest, tree, x, stride, count, out, step);
    case Splits::sets: return add_leaves<kLanes, Splits::sets>(forest, tree, x, stride, count, out, step);
  }
}

template <typename Value>
void score(const Forest& forest, const Value* x, std::ptrdiff_t stride, int32_t count, double* out,
           std::ptrdiff_t row_step, std::ptrdiff_t class_step) noexcept {
  for (std::ptrdiff_t row = 0; row < count; row += kBlock) {  // wide: the last step may pass the largest int32
    const auto rows = static_cast<int32_t>(std::min<std::ptrdiff_t>(kBlock, count - row));
    const Value* x_block = x + stride * row;
    double* out_block = out + row_step * row;
    const auto add = rows == 1 ? add_tree<1, Value> : add_tree<8, Value>;
    for (int32_t i = 0; i < rows; ++i) {
      for (int32_t k = 0; k < forest.classes; ++k) out_block[row_step * i + class_step * k] = 0.0;
    }
    for (size_t tree = 0; tree < forest.root.size(); ++tree) {
      double* column = out_block + class_step * std::ptrdiff_t(tree % size_t(forest.classes));
      add(forest, tree, x_block, stride, rows, column, row_step);
    }
  }
}

}  // namespace

void forest_score(const Forest& forest, const float* x, std::ptrdiff_t stride, int32_t count, double* out,
                  std::ptrdiff_t row_step, std::ptrdiff_t class_step) noexcept {
  score(forest, x, stride, count, out, row_step, class_step);
}

void forest_score(const Forest& forest, const double* x, std::ptrdiff_t stride, int32_t count, double* out,
                  std::ptrdiff_t row_step, std::ptrdiff_t class_step) noexcept {
  score(forest, x, stride, count, out, row_step, class_step);
}

void forest_add_tree(const Forest& forest, size_t tree, const float* x, std::ptrdiff_t stride, int32_t count,
                     double* out, std::ptrdiff_t step) noexcept {
  add_tree<8>(forest, tree, x, stride, count, out, step);
}

void forest_add_tree(const Forest& forest, size_t tree, const double* x, std::ptrdiff_t stride, int32_t count,
                     double* out, std::ptrdiff_t step) noexcept {
  add_tree<8>(forest, tree, x, stride, count, out, step);
}

}  // namespace pairec
