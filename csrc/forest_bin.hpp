// One feature of a group of rows: values to bytes, at every level of SIMD. Behind forest_columns.hpp.
#pragma once
#include <algorithm>
#include <cmath>

#include "forest_columns.hpp"

namespace pairec {

inline constexpr float kZeroEdge = 1e-35f;  // kZero as a float32

BinNumber number_kernel(Isa level) noexcept;
BinCategory category_kernel(Isa level) noexcept;

[[gnu::always_inline]] inline std::uint8_t rank_byte(const Ranks::Piece& piece, std::int32_t rank,
                                                     double value) noexcept {
  std::int32_t byte = std::clamp(rank - piece.base, 0, kPiece) - kRankBias;
  if (piece.is_zero_apart) byte = std::fabs(value) <= kZero ? piece.zero : byte;
  return static_cast<std::uint8_t>(value != value ? piece.nan : byte);
}

}  // namespace pairec
