// Folds what is the same for all candidates of a request into a forest: splits of shared features (of the user, of the
// context) are decided once, and the splits and leaves that no candidate can reach any more are left out.
//
// What is left of a tree is an ordinary tree, for the same kernels. Trees keep their places, so sums keep their order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "forest_score.hpp"

namespace pairec {

// A forest's splits, told apart by whose feature they look at. Made once, in milliseconds.
struct FoldPlan {
  // A tree's splits from `shared` and `own` on. Those of features that most trees look at are decided in registers, the
  // others looked up one by one.
  struct Tree {
    std::uint32_t shared, own;
    std::uint16_t in_registers, looked_up, owns;
    bool is_masked;  // one of its own splits is by category
  };
  std::vector<Tree> trees;
  std::vector<std::uint16_t> shared_column;  // splits of shared features
  std::vector<std::uint8_t> shared_place;    // of the column in `in_registers`
  std::vector<std::uint8_t> shared_mask, shared_from, shared_to, shared_last;
  std::vector<std::int8_t> shared_rank;
  std::vector<std::uint16_t> column;  // splits of candidates' own features
  std::vector<std::uint8_t> mask, from, to;
  std::vector<std::int8_t> rank;
  std::vector<std::uint16_t> in_registers;  // [up to 128] columns
  std::vector<std::uint8_t> is_shared;      // [columns]
};

// `is_shared` [width] says which features are.
FoldPlan fold_plan(const Ranks& ranks, const std::uint8_t* is_shared);

// What folding leaves of a forest. Sized for all of it; one request at a time.
struct Folded {
  std::vector<Labels> trees;
  std::vector<std::uint16_t> column;
  std::vector<std::uint8_t> mask, from, to, live;
  std::vector<std::int8_t> rank;
  std::vector<double> leaf;
};
Folded folded_for(const Ranks& ranks, const FoldPlan& plan);

// Folds a request whose shared columns are in `row` [columns] into `out`. Allocates nothing.
using Fold = void (*)(const Ranks& ranks, const FoldPlan& plan, const std::uint8_t* row, Folded& out) noexcept;
Fold fold_kernel(Isa level) noexcept;

}  // namespace pairec
