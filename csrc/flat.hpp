// The exact search: score every row, or every allowed one, and keep the best.
#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>

#include "arena.hpp"
#include "distance.hpp"

namespace pairec {

// A score and its row in one integer: the larger key is the higher score, and of equal scores the smaller row.
using Key = std::uint64_t;

inline Key key_of(float score, std::int32_t row) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 becomes 0: they are equal, so must tie
  const auto ordered = bits ^ (bits & 0x80000000u ? 0xFFFFFFFFu : 0x80000000u);
  return static_cast<Key>(ordered) << 32 | static_cast<std::uint32_t>(~row);
}
inline std::int32_t row_of(Key key) noexcept { return static_cast<std::int32_t>(~static_cast<std::uint32_t>(key)); }
inline float score_of(Key key) noexcept {
  const auto ordered = static_cast<std::uint32_t>(key >> 32);
  return std::bit_cast<float>(ordered ^ (ordered & 0x80000000u ? 0x80000000u : 0xFFFFFFFFu));
}

// Room a Best of `size` needs: half is slack, so that a selection is paid for by as many pushes.
constexpr std::int64_t best_capacity(std::int64_t size) noexcept { return 2 * size + 64; }

// The `size` best keys pushed so far, and some that may turn out not to be: a buffer with a rising floor.
struct Best {
  Key* keys;              // [capacity], borrowed
  std::int32_t size;      // at least 1
  std::int32_t capacity;  // best_capacity(size) at least
  std::int32_t count = 0;
  Key floor = 0;  // keys at or below it are not among the best; 0 until `size` keys were selected once

  void push(Key key) noexcept {
    if (key <= floor) return;
    keys[count++] = key;
    if (count == capacity) select();
  }
  void select() noexcept {
    if (count < size) return;
    std::nth_element(keys, keys + size - 1, keys + count, std::greater<>());
    count = size;
    floor = keys[size - 1];
  }
};

// Writes the best k keys, best first. Returns how many there are: k or fewer.
std::int32_t write_best(Best& best, std::int32_t k, std::int32_t* rows, float* scores) noexcept;

struct Vectors {
  const float* data;    // [count, width], on a 64-byte line
  std::int32_t count;   // at least 1
  std::int32_t width;   // a multiple of 16
  Scorer scorer;
};

inline constexpr std::int32_t block_rows = 256;  // rows scored at a time; the scores stay in L1

// All memory a search needs, borrowed.
struct Scratch {
  std::int32_t pool_max;  // the largest k and the largest effort
  Stamps visited;         // [count]
  Key* pool;              // [best_capacity(pool_max)]
  Key* frontier;          // [best_capacity(pool_max)]
  std::int32_t* rows;     // [block_rows]
  float* scores;          // [block_rows]
};

// Writes the k nearest rows to the query, best first, equal scores by smaller row. Returns how many: min(k, allowed).
//   query [width]   prepared
//   allow [count]   only rows with a value other than 0 are returned; or null
//   rows, scores [k] out
// Requires 0 < k <= scratch.pool_max. Allocates nothing.
std::int32_t flat_search(const Vectors& vectors, const float* query, std::int32_t k, const std::uint8_t* allow,
                         Scratch& scratch, std::int32_t* rows, float* scores) noexcept;

}  // namespace pairec
