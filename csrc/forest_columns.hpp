// Values to bytes: the ranks of numbers, and which sets categories are outside of (forest_ranks.hpp).
#pragma once
#include <cstddef>
#include <cstdint>

#include "forest_ranks.hpp"
#include "simd.hpp"

namespace pairec {

// Rows whose bytes fill the widest register; a block of kBlockRows is filled by groups of them.
inline constexpr std::int32_t kGroupRows = 64;

// A matrix of float or double; steps count values.
struct Rows {
  const void* x;
  std::ptrdiff_t row_step, column_step;
  std::int64_t count;
  bool is_double;

  double at(std::ptrdiff_t row, std::ptrdiff_t column) const noexcept {
    const std::ptrdiff_t place = row * row_step + column * column_step;
    return is_double ? static_cast<const double*>(x)[place] : double(static_cast<const float*>(x)[place]);
  }
};

// Writes a group's bytes of one feature to out + i * kBlockRows for its i-th column. Byte i is row place(i).
//   value [kGroupRows]   round down what is no float32
// Returns the rows, one bit each, whose value equals a threshold: of those, what was rounded down is not settled.
using BinNumber = std::uint64_t (*)(const Ranks& ranks, const Ranks::Number& number, const float* value,
                                    std::uint8_t* out) noexcept;
//   which [kGroupRows]   numbers of the categories
using BinCategory = void (*)(const Ranks& ranks, const Ranks::Category& category, const std::uint32_t* which,
                             std::uint8_t* out) noexcept;
// Writes all columns [columns, kBlockRows] for `count` <= kBlockRows rows from `begin` on. Bytes of the last group
// beyond `count` repeat its last row; groups beyond it are left alone.
using FillColumns = void (*)(const Ranks& ranks, const Rows& rows, std::ptrdiff_t begin, std::int32_t count,
                             std::uint8_t* columns) noexcept;

struct ColumnKernels {
  BinNumber number;
  BinCategory category;
  FillColumns fill;
};
ColumnKernels column_kernels(Isa level) noexcept;

// Writes one row's bytes [columns].
void fill_row(const Ranks& ranks, const Rows& rows, std::ptrdiff_t row, std::uint8_t* bytes) noexcept;

// The bytes of one number, or one category, of a row.
void bin_number(const Ranks& ranks, const Ranks::Number& number, double value, std::uint8_t* out,
                std::ptrdiff_t step) noexcept;
void bin_category(const Ranks& ranks, const Ranks::Category& category, std::uint32_t which, std::uint8_t* out) noexcept;

// The number of the category that `value` is; see Ranks::Category.
std::uint32_t category_number(const Ranks& ranks, const Ranks::Category& category, double value) noexcept;

// Row i of a group lies at byte place(i) of it, and byte i holds row place(i). From AVX-512 on, pairs of rows of a
// half group are transposed as a 4 x 4 matrix, so that unpacking doubles from their quarters leaves them in order.
constexpr std::int32_t place(Isa level, std::int32_t i) noexcept {
  if (level < Isa::avx512bw) return i;
  return (i & 0b100001) | (i >> 1 & 3) << 3 | (i >> 3 & 3) << 1;
}

}  // namespace pairec
