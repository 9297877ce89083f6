// Sixteen vectors side by side: what a scan reads, in the order in which it reads it.
//
// A block holds the codes of 16 vectors, so that one instruction meets four dims of all of them and no sum runs across
// a register. Dims are taken in fours, called quads; their number is even.
//   8 bits   [quads][16 lanes][4 dims] uint8: a code from -127 to 127, plus 128; 128 beyond dim
//   4 bits   [quads / 2][16 lanes][4 dims] uint8: the low nibble is of quad 2 i, the high one of quad 2 i + 1, 0 to 15
//
// A dot is a sum of integers and fits int32; scores are (dot * scale + base) * weight + bias, or as mixed4 says, in float,
// unfused. So all levels of SIMD give the same bits: test_index.py, "every level gives the same bits".
#pragma once
#include <cstdint>

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

// What a scan found, in the order of places.
struct Pool {
  std::int32_t* keys;    // [capacity] ordered scores
  std::int32_t* places;  // [capacity]
  std::int32_t capacity;
  std::int32_t count;
};

inline constexpr std::int32_t run_blocks = 16;
inline constexpr std::int32_t run_room = (run_blocks + 1) * block_lanes;  // in the pool: a run's rows, and a register

// Up to run_blocks blocks.
struct Run {
  const std::uint8_t* codes;   // of all blocks
  const std::int32_t* block;   // [count] which ones
  const std::int32_t* ahead;   // [count] and which are asked for meanwhile
  const std::uint16_t* lanes;  // [count] a bit for each lane that counts
  std::int32_t count;
  float scale, base;
  const float* weight;         // null, or by place: multiplies the score
  const float* bias;           // null, or by place: added to it last
  std::int32_t floor;          // rows with a key below it may be left out
};

// Whole blocks whose lanes are means of vectors.
struct Centres {
  const std::uint8_t* codes;
  std::int32_t blocks, first;
  float scale, base, deviations;  // a key is of (dot * scale + base) + (deviations * spread - square)
  const float* spread;            // [16 blocks]
  const float* square;            // [16 blocks]
  float* scores;                  // null, or [16 blocks] out: dot * scale + base
};

// Residuals of 4 bits whose lists differ from lane to lane. All [16 blocks].
struct Mixed {
  const std::uint8_t* codes;
  const float* scale;          // of the lane's list, as is its number
  const std::uint16_t* list;
  const float* bias;           // null, or added to the score
};

struct BlockKernels {
  // Writes what centres of 8 or 4 bits promise, and numbers from centres.first on.  keys, numbers [16 blocks]
  void (*promise8)(const Codes& codes, const Centres& centres, std::int32_t* keys, std::int32_t* numbers) noexcept;
  void (*promise4)(const Codes& codes, const Centres& centres, std::int32_t* keys, std::int32_t* numbers) noexcept;
  // Appends the rows of a run to the pool, which has run_room.
  void (*scan8)(const Codes& codes, const Run& run, Pool& pool) noexcept;
  void (*scan4)(const Codes& codes, const Run& run, Pool& pool) noexcept;
  // Writes the keys of `count` blocks from `block` on: of (dot - 7.5 * sum of the query) * (unit * scale) + base[list] + bias.
  //   keys [16 count]
  void (*mixed4)(const Codes& codes, const Mixed& mixed, std::int32_t block, std::int32_t count, float unit,
                 const float* base, std::int32_t* keys) noexcept;
  // Leaves in the pool the rows that reach `floor`, in their order.
  void (*narrow)(Pool& pool, std::int32_t floor) noexcept;
  // A floor that rows of a total weight of `wanted` reach, and, ties aside, of at most `wanted + slack`.
  //   weights [pool.count]   positive, their sum at least `wanted` and within int32; or null, for 1 each
  std::int32_t (*floor_of)(const Pool& pool, const std::int32_t* weights, std::int32_t wanted,
                           std::int32_t slack) noexcept;
};

// Which places count: bits of a live set, of an allowed set if there is one, without those of a denied set if there is
// one; each has one uint16 a block.
struct Places {
  const std::uint16_t* live;
  const std::uint16_t* allow;  // or null
  const std::uint16_t* deny;   // or null

  // The lanes of `count` blocks from `block` on, at most run_blocks; composed in `room` [run_blocks] if need be.
  const std::uint16_t* lanes(std::int32_t block, std::int32_t count, std::uint16_t* room) const noexcept {
    if (allow == nullptr && deny == nullptr) return live + block;
    for (std::int32_t i = 0; i < count; ++i) {
      unsigned bits = live[block + i];
      if (allow != nullptr) bits &= allow[block + i];
      if (deny != nullptr) bits &= ~static_cast<unsigned>(deny[block + i]);
      room[i] = static_cast<std::uint16_t>(bits);
    }
    return room;
  }
  // Where `live` may be null, too.
  bool has(std::int32_t place) const noexcept {
    const std::int32_t block = place / block_lanes, lane = place % block_lanes;
    return (live == nullptr || (live[block] >> lane & 1)) && (allow == nullptr || (allow[block] >> lane & 1)) &&
           (deny == nullptr || !(deny[block] >> lane & 1));
  }
};

// At the active level of SIMD. Throws std::invalid_argument for a PAIREC_ISA that cannot be had. Called at load.
BlockKernels block_kernels();

}  // namespace pairec
