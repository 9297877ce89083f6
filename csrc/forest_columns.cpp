#include "forest_columns.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "forest_bin.hpp"
#include "target.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::ptrdiff_t;
using std::size_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

constexpr int32_t kStrip = 16;  // features turned from rows to columns together

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

// Rounds down kStrip values.
using Round = void (*)(const double* x, float* out) noexcept;

void round_baseline(const double* x, float* out) noexcept {
  for (int32_t i = 0; i < kStrip; ++i) out[i] = rounded_down(x[i]);
}

[[gnu::always_inline]] inline void to_floats(const double* x, int32_t count, float* out, Round round) noexcept {
  int32_t i = 0;
  for (; i + kStrip <= count; i += kStrip) round(x + i, out + i);
  for (; i < count; ++i) out[i] = rounded_down(x[i]);
}
[[gnu::always_inline]] inline void to_floats(const float* x, int32_t count, float* out, Round) noexcept {
  int32_t i = 0;
  for (; i + kStrip <= count; i += kStrip) std::memcpy(out + i, x + i, kStrip * sizeof *x);
  for (; i < count; ++i) out[i] = x[i];
}

// A strip of features of a group, as columns of float32. Rows beyond the last repeat it.
template <typename Value>
[[gnu::always_inline]] inline void turn(const Rows& rows, ptrdiff_t begin, int32_t count, int32_t first, int32_t width,
                                        float (*strip)[kGroupRows], Round round) noexcept {
  const auto* x = static_cast<const Value*>(rows.x) + begin * rows.row_step + first * rows.column_step;
  if (rows.row_step == 1) {
    for (int32_t j = 0; j < width; ++j, x += rows.column_step) to_floats(x, count, strip[j], round);
  } else {
    alignas(64) float near[kGroupRows][kStrip];
    for (int32_t i = 0; i < count; ++i, x += rows.row_step) {
      if (rows.column_step == 1) {
        to_floats(x, width, near[i], round);
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

[[gnu::always_inline]] inline uint32_t number_of(const Ranks& ranks, const Ranks::Category& it, double value) noexcept {
  // Truncates toward zero as LightGBM's cast does, so (-1, 0] is category 0; compares first, because casting what an
  // int cannot hold is undefined.
  if (!(value > -1.0 && value < double(it.size))) return value != value ? 1 : 0;
  const uint8_t* id = ranks.ids.data() + it.id_begin + size_t(value) * it.id_bytes;
  if (it.id_bytes == 1) return *id;
  uint32_t number = 0;
  std::memcpy(&number, id, it.id_bytes == 2 ? 2 : 4);
  return number;
}

template <Isa kLevel, typename Value>
[[gnu::always_inline]] inline void fill(const Ranks& ranks, const Rows& rows, ptrdiff_t begin, int32_t count,
                                        uint8_t* columns, Round round) noexcept {
  const BinNumber bin = number_kernel(kLevel);
  const BinCategory look_up = category_kernel(kLevel);
  const int32_t width = std::min(kStrip, ranks.width);
  for (int32_t group = 0; group < count; group += kGroupRows, columns += kGroupRows) {
    const ptrdiff_t first = begin + group;
    const int32_t here = std::min(kGroupRows, count - group);
    alignas(64) float strip[kStrip][kGroupRows];
    int32_t turned = -kStrip;  // first feature of the strip
    for (const Ranks::Number& it : ranks.numbers) {
      if (it.feature < turned || it.feature >= turned + kStrip) {
        turned = std::min(it.feature, ranks.width - width);
        turn<Value>(rows, first, here, turned, width, strip, round);
      }
      const float* value = strip[it.feature - turned];
      uint8_t* out = columns + size_t(it.column) * kBlockRows;
      uint64_t unsettled = bin(ranks, it, value, out);
      if constexpr (std::is_same_v<Value, float>) continue;
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
      const auto* x = static_cast<const Value*>(rows.x) + first * rows.row_step + it.feature * rows.column_step;
      uint32_t which[kGroupRows];
      for (int32_t i = 0; i < here; ++i) which[i] = number_of(ranks, it, double(x[i * rows.row_step]));
      std::fill(which + here, which + kGroupRows, which[here - 1]);
      look_up(ranks, it, which, columns + size_t(it.column) * kBlockRows);
    }
  }
}

// A target is inherited by what is inlined, not by templates: so the loop, once per level.
#define PAIREC_FILL(LEVEL, TARGET)                                                                                    \
  TARGET void fill_##LEVEL(const Ranks& ranks, const Rows& rows, ptrdiff_t begin, int32_t count,                      \
                           uint8_t* columns) noexcept {                                                               \
    if (rows.is_double) return fill<Isa::LEVEL, double>(ranks, rows, begin, count, columns, round_##LEVEL);           \
    fill<Isa::LEVEL, float>(ranks, rows, begin, count, columns, round_##LEVEL);                                       \
  }

PAIREC_FILL(baseline, )
#if defined(__x86_64__)
PAIREC_TARGET_AVX2 void round_avx2(const double* x, float* out) noexcept {
#pragma GCC unroll 4
  for (int32_t i = 0; i < kStrip; i += 4) {
    const __m256d value = _mm256_loadu_pd(x + i);
    const __m128 near = _mm256_cvtpd_ps(value);
    const __m256i is_above = _mm256_castpd_si256(_mm256_cmp_pd(_mm256_cvtps_pd(near), value, _CMP_GT_OQ));
    const __m256i even = _mm256_setr_epi32(0, 2, 4, 6, 0, 0, 0, 0);
    const __m128i pack = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(is_above, even));
    const __m128i bits = _mm_castps_si128(near), step = _mm_or_si128(_mm_srai_epi32(bits, 31), _mm_set1_epi32(1));
    _mm_storeu_ps(out + i, _mm_castsi128_ps(_mm_sub_epi32(bits, _mm_and_si128(step, pack))));
  }
}
PAIREC_FILL(avx2, PAIREC_TARGET_AVX2)

PAIREC_TARGET_AVX512 void round_avx512bw(const double* x, float* out) noexcept {
  for (int32_t i = 0; i < kStrip; i += 8) {
    const __m512d value = _mm512_loadu_pd(x + i);
    _mm256_storeu_ps(out + i, _mm512_cvt_roundpd_ps(value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  }
}
PAIREC_FILL(avx512bw, PAIREC_TARGET_AVX512)
constexpr Round round_avx512vbmi = round_avx512bw;
PAIREC_FILL(avx512vbmi, PAIREC_TARGET_AVX512)
#endif

}  // namespace

ColumnKernels column_kernels(Isa level) noexcept {
#if defined(__x86_64__)
  if (level == Isa::avx512vbmi) return {number_kernel(level), category_kernel(level), fill_avx512vbmi};
  if (level == Isa::avx512bw) return {number_kernel(level), category_kernel(level), fill_avx512bw};
  if (level == Isa::avx2) return {number_kernel(level), category_kernel(level), fill_avx2};
#endif
  return {number_kernel(level), category_kernel(level), fill_baseline};
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
  return number_of(ranks, category, value);
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
