// What a scan reads of the rows that a filter allows, and of them alone.
//
// Where one row in ten is allowed, hardly a block of a partition has none: a scan would read them all. An excerpt holds
// the same codes of 4 bits packed anew, lists one after another without a gap, so that a block's lanes may be of several.
#pragma once
#include <cstdint>

#include "blocks.hpp"

namespace pairec {

struct Partition;

struct Excerpt {
  std::int32_t count;
  std::int32_t blocks;         // of the partition that hold one of its rows,
  const std::int32_t* size;    // [lists] and so many of each list
  const std::int32_t* first;   // [lists + 1] where the rows of a list begin
  const std::uint8_t* codes;
  const std::uint16_t* lanes;  // [blocks of the excerpt] a bit for each that holds a row
  // [16 blocks of the excerpt], by lane:
  const std::int32_t* place;   // in the partition
  const float* scale;          // of its list,
  const std::uint16_t* list;   // whose number this is
  const float* bias;           // null, or as the partition's
};

// Counts blocks, and writes the arrays, of an excerpt of `places` [excerpt.count], ascending, each of a row. They are zero before.
void extract(const Partition& partition, const std::int32_t* places, Excerpt& excerpt) noexcept;

}  // namespace pairec
