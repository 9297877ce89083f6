#include "forest_columns.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "target.hpp"
#include "transpose.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::ptrdiff_t;
using std::size_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

constexpr float kZeroEdge = 1e-35f;
constexpr int32_t kStrip = 16;  // features turned from rows to columns together

[[gnu::always_inline]] inline uint8_t rank_byte(const Ranks::Piece& piece, int32_t rank, double value) noexcept {
  int32_t byte = std::clamp(rank - piece.base, 0, kPiece) - kRankBias;
  if (piece.is_zero_apart) byte = std::fabs(value) <= kZero ? piece.zero : byte;
  return static_cast<uint8_t>(value != value ? piece.nan : byte);
}

// The largest float32 that is not above: bit patterns of floats of one sign rise with their size.
[[gnu::always_inline]] inline float rounded_down(double value) noexcept {
  const auto near = static_cast<float>(value);
  const auto bits = std::bit_cast<int32_t>(near);
  return std::bit_cast<float>(double(near) > value ? bits + (bits < 0 ? 1 : -1) : bits);
}
[[gnu::always_inline]] inline float rounded_down(float value) noexcept { return value; }

typedef float Quad __attribute__((vector_size(16), may_alias));

// Four rows of four to four columns of four.
[[gnu::always_inline]] inline void transpose(const float* from, ptrdiff_t from_step, float* to, ptrdiff_t to_step) {
  Quad row[4], half[4];
#pragma GCC unroll 4
  for (int32_t i = 0; i < 4; ++i) std::memcpy(&row[i], from + i * from_step, sizeof row[i]);
  half[0] = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  half[1] = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  half[2] = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  half[3] = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  row[0] = __builtin_shufflevector(half[0], half[1], 0, 1, 4, 5);
  row[1] = __builtin_shufflevector(half[0], half[1], 2, 3, 6, 7);
  row[2] = __builtin_shufflevector(half[2], half[3], 0, 1, 4, 5);
  row[3] = __builtin_shufflevector(half[2], half[3], 2, 3, 6, 7);
#pragma GCC unroll 4
  for (int32_t i = 0; i < 4; ++i) std::memcpy(to + i * to_step, &row[i], sizeof row[i]);
}

// Byte i of a group becomes row place(i): pairs of bytes change places.
template <Isa kLevel>
[[gnu::always_inline]] inline void put_in_place(uint8_t* out) noexcept {
  if constexpr (kLevel >= Isa::avx512bw) {
    std::uint16_t pair[kGroupRows / 2], moved[kGroupRows / 2];
    std::memcpy(pair, out, sizeof pair);
    for (int32_t i = 0; i < kGroupRows / 2; ++i) moved[i] = pair[place(kLevel, 2 * i) / 2];
    std::memcpy(out, moved, sizeof moved);
  }
}

// The bytes of a group from its ranks, column by column.
template <Isa kLevel>
[[gnu::always_inline]] inline void put_ranks(const Ranks& ranks, const Ranks::Number& number, const int32_t* rank,
                                             const float* value, uint8_t* out) noexcept {
  for (uint32_t at = 0; at < number.columns; ++at, out += kBlockRows) {
    const Ranks::Piece piece = ranks.pieces[number.column + at];
    if (piece.is_zero_apart) {
      for (int32_t i = 0; i < kGroupRows; ++i) out[i] = rank_byte(piece, rank[i], double(value[i]));
    } else {
      for (int32_t i = 0; i < kGroupRows; ++i) {
        const int32_t byte = std::clamp(rank[i] - piece.base, 0, kPiece) - kRankBias;
        out[i] = static_cast<uint8_t>(value[i] != value[i] ? piece.nan : byte);
      }
    }
    put_in_place<kLevel>(out);
  }
}

// Level by level for all values, so that they wait for memory together.
[[gnu::always_inline]] inline uint64_t find_ranks(const float* threshold, int32_t depth, const float* value,
                                                  int32_t* rank) noexcept {
  uint8_t equal[kGroupRows] = {};
  for (int32_t i = 0; i < kGroupRows; ++i) rank[i] = 1;
  for (int32_t level = 0; level < depth; ++level) {
    for (int32_t i = 0; i < kGroupRows; ++i) {
      const float limit = threshold[rank[i]];
      equal[i] |= uint8_t(limit == value[i]);
      rank[i] = 2 * rank[i] + int32_t(limit < value[i]);
    }
  }
  for (int32_t i = 0; i < kGroupRows; ++i) rank[i] -= 1 << depth;
  uint64_t rows = 0;
  for (int32_t i = 0; i < kGroupRows; ++i) rows |= uint64_t(equal[i]) << i;
  return rows;
}

using FindRanks = uint64_t (*)(const float* threshold, int32_t depth, const float* value, int32_t* rank) noexcept;

template <Isa kLevel>
[[gnu::always_inline]] inline uint64_t number(const Ranks& ranks, const Ranks::Number& number, const float* value,
                                              uint8_t* out, FindRanks find) noexcept {
  // What is known of who asks is the same in all rows.
  if (std::memcmp(value, value + 1, (kGroupRows - 1) * sizeof *value) == 0) {
    uint8_t one[1];
    uint64_t is_equal = 0;
    const float* threshold = ranks.threshold32.data() + number.begin;
    size_t at = 1;
    for (int32_t level = 0; level < number.depth; ++level) {
      is_equal |= uint64_t(threshold[at] == value[0]);
      at = 2 * at + size_t(threshold[at] < value[0]);
    }
    const auto rank = int32_t(at - (size_t(1) << number.depth));
    for (uint32_t i = 0; i < number.columns; ++i, out += kBlockRows) {
      one[0] = rank_byte(ranks.pieces[number.column + i], rank, double(value[0]));
      std::memset(out, one[0], kGroupRows);
    }
    return is_equal ? ~uint64_t(0) : 0;
  }
  alignas(64) int32_t rank[kGroupRows];
  const uint64_t rows = find(ranks.threshold32.data() + number.begin, number.depth, value, rank);
  put_ranks<kLevel>(ranks, number, rank, value, out);
  return rows;
}

// Looks up 16 bytes for each of 16 rows and transposes them.
template <Isa kLevel>
[[gnu::always_inline]] inline void category(const Ranks& ranks, const Ranks::Category& it, const uint32_t* which,
                                            uint8_t* out) noexcept {
  const uint8_t* table = ranks.tables.data() + it.table_begin;
  for (uint32_t begin = 0; begin < it.columns; begin += kTableColumns) {
    const uint32_t columns = std::min(it.columns - begin, kTableColumns);
    for (int32_t group = 0; group < kGroupRows; group += 16) {
      Bytes16 row[16];
#pragma GCC unroll 16
      for (int32_t i = 0; i < 16; ++i) {
        std::memcpy(&row[i], table + size_t(which[place(kLevel, group + i)]) * kTableColumns, sizeof row[i]);
      }
      transpose_16(row);
      for (uint32_t i = 0; i < columns; ++i) {
        std::memcpy(out + size_t(begin + i) * kBlockRows + size_t(group), &row[i], sizeof row[i]);
      }
    }
    table += size_t(it.numbers) * kTableColumns;
  }
}

// A strip of features of a group, as columns of float32. Rows beyond the last repeat it.
template <typename Value>
[[gnu::always_inline]] inline void turn(const Rows& rows, ptrdiff_t begin, int32_t count, int32_t first, int32_t width,
                                        float (*strip)[kGroupRows]) noexcept {
  const auto* x = static_cast<const Value*>(rows.x) + begin * rows.row_step + first * rows.column_step;
  if (rows.row_step == 1) {
    for (int32_t j = 0; j < width; ++j, x += rows.column_step) {
      for (int32_t i = 0; i < count; ++i) strip[j][i] = rounded_down(x[i]);
    }
  } else {
    alignas(64) float near[kGroupRows][kStrip];
    for (int32_t i = 0; i < count; ++i, x += rows.row_step) {
      if (rows.column_step == 1 && width == kStrip) {
        for (int32_t j = 0; j < kStrip; ++j) near[i][j] = rounded_down(x[j]);
      } else {
        for (int32_t j = 0; j < width; ++j) near[i][j] = rounded_down(x[j * rows.column_step]);
      }
    }
    for (int32_t i = 0; i < count; i += 4) {
      for (int32_t j = 0; j < width; j += 4) transpose(near[i] + j, kStrip, strip[j] + i, kGroupRows);
    }
  }
  for (int32_t j = 0; count < kGroupRows && j < width; ++j) {
    std::fill(strip[j] + count, strip[j] + kGroupRows, strip[j][count - 1]);
  }
}

template <Isa kLevel>
[[gnu::always_inline]] inline void fill(const Ranks& ranks, const Rows& rows, ptrdiff_t begin, int32_t count,
                                        uint8_t* columns, BinNumber bin, BinCategory look_up) noexcept {
  for (int32_t group = 0; group < count; group += kGroupRows, columns += kGroupRows) {
    const ptrdiff_t first = begin + group;
    const int32_t here = std::min(kGroupRows, count - group);
    alignas(64) float strip[kStrip][kGroupRows];
    int32_t turned = -1;  // which strip
    for (const Ranks::Number& it : ranks.numbers) {
      if (it.feature / kStrip != turned) {
        turned = it.feature / kStrip;
        const int32_t width = std::min(kStrip, ranks.width - turned * kStrip);
        const auto act = rows.is_double ? turn<double> : turn<float>;
        act(rows, first, here, turned * kStrip, width, strip);
      }
      const float* value = strip[it.feature % kStrip];
      uint8_t* out = columns + size_t(it.column) * kBlockRows;
      uint64_t unsettled = bin(ranks, it, value, out);
      if (!rows.is_double) continue;
      if (ranks.pieces[it.column].is_zero_apart) {  // what is just above the edge was rounded down to it
        for (int32_t i = 0; i < kGroupRows; ++i) unsettled |= uint64_t(value[i] == kZeroEdge) << i;
      }
      for (; unsettled != 0; unsettled &= unsettled - 1) {
        const int32_t row = std::countr_zero(unsettled);
        const double exact = rows.at(first + std::min(row, here - 1), it.feature);
        bin_number(ranks, it, exact, out + place(kLevel, row), kBlockRows);
      }
    }
    for (const Ranks::Category& it : ranks.categories) {
      uint32_t which[kGroupRows];
      for (int32_t i = 0; i < kGroupRows; ++i) {
        which[i] = category_number(ranks, it, rows.at(first + std::min(i, here - 1), it.feature));
      }
      look_up(ranks, it, which, columns + size_t(it.column) * kBlockRows);
    }
  }
}

// A target is inherited by what is inlined, not by templates: so the loops, once per level.
#define PAIREC_COLUMNS(LEVEL, TARGET, FIND)                                                                         \
  TARGET uint64_t number_##LEVEL(const Ranks& ranks, const Ranks::Number& it, const float* value,                   \
                                 uint8_t* out) noexcept {                                                           \
    return number<Isa::LEVEL>(ranks, it, value, out, FIND);                                                         \
  }                                                                                                                 \
  TARGET void category_##LEVEL(const Ranks& ranks, const Ranks::Category& it, const uint32_t* which,                \
                               uint8_t* out) noexcept {                                                             \
    category<Isa::LEVEL>(ranks, it, which, out);                                                                    \
  }                                                                                                                 \
  TARGET void fill_##LEVEL(const Ranks& ranks, const Rows& rows, ptrdiff_t begin, int32_t count,                    \
                           uint8_t* columns) noexcept {                                                             \
    fill<Isa::LEVEL>(ranks, rows, begin, count, columns, number_##LEVEL, category_##LEVEL);                         \
  }

uint64_t find_ranks_baseline(const float* threshold, int32_t depth, const float* value, int32_t* rank) noexcept {
  return find_ranks(threshold, depth, value, rank);
}
PAIREC_COLUMNS(baseline, , find_ranks_baseline)
#if defined(__x86_64__)
// The first 63 thresholds are looked up in registers, the others gathered. A step waits for the one before it, so all
// the group's values step together.
PAIREC_TARGET_AVX2 uint64_t find_ranks_avx2(const float* threshold, int32_t depth, const float* value,
                                            int32_t* rank) noexcept {
  const auto table = [=](int32_t i, __m256i at) PAIREC_TARGET_AVX2 {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(threshold + 8 * i), at);
  };
  // Of a pair, the first where the bit that `shift` moves to the top is clear.
  const auto either = [](__m256 low, __m256 high, __m256i at, int shift) PAIREC_TARGET_AVX2 {
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, shift)));
  };
  constexpr int32_t kRegisters = kGroupRows / 8;
  __m256i at[kRegisters];
  __m256 equal[kRegisters];
  for (int32_t i = 0; i < kRegisters; ++i) at[i] = _mm256_set1_epi32(1);
  for (int32_t i = 0; i < kRegisters; ++i) equal[i] = _mm256_setzero_ps();
  for (int32_t level = 0; level < depth; ++level) {
    for (int32_t i = 0; i < kRegisters; ++i) {
      __m256 limit;
      if (level < 4) {
        limit = table(level / 3, at[i]);
      } else if (level == 4) {
        limit = either(table(2, at[i]), table(3, at[i]), at[i], 28);
      } else if (level == 5) {
        const __m256 low = either(table(4, at[i]), table(5, at[i]), at[i], 28);
        limit = either(low, either(table(6, at[i]), table(7, at[i]), at[i], 28), at[i], 27);
      } else {
        limit = _mm256_i32gather_ps(threshold, at[i], 4);
      }
      const __m256 here = _mm256_loadu_ps(value + 8 * i);
      equal[i] = _mm256_or_ps(equal[i], _mm256_cmp_ps(limit, here, _CMP_EQ_OQ));
      const __m256 is_above = _mm256_cmp_ps(limit, here, _CMP_LT_OQ);
      at[i] = _mm256_sub_epi32(_mm256_add_epi32(at[i], at[i]), _mm256_castps_si256(is_above));
    }
  }
  uint64_t rows = 0;
  for (int32_t i = 0; i < kRegisters; ++i) {
    const __m256i found = _mm256_sub_epi32(at[i], _mm256_set1_epi32(1 << depth));
    _mm256_store_si256(reinterpret_cast<__m256i*>(rank + 8 * i), found);
    rows |= uint64_t(unsigned(_mm256_movemask_ps(equal[i]))) << 8 * i;
  }
  return rows;
}

PAIREC_COLUMNS(avx2, PAIREC_TARGET_AVX2, find_ranks_avx2)

// The first 255 thresholds fit the registers: levels 0 to 3 one of them, and each level after that as many as two to
// the power of its distance from them.
template <int32_t kDepth>
PAIREC_TARGET_AVX512 uint64_t find_ranks_in_registers(const float* threshold, const float* value,
                                                      int32_t* rank) noexcept {
  const auto table = [=](int32_t i) PAIREC_TARGET_AVX512 { return _mm512_loadu_ps(threshold + 16 * i); };
  const auto either = [=](int32_t i, __m512i at) PAIREC_TARGET_AVX512 {
    return _mm512_permutex2var_ps(table(i), at, table(i + 1));
  };
  const auto has = [](__m512i at, int32_t bit) PAIREC_TARGET_AVX512 {
    return _mm512_test_epi32_mask(at, _mm512_set1_epi32(bit));
  };
  constexpr int32_t kRegisters = kGroupRows / 16;
  const __m512i one = _mm512_set1_epi32(1);
  __m512i at[kRegisters];
  uint64_t rows = 0;
#pragma GCC unroll 4
  for (int32_t i = 0; i < kRegisters; ++i) at[i] = one;
#pragma GCC unroll 8
  for (int32_t level = 0; level < kDepth; ++level) {
#pragma GCC unroll 4
    for (int32_t i = 0; i < kRegisters; ++i) {
      __m512 limit;
      if (level < 5) {
        limit = _mm512_permutexvar_ps(at[i], table(level / 4));
      } else if (level == 5) {
        limit = either(2, at[i]);
      } else if (level == 6) {
        limit = _mm512_mask_mov_ps(either(4, at[i]), has(at[i], 32), either(6, at[i]));
      } else {
        const __mmask16 odd = has(at[i], 32);
        const __m512 low = _mm512_mask_mov_ps(either(8, at[i]), odd, either(10, at[i]));
        const __m512 high = _mm512_mask_mov_ps(either(12, at[i]), odd, either(14, at[i]));
        limit = _mm512_mask_mov_ps(low, has(at[i], 64), high);
      }
      const __m512 here = _mm512_loadu_ps(value + 16 * i);
      rows |= uint64_t(_mm512_cmp_ps_mask(limit, here, _CMP_EQ_OQ)) << 16 * i;
      const __mmask16 is_above = _mm512_cmp_ps_mask(limit, here, _CMP_LT_OQ);
      at[i] = _mm512_add_epi32(at[i], at[i]);
      at[i] = _mm512_mask_add_epi32(at[i], is_above, at[i], one);
    }
  }
#pragma GCC unroll 4
  for (int32_t i = 0; i < kRegisters; ++i) {
    _mm512_store_si512(rank + 16 * i, _mm512_sub_epi32(at[i], _mm512_set1_epi32(1 << kDepth)));
  }
  return rows;
}

PAIREC_TARGET_AVX512 uint64_t find_ranks_avx512(const float* threshold, int32_t depth, const float* value,
                                                int32_t* rank) noexcept {
  switch (depth) {
    case 1: return find_ranks_in_registers<1>(threshold, value, rank);
    case 2: return find_ranks_in_registers<2>(threshold, value, rank);
    case 3: return find_ranks_in_registers<3>(threshold, value, rank);
    case 4: return find_ranks_in_registers<4>(threshold, value, rank);
    case 5: return find_ranks_in_registers<5>(threshold, value, rank);
    case 6: return find_ranks_in_registers<6>(threshold, value, rank);
    case 7: return find_ranks_in_registers<7>(threshold, value, rank);
    case 8: return find_ranks_in_registers<8>(threshold, value, rank);
    default: return find_ranks(threshold, depth, value, rank);
  }
}

PAIREC_COLUMNS(avx512bw, PAIREC_TARGET_AVX512, find_ranks_avx512)
#endif

}  // namespace

ColumnKernels column_kernels(Isa level) noexcept {
#if defined(__x86_64__)
  if (level >= Isa::avx512bw) return {number_avx512bw, category_avx512bw, fill_avx512bw};
  if (level == Isa::avx2) return {number_avx2, category_avx2, fill_avx2};
#endif
  return {number_baseline, category_baseline, fill_baseline};
}

void bin_number(const Ranks& ranks, const Ranks::Number& number, double value, uint8_t* out, ptrdiff_t step) noexcept {
  const double* threshold = ranks.threshold.data() + number.begin;
  size_t at = 1;
  for (int32_t level = 0; level < number.depth; ++level) at = 2 * at + size_t(threshold[at] < value);
  const auto rank = int32_t(at - (size_t(1) << number.depth));
  for (uint32_t i = 0; i < number.columns; ++i) {
    out[ptrdiff_t(i) * step] = rank_byte(ranks.pieces[number.column + i], rank, value);
  }
}

uint32_t category_number(const Ranks& ranks, const Ranks::Category& category, double value) noexcept {
  // Truncates toward zero as LightGBM's cast does, so (-1, 0] is category 0; compares first, because casting what an
  // int cannot hold is undefined.
  if (!(value > -1.0 && value < double(category.size))) return value != value ? 1 : 0;
  const size_t at = category.id_begin + size_t(value) * category.id_bytes;
  uint32_t number = 0;
  std::memcpy(&number, ranks.ids.data() + at, category.id_bytes);
  return number;
}

void bin_category(const Ranks& ranks, const Ranks::Category& category, uint32_t which, uint8_t* out) noexcept {
  const uint8_t* row = ranks.tables.data() + category.table_begin + size_t(which) * kTableColumns;
  for (uint32_t begin = 0; begin < category.columns; begin += kTableColumns) {
    std::memcpy(out + begin, row, std::min(category.columns - begin, kTableColumns));
    row += size_t(category.numbers) * kTableColumns;
  }
}

void fill_row(const Ranks& ranks, const Rows& rows, ptrdiff_t row, uint8_t* bytes) noexcept {
  for (const Ranks::Number& it : ranks.numbers) {
    bin_number(ranks, it, rows.at(row, it.feature), bytes + it.column, 1);
  }
  for (const Ranks::Category& it : ranks.categories) {
    bin_category(ranks, it, category_number(ranks, it, rows.at(row, it.feature)), bytes + it.column);
  }
}

}  // namespace pairec
