#include "forest_walk.hpp"

#include <algorithm>

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::size_t;
using std::uint8_t;

constexpr int32_t kLanes = 8;  // each waits some ten cycles for its loads at every split, so they wait together

// Moves every lane to its leaf. A lane is a tree's first step and a row's first byte; bytes lie `stride` apart.
template <size_t kStride>
[[gnu::always_inline]] inline void walk(const Ranks::Step* const* steps, const uint8_t* const* row, int32_t* at) {
  int32_t is_under_way;
  do {
    is_under_way = 0;
#pragma GCC unroll 8
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      const int32_t here = at[lane];
      const Ranks::Step& step = steps[lane][std::max(here, 0)];
      const bool goes_right = int8_t(row[lane][step.column * kStride] & step.mask) > step.rank;
      const int32_t next = step.next[goes_right];
      at[lane] = here < 0 ? here : next;
      is_under_way |= ~at[lane] & INT32_MIN;
    }
  } while (is_under_way);
}

// A tree of one leaf has no steps: its lane starts there, and looks at what is always there.
constexpr Ranks::Step kNowhere{0, 0, 0, {-1, -1}};

}  // namespace

void walk_rows(const Ranks& ranks, const Ranks::Tree& tree, const uint8_t* columns, Isa level, int32_t count,
               int32_t* leaf) noexcept {
  if (tree.leaves == 1) return void(std::fill_n(leaf, count, 0));
  const Ranks::Step* steps[kLanes];
  const uint8_t* row[kLanes];
  std::fill_n(steps, kLanes, ranks.steps.data() + tree.step);
  for (int32_t begin = 0; begin < count; begin += kLanes) {
    int32_t at[kLanes] = {};
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      const int32_t i = std::min(begin + lane, count - 1);
      row[lane] = columns + (i & -kGroupRows) + place(level, i % kGroupRows);
    }
    walk<kBlockRows>(steps, row, at);
    for (int32_t lane = 0; lane < std::min(kLanes, count - begin); ++lane) leaf[begin + lane] = ~at[lane];
  }
}

void walk_trees(const Ranks& ranks, const uint8_t* row, double* out, std::ptrdiff_t step) noexcept {
  for (int32_t k = 0; k < ranks.classes; ++k) out[step * k] = ranks.base[size_t(k)];
  const uint8_t* rows[kLanes];
  std::fill_n(rows, kLanes, row);
  const auto trees = static_cast<int32_t>(ranks.trees.size());
  int32_t of_class = 0;
  for (int32_t begin = 0; begin < trees; begin += kLanes) {
    const Ranks::Step* steps[kLanes];
    int32_t at[kLanes];
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      const Ranks::Tree& tree = ranks.trees[size_t(std::min(begin + lane, trees - 1))];
      const bool is_leaf = tree.leaves == 1;
      steps[lane] = is_leaf ? &kNowhere : ranks.steps.data() + tree.step;
      at[lane] = is_leaf ? ~0 : 0;
    }
    walk<1>(steps, rows, at);
    for (int32_t lane = 0; lane < std::min(kLanes, trees - begin); ++lane) {
      double& sum = out[step * of_class];
      sum += ranks.leaves[ranks.trees[size_t(begin + lane)].leaf + size_t(~at[lane])];
      if (ranks.is_single) sum = double(float(sum));
      of_class = of_class + 1 == ranks.classes ? 0 : of_class + 1;
    }
  }
}

}  // namespace pairec
