// LightGBM's model text as flat arrays, and its scores bit for bit.
//
// A tree of L leaves is 2L-1 consecutive nodes, breadth first, so siblings are neighbours and a step is one addition:
//   next node = next[node] + goes_right,   a leaf steps onto itself.
// Whether a number goes right is looked up in the node's `rule`, eight bits indexed by what the number is: the missing
// types of LightGBM all reduce to "where does NaN go, where does (almost) zero go", known when the model is read.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pairec {

// Bits of a rule. A number is described by (x > threshold) | (x is NaN) << 1 | (x is almost zero) << 2, and the bit of
// that place says whether it goes right. Descriptions 0, 1, 2, 4 and 5 occur; bit 7 is free to mark a set.
constexpr unsigned kAboveRight = 1u << 1, kNanRight = 1u << 2, kZeroRight = 1u << 4 | 1u << 5, kBySet = 1u << 7;

// What a tree's nodes need to look at. LightGBM takes a number of at most kZero in size for 0.0; where that follows the
// threshold, the threshold is moved to the edge of that band when the model is read, and no node need look for zeros.
enum class Splits : std::uint8_t { plain, zeros, sets };
constexpr double kZero = 1e-35f;

struct Node {
  double threshold;       // numeric split: left if <=. By category: number of its set. Leaf: its value
  std::int32_t next;      // left child, the right one follows it; a leaf: itself
  std::int32_t split;     // column of the row << 8 | rule; 0 in a leaf

  std::int32_t feature() const noexcept { return split >> 8; }
  unsigned rule() const noexcept { return static_cast<unsigned>(split) & 0xFF; }
};

struct Forest {
  std::int32_t width = 0;    // features a row has
  std::int32_t classes = 1;  // scores a row gets; tree i adds to score i % classes
  bool average = false;      // `average_output`: Booster.predict divides by trees / classes, with raw_score it does not
  std::string objective;     // text after `objective=`
  std::vector<std::string> names;         // [width]
  std::vector<std::uint8_t> categorical;  // [width] 1 where some tree splits the feature by category

  std::vector<std::size_t> root;  // [trees] a tree's first node; below, a tree's nodes count from it
  std::vector<Splits> splits;     // [trees]
  std::vector<Node> nodes;

  std::vector<std::size_t> set_begin;  // [sets + 1] first word of a set
  std::vector<std::uint32_t> set;      // category c goes left if bit c % 32 of word c / 32 is set
};

// Reads LightGBM's model text (versions v2 to v4, LightGBM 2.1 to 4) into `forest`, which is left alone on failure.
// Allocates in proportion to `size`, whatever the text claims. Fields that do not touch the score are not looked at.
// Throws std::invalid_argument: line, field, what was found, what would be right.
void forest_parse(const char* text, std::size_t size, Forest& forest);

// Writes the raw score of row i and class k to out[i * row_step + k * class_step].
//   x    [count, width]   row i begins at x + i * stride; NaN is missing
//   out                   not overlapping x; each of count * classes cells is overwritten
// Adds leaves in double, in tree order from +0.0: Booster.predict(raw_score=True), same bits. Allocates nothing.
void forest_score(const Forest& forest, const float* x, std::ptrdiff_t stride, std::int32_t count, double* out,
                  std::ptrdiff_t row_step, std::ptrdiff_t class_step) noexcept;
void forest_score(const Forest& forest, const double* x, std::ptrdiff_t stride, std::int32_t count, double* out,
                  std::ptrdiff_t row_step, std::ptrdiff_t class_step) noexcept;

// Adds the leaves of one tree to out[i * step], for rows as above.
void forest_add_tree(const Forest& forest, std::size_t tree, const float* x, std::ptrdiff_t stride, std::int32_t count,
                     double* out, std::ptrdiff_t step) noexcept;
void forest_add_tree(const Forest& forest, std::size_t tree, const double* x, std::ptrdiff_t stride,
                     std::int32_t count, double* out, std::ptrdiff_t step) noexcept;

}  // namespace pairec
