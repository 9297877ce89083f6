// What has become of a snapshot's items since it was built: which rows no longer stand for themselves.
#pragma once
#include <cstdint>

namespace pairec {

// Borrowed. One writer changes it while any number of readers look: a row's bit is set after all it leads to is
// written, and what a reader found once stays readable.
struct Overlay {
  const std::uint64_t* moved;   // [rows / 64, rounded up] a bit for each row whose item is gone or has another row now
  const std::int32_t* current;  // [rows] of a moved row: the later row of its item, or -1: gone
  const std::int32_t* first;    // [rows - base] of a row added since: the first row its item ever had
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

  // The same number for all rows of one item: the first of them. Below `base` it is the row of the snapshot's tables
  // (neighbours, aggregates) that is about it; others have none.
  std::int32_t item_of(std::int32_t row) const noexcept { return row < base ? row : first[row - base]; }
};

}  // namespace pairec
