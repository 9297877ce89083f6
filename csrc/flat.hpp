// The exact search: a scan of 8 bits a dim leaves out what cannot be among the best, the rest is scored in float.
//
// Of codes, a score is off by no more than |query - its codes| |vector| + |query's codes| |vector - its codes|, both of
// which grow with the scale of the row's codes. So the k best by float are among the rows whose score by codes, with that
// added, reaches the k-th best of those with that taken away: what is found is what a scan of all floats finds, to the
// last bit.
#pragma once
#include <algorithm>
#include <cstdint>

#include "best.hpp"
#include "blocks.hpp"
#include "distance.hpp"

namespace pairec {

struct Flat {
  std::int32_t count;
  std::int32_t width;         // lanes of a vector: a multiple of 16
  std::int32_t quads;
  bool l2;
  const float* vectors;       // [count, width], on a 64-byte line
  const std::uint8_t* codes;  // blocks of 8 bits
  const float* bias;          // [16 blocks] minus the squared length, for l2; else null
  const float* scale;         // [16 blocks] a lane of the row is scale * code, nearly
  float error;                // the longest difference between a vector and its codes, in scales of its row
  float span;                 // the longest vector, in scales of its row
  float longest;              // the longest vector
  BlockKernels blocks;
  Scorer scorer;
};

inline constexpr float scale_min = 1e-36f;  // of codes of a row that is not zero: smaller ones lose bits

inline constexpr std::int32_t rows_abreast = 256;  // scored at a time; the scores stay in L1

// Room for a pool that keeps `keep` rows: as many again before it is narrowed, and some more.
inline constexpr std::int32_t pool_spare = 512;
constexpr std::int64_t pool_room(std::int64_t keep) noexcept { return 2 * keep + pool_spare; }

// What a scan of k keeps at most. More rows than that within the bound, and all are scored in float.
constexpr std::int64_t flat_keep(std::int64_t k) noexcept { return 4 * k + 2048; }

// All memory a search needs, borrowed. `room` is what pool_room says of the most it will keep, or of all vectors there
// are, if they are fewer; and at least 2 k + 1024, or all that int32 counts.
struct Scratch {
  std::int32_t room;
  std::int8_t* query;     // codes of the query
  std::int32_t* keys;     // [room]
  std::int32_t* places;   // [room]
  std::int32_t* sums;     // [room] of integers or floats
  Best* best;             // [room]
  Best* spare;            // [room]
  std::int32_t* list;     // [lists, to whole blocks] for partitions, as are
  std::int32_t* list_key; // [lists, to whole blocks]
  std::int32_t* order;    // [lists, to whole blocks, and one]
  float* base;            // [lists, to whole blocks]
  std::int32_t* block_keys;    // [blocks + 16] for partitions, as are
  std::int32_t* block_places;  // [blocks + 16]
  std::int32_t* block_order;   // [blocks + blocks_ahead]
};

// How many of the best are kept before all but k are dropped.
inline std::int32_t best_room(std::int32_t k, const Scratch& scratch) noexcept {
  return static_cast<std::int32_t>(std::min<std::int64_t>(scratch.room, 2 * std::int64_t{k} + 1024));
}

// Writes the k best rows, best first, equal scores by smaller row. Returns how many: min(k, those that count).
//   query [width]   prepared
//   listed          null, or the places that count, `listed_count`, ascending: then only those are looked at
//   rows, scores [k] out
// Requires k > 0, and scratch.room as said there for flat_keep(k).
std::int32_t flat_search(const Flat& flat, const float* query, std::int32_t k, const Places& places,
                         const std::int32_t* listed, std::int32_t listed_count, Scratch& scratch, std::int32_t* rows,
                         float* scores) noexcept;

}  // namespace pairec
