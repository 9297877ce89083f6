// Search by partitions: vectors lie in lists around centroids, near ones of a list in one block; of the lists that
// promise most, a query scans the blocks that do.
//
// A block promises what the mean of its vectors does, its centre, whose residual has 4 bits too. Then three passes, each
// over fewer rows with more bits: residuals of 4 bits, scanned in blocks; of 8 bits, a line a row; of 16 bits, one line
// more. A score is (query, centroid) in float, plus (query, residual) by codes. For squared
// distances both are doubled and the squared lengths taken away.
//
// A place is a position in the order of the lists, each of which begins a new block; the rows of a block ascend.
#pragma once
#include <cstdint>

#include "excerpt.hpp"
#include "flat.hpp"
#include "rows.hpp"

namespace pairec {

inline constexpr std::int32_t lists_max = 65'535;

struct Partition {
  std::int32_t lists;
  std::int32_t width;                  // lanes of a centroid: a multiple of 16
  std::int32_t quads;
  std::int32_t row_bytes;              // of a plane: a multiple of 32
  bool l2;
  float keep;                          // k times so many rows pass from 4 bits to 8
  float breadth;                       // lists are looked at that hold so many times the vectors to be scanned
  float reach;                         // lists and blocks are ordered by score + reach * |query| * spread
  float stop;                          // recall mode: a block is left out whose score + stop * |query| * spread is too low
  const float* centroids;              // [lists, width]
  const std::uint8_t* centroid_codes;  // blocks of 8 bits
  float centroid_scale;
  const float* spread;                 // [lists] root mean square of a residual's dim
  const float* square;                 // [lists] l2: mean squared length of its vectors; else 0
  const std::int32_t* block;           // [lists + 1] the first of each list
  const std::int32_t* size;            // [lists] in blocks
  const std::uint16_t* list;           // [blocks] whose it is
  const std::uint8_t* centre_codes;    // blocks of 4 bits, of each list's blocks in order
  const std::int32_t* centre;          // [lists + 1] the first of those of each list
  const float* centre_scale;           // [lists] a centre is the centroid plus centre_scale * (code - 7.5), about
  const float* block_spread;           // [blocks] as spread,
  const float* block_square;           // [blocks] and square
  const float* scale4;                 // [lists] a residual is scale4 * (code - 7.5), about,
  const float* scale8;                 // [lists] and scale8 * (high + low / 256), nearly
  const std::uint8_t* codes;           // [blocks] of 4 bits
  const std::int8_t* rows;             // [16 blocks, 2, row_bytes] high plane and low plane
  const float* bias;                   // [16 blocks] minus the squared length, for l2; else null
  const std::int32_t* row;             // [16 blocks] -1 where there is none
  BlockKernels blocks;
  RowKernels kernels;
  Scorer scorer;                       // inner products, whatever the metric
};

// Rows a first pass keeps for k.
constexpr std::int64_t partition_keep(const Partition& partition, std::int64_t k) noexcept {
  return static_cast<std::int64_t>(partition.keep * static_cast<float>(k)) + 64;
}

// Writes the k best rows found, best first, equal scores by smaller row. Returns how many.
//   query [width]   prepared
//   vectors         to scan, those of whole blocks; if `adaptive`, half of it, and then as many as it takes, by
//                   partition.stop, up to four times as many
//   excerpt         null, or of the rows that are allowed: then `vectors` counts blocks that hold one of them, and whole
//                   lists are scanned, in the excerpt; if `adaptive`, four times as many
//   listed          null, or the places that count, `listed_count`, ascending: then all of those are looked at
//   rows, scores [k] out
// Requires k > 0, and scratch.room as said in flat.hpp for partition_keep(partition, k).
std::int32_t partition_search(const Partition& partition, const float* query, std::int32_t k, std::int64_t vectors,
                              bool adaptive, const Places& places, const Excerpt* excerpt,
                              const std::int32_t* listed, std::int32_t listed_count, Scratch& scratch,
                              std::int32_t* rows, float* scores) noexcept;

}  // namespace pairec
