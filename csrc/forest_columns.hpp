// Rows to columns of bytes: the ranks of their numbers, and which sets their categories are outside of.
#pragma once
#include <cstddef>
#include <cstdint>

#include "forest_ranks.hpp"
#include "simd.hpp"

namespace pairec {

// Rows whose bytes fill the widest register; a block is filled by groups of them.
inline constexpr std::int32_t kGroupRows = 64;

// Writes columns [numbers' and sets', kBlockRows] for `count` <= kBlockRows rows; row i begins at x + i * stride.
// Bytes of the last group beyond `count` repeat its last row; groups beyond it are left alone.
template <typename Value>
using FillColumns = void (*)(const Ranks& ranks, const Value* x, std::ptrdiff_t stride, std::int32_t count,
                             std::uint8_t* columns) noexcept;

struct ColumnKernels {
  FillColumns<float> fill32;
  FillColumns<double> fill64;
};
ColumnKernels column_kernels(Isa level) noexcept;

// Row i of a group lies at byte place(i) of it, and byte i holds row place(i). From AVX-512 on, pairs of rows of a
// half group are transposed as a 4 x 4 matrix, so that unpacking doubles from their quarters leaves them in order.
constexpr std::int32_t place(Isa level, std::int32_t i) noexcept {
  if (level < Isa::avx512bw) return i;
  return (i & 0b100001) | (i >> 1 & 3) << 3 | (i >> 3 & 3) << 1;
}

}  // namespace pairec
