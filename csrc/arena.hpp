// The table of candidates of one request: borrowed pointers to its columns, and their capacities.
//
// One owner (core/arena.pyx) allocates all columns at once, on 64-byte lines; kernels borrow them for the length of a
// call. `count` slots live; what lies beyond is garbage.
#pragma once
#include <cstdint>
#include <cstring>

#include "overlay.hpp"

namespace pairec {

// A set over item rows that empties in one increment. Size is known to the owner; rows are not checked.
struct Stamps {
  std::uint32_t* stamp;  // [size]
  std::uint32_t now;     // a row is in the set when its stamp equals this; never 0
  std::int32_t size;

  void clear() noexcept {
    if (++now != 0) return;
    std::memset(stamp, 0, sizeof(*stamp) * static_cast<std::size_t>(size));  // once in four billion requests
    now = 1;
  }
  bool contains(std::int32_t row) const noexcept { return stamp[row] == now; }
  // True when `row` was not in the set before.
  bool insert(std::int32_t row) noexcept {
    if (stamp[row] == now) return false;
    stamp[row] = now;
    return true;
  }
};

// True when all of `rows` [count] lie in [0, end). Branch-free: a row outside sets the sign bit of either term.
inline bool rows_within(const std::int32_t* rows, std::int64_t count, std::int32_t end) noexcept {
  const std::uint32_t last = static_cast<std::uint32_t>(end) - 1u;
  std::uint32_t outside = end > 0 || count == 0 ? 0u : 0x80000000u;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto row = static_cast<std::uint32_t>(rows[i]);
    outside |= row | (last - row);
  }
  return outside >> 31 == 0;
}

struct Arena {
  std::int32_t candidates_max;
  std::int32_t items_max;
  std::int32_t width;  // features per candidate
  std::int32_t algos;  // columns of algo_score
  std::int32_t count;        // live slots
  std::int32_t order_count;  // live entries of order

  bool repeats;  // recall keeps an item once for each recall that brings it, not once for all
  bool scored;   // score and algo_score live, and go with their slot

  std::int32_t* row;      // [candidates_max] position in the snapshot's item table
  std::uint8_t* source;   // [candidates_max] which recall
  std::int32_t* place;    // [candidates_max] the slot that recall put it into: what a request knows of it lies there
  double* recall_score;   // [candidates_max]
  std::uint8_t* keep;     // [candidates_max] filters clear it, compact reads it
  float* features;        // [width, candidates_max] a column a feature, what the forest reads
  double* algo_score;     // [algos, candidates_max] one column per algorithm output
  double* score;          // [candidates_max]
  std::int32_t* order;    // [candidates_max] slots, best first
  std::int32_t* spare;    // [candidates_max] scratch for reordering
  double* scratch;        // [candidates_max] the same, of the widest column
  Stamps seen;            // [items_max] items that are candidates already, as overlay.item_of says
  Stamps mark;            // [items_max] scratch set: exposures, rows touched by an accumulation
  double* sum;            // [items_max] scratch, valid where `mark` holds
  std::int32_t* touched;  // [items_max] scratch: rows in the order they were marked
  Overlay overlay;        // over items_max rows: which of them no longer stand for themselves
};

}  // namespace pairec
