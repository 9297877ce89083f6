// A matrix of bytes in registers, turned.
#pragma once
#include <cstdint>

namespace pairec {

typedef std::uint8_t Bytes16 __attribute__((vector_size(16), may_alias));

// 16 x 16: four times, the upper half of the rows is interleaved with the lower.
[[gnu::always_inline]] inline void transpose_16(Bytes16* row) noexcept {
  Bytes16 next[16];
#pragma GCC unroll 4
  for (int step = 0; step < 4; ++step) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const Bytes16 low = row[i], high = row[i + 8];
      next[2 * i] = __builtin_shufflevector(low, high, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      next[2 * i + 1] =
          __builtin_shufflevector(low, high, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) row[i] = next[i];
  }
}

}  // namespace pairec
