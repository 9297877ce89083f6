// Sixteen vectors side by side: what a scan reads, in the order in which it reads it.
//
// A block holds the codes of 16 vectors, so that one instruction meets four dims of all of them and no sum runs across
// a register. Dims are taken in fours, called quads; their number is even.
//   8 bits   [quads][16 lanes][4 dims] uint8: a code from -127 to 127, plus 128; 128 beyond dim
//   4 bits   [quads / 2][16 lanes][4 dims] uint8: the low nibble is of quad 2 i, the high one of quad 2 i + 1, 0 to 15
//
// A dot is a sum of integers and fits int32. A score is computed from it in float, unfused, so that all levels of SIMD
// give the same bits: test_index.py, "every level gives the same bits".
//   8 bits   (dot * unit + base) * scale[place] + bias[place]
//   4 bits   (dot - middle) * (unit * scale[list]) + base[list] + bias[place]
#pragma once
#include <cstdint>

#include "pool.hpp"

namespace pairec {

inline constexpr std::int32_t block_lanes = 16;

struct Codes {
  const std::int8_t* query;  // [4 quads] -127 to 127, 0 beyond dim
  std::int32_t quads;
  std::int32_t sum;          // of the query's codes
  float unit;                // what a code of 1 is worth
};

// The query in 127ths of its largest lane.
//   query [width]   float32, finite
//   room [max(4 quads, bytes)]  out: its codes, then zeros
Codes quantise(const float* query, std::int32_t width, std::int32_t quads, std::int32_t bytes,
               std::int8_t* room) noexcept;

// Which places count: bits of a live set, of an allowed set if there is one, without those of a denied set if there is
// one; each has one uint16 a block.
struct Places {
  const std::uint16_t* live;
  const std::uint16_t* allow;  // or null
  const std::uint16_t* deny;   // or null

  unsigned lanes(std::int32_t block) const noexcept {
    unsigned bits = live[block];
    if (allow != nullptr) bits &= allow[block];
    if (deny != nullptr) bits &= ~static_cast<unsigned>(deny[block]);
    return bits;
  }
  // Where `live` may be null, too.
  bool has(std::int32_t place) const noexcept {
    const std::int32_t block = place / block_lanes, lane = place % block_lanes;
    return (live == nullptr || (live[block] >> lane & 1)) && (allow == nullptr || (allow[block] >> lane & 1)) &&
           (deny == nullptr || !(deny[block] >> lane & 1));
  }
};

inline constexpr std::int32_t blocks_ahead = 32;  // of a scan, at most, whose codes are asked for

struct Scan {
  const std::uint8_t* codes;   // of all blocks
  const std::int32_t* block;   // [count + blocks_ahead] which ones, and what may follow
  std::int32_t count;
  std::int32_t floor;          // rows with a key below it are left out
  Places places;
  float unit;
  float base;                  // of 8 bits
  float middle;                // of 4 bits: 7.5 times the sum of the query's codes
  const float* scale;          // by place; of 4 bits by list
  const float* bases;          // of 4 bits, by list
  const std::uint16_t* list;   // of 4 bits, by block
  const float* bias;           // by place; or null, for 0
};

// The same of an excerpt: there `scale` and `list` are by lane, and lanes have places of their own.
struct Mixed : Scan {
  const std::int32_t* place;
};

// Blocks whose lanes are means of vectors, numbered, in lists: each list begins a block.
struct Centres {
  const std::uint8_t* codes;
  const std::int32_t* block;   // [lists + 1] the first of a list
  const std::int32_t* first;   // [lists + 1] and the number of its first lane
  const float* scale;          // [lists]
  const float* base;           // [lists]
  float unit, middle, deviations;
  const float* spread;         // by number
  const float* square;         // by number
  float* scores;               // null, or by number, out: (dot - middle) * (unit * scale) + base
};

struct BlockKernels : PoolKernels {
  // Writes what the centres of some lists promise, their score + deviations * spread - square, and their numbers.
  // Returns how many.   keys, numbers [so many, and 16]
  std::int32_t (*promise8)(const Codes& codes, const Centres& centres, const std::int32_t* lists, std::int32_t count,
                           std::int32_t* keys, std::int32_t* numbers) noexcept;
  std::int32_t (*promise4)(const Codes& codes, const Centres& centres, const std::int32_t* lists, std::int32_t count,
                           std::int32_t* keys, std::int32_t* numbers) noexcept;
  // Appends the rows that count and reach the floor to the pool, until it has no room for a block. Returns how many
  // blocks it came by.
  std::int32_t (*scan8)(const Codes& codes, const Scan& scan, Pool& pool) noexcept;
  std::int32_t (*scan4)(const Codes& codes, const Scan& scan, Pool& pool) noexcept;
  std::int32_t (*mixed4)(const Codes& codes, const Mixed& scan, Pool& pool) noexcept;
};

// At the active level of SIMD. Throws std::invalid_argument for a PAIREC_ISA that cannot be had. Called at load.
BlockKernels block_kernels();

}  // namespace pairec
