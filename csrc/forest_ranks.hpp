// A forest as bytes, made once when a model is loaded; forest_label.hpp scores with it.
//
// A feature's sorted distinct thresholds turn a value into a rank: how many of them lie below it. Then x > threshold k
// exactly when rank > k, and a split compares two bytes. Ranks above 255 are cut into pieces of 255 thresholds, a
// column of bytes each. Splits that send NaN, or zeros, elsewhere read a column in which those have another rank.
//
// A set of categories is one bit of a byte looked up by category, so eight sets that split a feature share a byte, and
// many of them a look-up of 16 bytes.
//
// A tree's leaves are numbered from left to right, and a row's label is the first leaf below the node it has reached.
// A split thus moves rows from label `from` to label `to`; parents come before children. After the last split the label
// is the leaf. Labels are bytes: a tree of more than 256 leaves is left to forest_add_tree.
#pragma once
#include <cstdint>
#include <vector>

#include "forest.hpp"

namespace pairec {

// Rows scored together: of 100 columns, half fit the first-level cache, and a tree's bytes are read once for all.
inline constexpr std::int32_t kBlockRows = 512;
// Bytes of a column are ranks less 128: the machine compares signed bytes.
inline constexpr std::int32_t kRankBias = 128;

struct Ranks {
  // A feature compared with thresholds. They are a complete binary search tree, level by level from place 1, padded
  // with infinity: begin at place 1, go `depth` times from place p to 2p + (threshold[p] < x); the rank is p - 2^depth.
  struct Number {
    std::int32_t feature, depth;
    std::size_t begin;  // of its place 0
    std::uint32_t column_begin, column_end;
  };
  struct Column {
    std::int32_t base;  // the rank its byte counts from
    std::int8_t nan, zero;
    bool is_zero_apart;  // what LightGBM takes for zero reads `zero`, not its rank
  };
  // Sets of one feature, eight a byte: `bytes` bytes for each category [0, size), then as many for all others. A set
  // bit: goes right. Byte i fills column column + i, for i < columns. A look-up takes one byte, or 16.
  struct Sets {
    std::int32_t feature;
    std::uint32_t size;
    std::size_t begin;
    std::uint32_t column, columns, bytes;
  };
  struct Split {
    std::uint32_t column;
    std::int8_t rank;  // row's byte above it: goes right
    std::uint8_t from, to;
  };
  struct Membership {  // one bit of a column of sets, spread to a column of its own while a tree is scored
    std::uint32_t column;
    std::uint8_t bit;
  };
  struct Tree {
    std::size_t split, leaf, quarter, membership;  // its first of each
    std::int32_t splits, leaves, memberships;
  };

  std::vector<Number> numbers;
  std::vector<double> threshold;   // [sum of 2^depth]
  std::vector<float> threshold32;  // rounded down: for a float32 x, x <= t exactly when x <= the largest float32 <= t
  std::vector<Column> columns;     // the numbers'; then come those of sets, then those of memberships
  std::vector<Sets> sets;
  std::vector<std::uint8_t> outside;
  std::vector<Split> splits;
  std::vector<Membership> memberships;
  std::vector<double> leaves;
  // Leaves of trees of at most 64: their lowest 16 bits, the next, ...; each [32] up to 32 leaves, else [64].
  std::vector<std::uint16_t> quarters;
  std::vector<Tree> trees;         // as many as the forest's; splits 0 and leaves 0 where there are too many leaves
  std::uint32_t membership_column = 0, columns_all = 0;
};

// Allocates in proportion to the forest, in milliseconds.
void forest_rank(const Forest& forest, Ranks& ranks);

}  // namespace pairec
