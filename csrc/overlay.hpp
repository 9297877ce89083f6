// What has become of a snapshot's items since it was built: which rows no longer stand for themselves.
#pragma once
#include <cstdint>

namespace pairec {

// Borrowed. One writer changes it while any number of readers look: a row's bit is set after all it leads to is
// written, and what a reader found once stays readable.
struct Overlay {
  const std::uint64_t* moved;   // [rows / 64, rounded up] a bit for each row whose item is gone or has another row now
  const std::int32_t* current;  // [rows] of a moved row: the later row of its item, or -1: gone
  const std::int32_t* origin;   // [rows - base] of a row added since: the row that had its id in the base, or -1
  std::int32_t base;            // rows of the snapshot's tables; those added since follow
  std::int32_t rows;            // how many there may be

  // The row that stands for the item of `row` now, or -1. Ends: `current` only ever leads to later rows.
  std::int32_t resolve(std::int32_t row) const noexcept {
    while (__atomic_load_n(moved + (row >> 6), __ATOMIC_ACQUIRE) >> (row & 63) & 1) {
      row = __atomic_load_n(current + row, __ATOMIC_RELAXED);
      if (row < 0) return -1;
    }
    return row;
  }

  // The row of the snapshot's tables (neighbours, aggregates) that is about the item of `row`, or -1.
  std::int32_t base_of(std::int32_t row) const noexcept { return row < base ? row : origin[row - base]; }
};

}  // namespace pairec
