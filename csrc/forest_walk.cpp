#include "forest_walk.hpp"

#include <algorithm>

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::size_t;
using std::uint8_t;

constexpr int32_t kLanes = 8;  // each waits some twenty cycles for its loads at every split, so they wait together

// Moves every lane to its row's leaf; a row's bytes lie kBlockRows apart.
[[gnu::always_inline]] inline void walk(const Ranks::Step* const* steps, const uint8_t* const* row, int32_t* at) {
  int32_t is_under_way;
  do {
    is_under_way = 0;
#pragma GCC unroll 8
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      const int32_t here = at[lane];
      const Ranks::Step& step = steps[lane][std::max(here, 0)];
      const bool goes_right = int8_t(row[lane][size_t(step.column) * kBlockRows] & step.mask) > step.rank;
      const int32_t next = step.next[goes_right];
      at[lane] = here < 0 ? here : next;
      is_under_way |= ~at[lane] & INT32_MIN;
    }
  } while (is_under_way);
}

// Many trees for one row: each lane walks a run of trees, one after the other. Where a tree ends is then no branch,
// which no row before would predict, and no lane waits for a deeper tree of another.
constexpr int32_t kRunMax = 64;
constexpr int32_t kRounds = 4;  // between looks at whether all lanes have ended

constexpr Ranks::Step kNowhere{0, 0, 0, {-1, -1}};  // a tree of one leaf
constexpr Ranks::Step kEnd{0, 0, 0, {0, 0}};        // what follows a run: it leads to itself

struct Runs {
  const Ranks::Step* root[kLanes][kRunMax + 1];
  int32_t leaf[kLanes][kRunMax + 1];
};

// Walks the first `run` trees of each lane; writes ~leaf. Inlined, its two tables need no registers.
[[gnu::always_inline]] inline void walk_runs(Runs& runs, int32_t run, const uint8_t* row) noexcept {
  const Ranks::Step* const* const root = runs.root[0];
  int32_t* const leaf = runs.leaf[0];
  const Ranks::Step* at[kLanes];
  size_t place[kLanes];  // of the lane's tree in all runs
#pragma GCC unroll 8
  for (int32_t lane = 0; lane < kLanes; ++lane) {
    runs.root[lane][run] = &kEnd;
    place[lane] = size_t(lane) * (kRunMax + 1);
    at[lane] = root[place[lane]];
  }
  bool is_under_way;
  do {
#pragma GCC unroll 1
    for (int32_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 8
      for (int32_t lane = 0; lane < kLanes; ++lane) {
        const Ranks::Step& step = *at[lane];
        const bool goes_right = int8_t(row[step.column] & step.mask) > step.rank;
        const int32_t next = step.next[goes_right];
        leaf[place[lane]] = next;  // until the tree's last step
        size_t after = place[lane] + (std::uint32_t(next) >> 31);
        asm("" : "+r"(after));  // or GCC 12 adds in memory, and waits for it
        place[lane] = after;
        at[lane] = root[after] + std::max(next, 0);
      }
    }
    is_under_way = false;
    for (int32_t lane = 0; lane < kLanes; ++lane) is_under_way |= place[lane] < size_t(lane * (kRunMax + 1) + run);
  } while (is_under_way);
}

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
    walk(steps, row, at);
    for (int32_t lane = 0; lane < std::min(kLanes, count - begin); ++lane) leaf[begin + lane] = ~at[lane];
  }
}

void walk_trees(const Ranks& ranks, const uint8_t* row, double* out, std::ptrdiff_t step) noexcept {
  constexpr int32_t kTrees = kLanes * kRunMax;
  const auto trees = static_cast<int32_t>(ranks.trees.size()), classes = ranks.classes;
  for (int32_t k = 0; k < classes; ++k) out[step * k] = ranks.base[size_t(k)];
  Runs runs;
  double value[kTrees];
  for (int32_t begin = 0, first = 0; begin < trees; begin += kTrees) {  // first: class of the first tree
    const Ranks::Tree* const tree = ranks.trees.data() + begin;
    const int32_t count = std::min(kTrees, trees - begin), run = (count + kLanes - 1) / kLanes;
    for (int32_t lane = 0, i = 0; lane < kLanes; ++lane) {
      for (int32_t k = 0; k < run; ++k, ++i) {
        const bool has_steps = i < count && tree[i].leaves > 1;
        runs.root[lane][k] = has_steps ? ranks.steps.data() + tree[i].step : &kNowhere;
      }
    }
    walk_runs(runs, run, row);
    for (int32_t lane = 0, i = 0; lane < kLanes; ++lane) {
      for (int32_t k = 0; k < run && i < count; ++k, ++i) {
        value[i] = ranks.leaves[tree[i].leaf + size_t(~runs.leaf[lane][k])];
      }
    }
    for (int32_t k = 0; k < classes; ++k) {
      double sum = out[step * k];
      for (int32_t i = (k - first + classes) % classes; i < count; i += classes) {
        sum += value[i];
        if (ranks.is_single) sum = double(float(sum));
      }
      out[step * k] = sum;
    }
    first = (first + count) % classes;
  }
}

}  // namespace pairec
