// A forest as bytes: one aligned, checksummed block, made once from a model's trees, written to a file and mapped.
//
// A feature's sorted distinct thresholds turn a value into a rank: how many of them lie below it. Then x > threshold k
// exactly when rank > k, and a split compares two bytes. Ranks above 255 are cut into pieces of 255 thresholds, a
// column of bytes each. Splits that send NaN, or zeros, elsewhere read a column in which those have another rank.
//
// Categories that are in the same sets have one number. Whether a number is in a set is one bit, and eight sets of a
// feature share a byte. So every split is alike, for a row's byte in `column`:
//   goes right if int8(byte & mask) > rank
// with all bits of the mask set for ranks, which are stored less 128, and one of them for a set.
//
// A tree's leaves are numbered from left to right, and a row's label is the first leaf below the node it has reached.
// A split thus moves rows from label `from` to label `to`; parents come before children. After the last split the label
// is the leaf. Labels are bytes: a tree of more than 256 leaves is walked (forest_walk.hpp).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "forest.hpp"

namespace pairec {

// Rows scored together: of 100 columns, half fit the first-level cache, and a tree's bytes are read once for all.
inline constexpr std::int32_t kBlockRows = 512;
inline constexpr std::int32_t kRankBias = 128;
inline constexpr std::int32_t kPiece = 255;      // thresholds of a column
inline constexpr std::int32_t kLabelsMax = 256;  // leaves of a tree that is labelled
inline constexpr std::uint32_t kTableColumns = 16;

// Bytes of a column of Ranks::turned.
constexpr std::uint32_t turned_bytes(std::uint32_t numbers) noexcept {
  return numbers <= 64 ? 64 : numbers <= 128 ? 128 : 256;
}

// Memory on a 64-byte line.
struct alignas(64) Line {
  std::uint8_t byte[64];
};

struct Ranks {
  // A feature compared with thresholds. They are a complete binary search tree, level by level from place 1, padded
  // with infinity: begin at place 1, go `depth` times from place p to 2p + (threshold[p] < x); the rank is p - 2^depth.
  struct Number {
    std::uint64_t begin;  // of its place 0
    std::int32_t feature, depth;
    std::uint32_t column, columns;
  };
  struct Piece {  // a column of a number
    std::int32_t base;  // the rank its byte counts from
    std::int8_t nan, zero;
    std::uint8_t is_zero_apart, unused;  // what LightGBM takes for zero reads `zero`, not its rank
  };
  // A feature looked up in sets. Category c < size has the number in place id_begin + c * id_bytes of `ids`; all others
  // have 0, and NaN has 1. Tables of 16 bytes a number, one for every 16 columns, lie from table_begin. Up to 256
  // numbers, the same is there by columns, of 64, 128 or 256 bytes each, from turned_begin.
  struct Category {
    std::uint64_t id_begin, table_begin, turned_begin;
    std::int32_t feature;
    std::uint32_t size, id_bytes, numbers, column, columns;
  };
  struct Step {  // a split as it is walked: children count from the tree's first, or are ~leaf
    std::uint16_t column;
    std::uint8_t mask;
    std::int8_t rank;
    std::int32_t next[2];
  };
  struct Tree {
    std::uint32_t split, step, leaf, plane;  // its first of each
    std::uint32_t leaves;
    std::uint16_t is_labelled, is_masked;  // it has splits from split on; some of them are by category
  };

  std::int32_t width = 0, classes = 1;
  bool average = false, is_single = false;
  std::uint32_t columns = 0;  // bytes of a row
  std::string_view texts;     // objective and names, each followed by a line feed

  std::span<const double> base;
  std::span<const std::uint8_t> categorical;
  std::span<const Number> numbers;
  std::span<const double> threshold;   // [sum of 2^depth]
  std::span<const float> threshold32;  // rounded down: a float32 is <= t exactly when it is <= the float32 below t
  std::span<const Piece> pieces;       // of the numbers' columns, which come first
  std::span<const Category> categories;
  std::span<const std::uint8_t> ids, tables, turned;
  std::span<const std::int32_t> feature;  // [columns] whose column it is

  std::span<const std::uint16_t> column;
  std::span<const std::uint8_t> mask;
  std::span<const std::int8_t> rank;
  std::span<const std::uint8_t> from, to, last;  // last: leaf below the split
  std::span<const Step> steps;
  std::span<const double> leaves;
  std::span<const std::int32_t> number;  // [leaves] in the maker's order
  // Leaves in parts, for look-ups in registers. Up to 32 leaves: their lowest 16 bits, the next, ..., each [32]; up to
  // 64 likewise, each [64]; up to 256: their lowest 8 bits, the next, ..., each [128] or [256].
  std::span<const std::uint8_t> planes;
  std::span<const double> step_cover, leaf_cover;
  std::span<const Tree> trees;
};

// Compiles in milliseconds; allocates in proportion to the forest. Throws std::invalid_argument where a limit of the
// bytes is passed: 65,536 columns.
std::vector<Line> forest_compile(const Forest& forest);

// The forest in `bytes`, 64-byte aligned, which must outlive it. Throws std::invalid_argument for what forest_compile
// did not write: a file of another kind or version, cut short, or damaged.
Ranks forest_view(const void* bytes, std::size_t size);

// True where the bytes are meant to be a compiled forest.
bool is_compiled(const void* bytes, std::size_t size) noexcept;

}  // namespace pairec
