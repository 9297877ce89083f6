// A forest as its maker describes it: LightGBM's model text, or trees given node by node. forest_ranks.hpp scores it.
//
// A tree of L leaves is 2L-1 consecutive nodes, breadth first, so siblings are neighbours: the right child follows the
// left. Where NaN and zeros go is a `rule` of each split: the missing types of LightGBM all reduce to it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pairec {

// Bits of a rule: what goes right beside values above the threshold, and whether the split is by category.
constexpr unsigned kNanRight = 1, kZeroRight = 2, kBySet = 4;
// LightGBM takes a number of at most this size for 0.0. Where zeros go where the threshold sends 0.0, the threshold is
// moved to the edge of that band when the model is read, and no split need look for zeros.
constexpr double kZero = 1e-35f;

struct Node {
  double threshold;      // numeric split: left if <=. By category: number of its set. Leaf: its value
  std::int32_t next;     // left child, counted from the tree's root, the right one follows it; a leaf: itself
  std::int32_t feature;  // leaf: its number in the maker's order
  std::uint32_t rule;
  double cover;          // how much of the training data came by
};

struct Forest {
  std::int32_t width = 0;    // features a row has
  std::int32_t classes = 1;  // scores a row gets; tree i adds to score i % classes
  bool average = false;      // `average_output`: what is no raw score is divided by trees / classes
  bool is_single = false;    // sums are rounded to float32 after each addition, as the trees' maker does
  std::string objective;     // text after `objective=`
  std::vector<double> base;  // [classes] what the sums begin with
  std::vector<std::string> names;         // [width]
  std::vector<std::uint8_t> categorical;  // [width] 1 where some tree splits the feature by category

  std::vector<std::size_t> root;  // [trees] a tree's first node
  std::vector<Node> nodes;

  std::vector<std::size_t> set_begin{0};  // [sets + 1] first word of a set
  std::vector<std::uint32_t> set;         // category c goes left if bit c % 32 of word c / 32 is set
};

// Reads LightGBM's model text (versions v2 to v4, LightGBM 2.1 to 4) into `forest`, which is left alone on failure.
// Allocates in proportion to `size`, whatever the text claims. Fields that do not touch the score are not looked at.
// Throws std::invalid_argument: line, field, what was found, what would be right.
void forest_parse(const char* text, std::size_t size, Forest& forest);

// The threshold of a numeric split with this rule, moved as kZero says where zeros follow it.
double at_edge_of_zero(double threshold, unsigned rule) noexcept;

}  // namespace pairec
