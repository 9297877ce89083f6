#include "rows.hpp"

#include <algorithm>
#include <cstddef>

#include "target.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;

// How many rows ahead of the one being scored its lines are asked for: of one plane, of both.
//
// They are asked for in L2 (the 2 below), which has more misses under way than L1: of rows in memory, twice as many
// come at a time, and only with this many asked for.
constexpr int32_t high_ahead = 96, both_ahead = 48;
constexpr int32_t rows_abreast = 4;  // they share the steps of their horizontal sums
constexpr int32_t line_bytes = 64;

inline const int8_t* at(const int8_t* plane, int32_t stride, int32_t place) noexcept {
  return plane + static_cast<std::ptrdiff_t>(place) * stride;
}

inline void prefetch(const int8_t* row, int32_t width) noexcept {
  for (int32_t lane = 0; lane < width; lane += line_bytes) __builtin_prefetch(row + lane, 0, 2);
}

// Calls score(i, places + i, n) for n = 4, then for the last 1 to 3, and ask(place) well before its row is scored
// (never, if rows_ahead is 0).
template <int32_t rows_ahead, class Ask, class Score>
inline __attribute__((always_inline)) void in_fours(const int32_t* places, int32_t count, Ask ask,
                                                    Score score) noexcept {
  const int32_t near = std::min(count, rows_ahead);
  for (int32_t i = 0; i < near; ++i) ask(places[i]);
  int32_t i = 0;
  for (; i + rows_abreast <= count; i += rows_abreast) {
    const int32_t end = rows_ahead > 0 ? std::min(count, i + rows_ahead + rows_abreast) : 0;
    for (int32_t ahead = i + rows_ahead; ahead < end; ++ahead) ask(places[ahead]);
    score(i, places + i, rows_abreast);
  }
  if (i < count) score(i, places + i, count - i);
}

template <int32_t rows_ahead>
void high_baseline(const int8_t* query, const int8_t* high, int32_t stride, int32_t width, const int32_t* places, int32_t count,
                   int32_t* dots) noexcept {
  const auto ask = [=](int32_t place) { prefetch(at(high, stride, place), width); };
  const auto score = [=](int32_t first, const int32_t* four, int32_t rows) {
    for (int32_t i = 0; i < rows; ++i) {
      const int8_t* row = at(high, stride, four[i]);
      int32_t sum = 0;
      for (int32_t lane = 0; lane < width; ++lane) sum += query[lane] * row[lane];
      dots[first + i] = sum;
    }
  };
  in_fours<rows_ahead>(places, count, ask, score);
}

typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int32_t float_lanes = 16;

void both_baseline(const float* query, const int8_t* high, const int8_t* low, int32_t stride, int32_t width, const int32_t* places,
                   int32_t count, float* dots) noexcept {
  const auto ask = [=](int32_t place) {
    prefetch(at(high, stride, place), width);
    prefetch(at(low, stride, place), width);
  };
  const auto score = [=](int32_t first, const int32_t* four, int32_t rows) {
    for (int32_t i = 0; i < rows; ++i) {
      const int8_t *high_row = at(high, stride, four[i]), *low_row = at(low, stride, four[i]);
      float sum[float_lanes] = {};
      for (int32_t lane = 0; lane < width; lane += float_lanes)
        for (int32_t j = 0; j < float_lanes; ++j)
          sum[j] += query[lane + j] * static_cast<float>(256 * high_row[lane + j] + low_row[lane + j]);
      for (int32_t half = float_lanes / 2; half > 0; half /= 2)
        for (int32_t j = 0; j < half; ++j) sum[j] += sum[j + half];
      dots[first + i] = sum[0];
    }
  };
  in_fours<both_ahead>(places, count, ask, score);
}

#if defined(__x86_64__)

struct Eights {
  __m256i row[rows_abreast];
};

// The sums of four rows of eight.
PAIREC_TARGET_AVX2 inline __m128i sums_of(const Eights& of) noexcept {
  const __m256i two = _mm256_hadd_epi32(of.row[0], of.row[1]), more = _mm256_hadd_epi32(of.row[2], of.row[3]);
  const __m256i four = _mm256_hadd_epi32(two, more);
  return _mm_add_epi32(_mm256_castsi256_si128(four), _mm256_extracti128_si256(four, 1));
}

// Of two bytes' products the sum stays below 2 * 128 * 127 < 2^15: nothing saturates, not even for a row of -128.
PAIREC_TARGET_AVX2 inline __m256i add_dot_avx2(__m256i sum, __m256i query, __m256i row) noexcept {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(row), _mm256_sign_epi8(query, row));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// Unsigned bytes by signed ones: rows are 128 too high, which `begin` made up for.
PAIREC_TARGET_VBMI inline __m256i add_dot_vbmi(__m256i sum, __m256i query, __m256i row) noexcept {
  return _mm256_dpbusd_epi32(sum, _mm256_xor_si256(row, _mm256_set1_epi8(-128)), query);
}

PAIREC_TARGET_AVX2 inline __m256i begin_avx2(const int8_t*, int32_t) noexcept { return _mm256_setzero_si256(); }

PAIREC_TARGET_VBMI inline __m256i begin_vbmi(const int8_t* query, int32_t width) noexcept {
  __m256i sum = _mm256_setzero_si256();
  for (int32_t lane = 0; lane < width; lane += 32) {
    const __m256i piece = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + lane));
    sum = _mm256_dpbusd_epi32(sum, _mm256_set1_epi8(-128), piece);
  }
  return _mm256_sub_epi32(_mm256_setzero_si256(), sum);
}

// Widths of up to 128 have a loop of their own, unrolled, the query in registers.
#define PAIREC_DOT_HIGH(LEVEL, TARGET)                                                                                \
  template <int32_t rows_ahead, int32_t kWidth>                                                                       \
  TARGET inline __attribute__((always_inline)) void high_of_##LEVEL(                                                  \
      const int8_t* query, const int8_t* high, int32_t stride, int32_t any_width, const int32_t* places, int32_t count,               \
      int32_t* dots) noexcept {                                                                                       \
    const int32_t width = kWidth > 0 ? kWidth : any_width;                                                            \
    const __m256i begin = begin_##LEVEL(query, width);                                                                \
    const auto ask = [=](int32_t place) TARGET { prefetch(at(high, stride, place), width); };                          \
    const auto score = [=](int32_t first, const int32_t* four, int32_t rows) TARGET {                                 \
      const int8_t* row[rows_abreast];                                                                                \
      for (int32_t i = 0; i < rows_abreast; ++i) row[i] = at(high, stride, four[std::min(i, rows - 1)]);               \
      Eights of{{begin, begin, begin, begin}};                                                                        \
      for (int32_t lane = 0; lane < width; lane += 32) {                                                              \
        const __m256i piece = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(query + lane));                     \
        for (int32_t i = 0; i < rows_abreast; ++i)                                                                    \
          of.row[i] = add_dot_##LEVEL(of.row[i], piece,                                                               \
                                      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row[i] + lane)));           \
      }                                                                                                               \
      const __m128i sums = sums_of(of);                                                                               \
      if (rows == rows_abreast) return _mm_storeu_si128(reinterpret_cast<__m128i*>(dots + first), sums);              \
      alignas(16) int32_t last[rows_abreast];                                                                         \
      _mm_store_si128(reinterpret_cast<__m128i*>(last), sums);                                                        \
      for (int32_t i = 0; i < rows; ++i) dots[first + i] = last[i];                                                   \
    };                                                                                                                \
    in_fours<rows_ahead>(places, count, ask, score);                                                                  \
  }                                                                                                                   \
  template <int32_t rows_ahead>                                                                                       \
  TARGET void high_##LEVEL(const int8_t* query, const int8_t* high, int32_t stride, int32_t width, const int32_t* places,             \
                           int32_t count, int32_t* dots) noexcept {                                                   \
    switch (width) {                                                                                                  \
      case 32: return high_of_##LEVEL<rows_ahead, 32>(query, high, stride, width, places, count, dots);                       \
      case 64: return high_of_##LEVEL<rows_ahead, 64>(query, high, stride, width, places, count, dots);                       \
      case 128: return high_of_##LEVEL<rows_ahead, 128>(query, high, stride, width, places, count, dots);                     \
      default: return high_of_##LEVEL<rows_ahead, 0>(query, high, stride, width, places, count, dots);                        \
    }                                                                                                                 \
  }

PAIREC_DOT_HIGH(avx2, PAIREC_TARGET_AVX2)
PAIREC_DOT_HIGH(vbmi, PAIREC_TARGET_VBMI)

struct Quarters {
  __m128 row[rows_abreast];
};

PAIREC_TARGET_AVX2 inline __m128 sums_of(const Quarters& of) noexcept {
  const __m128 two = _mm_add_ps(_mm_movelh_ps(of.row[0], of.row[1]), _mm_movehl_ps(of.row[1], of.row[0]));
  const __m128 more = _mm_add_ps(_mm_movelh_ps(of.row[2], of.row[3]), _mm_movehl_ps(of.row[3], of.row[2]));
  return _mm_add_ps(_mm_shuffle_ps(two, more, 0x88), _mm_shuffle_ps(two, more, 0xDD));
}

struct SumAvx2 {
  __m256 low, high;
};

PAIREC_TARGET_AVX2 inline void zero(SumAvx2& sum) noexcept { sum.low = sum.high = _mm256_setzero_ps(); }

PAIREC_TARGET_AVX2 inline void add_both(SumAvx2& sum, const float* query, const int8_t* high,
                                        const int8_t* low) noexcept {
  const auto eight = [](const int8_t* from) PAIREC_TARGET_AVX2 {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  };
  const auto product = [&](int32_t lane) PAIREC_TARGET_AVX2 {
    const __m256i value = _mm256_add_epi32(_mm256_slli_epi32(eight(high + lane), 8), eight(low + lane));
    return _mm256_mul_ps(_mm256_loadu_ps(query + lane), _mm256_cvtepi32_ps(value));
  };
  sum.low = _mm256_add_ps(sum.low, product(0));
  sum.high = _mm256_add_ps(sum.high, product(8));
}

PAIREC_TARGET_AVX2 inline __m128 quarter(const SumAvx2& sum) noexcept {
  const __m256 half = _mm256_add_ps(sum.low, sum.high);
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

struct SumAvx512 {
  __m512 lanes;
};

PAIREC_TARGET_AVX512 inline void zero(SumAvx512& sum) noexcept { sum.lanes = _mm512_setzero_ps(); }

PAIREC_TARGET_AVX512 inline void add_both(SumAvx512& sum, const float* query, const int8_t* high,
                                          const int8_t* low) noexcept {
  const auto sixteen = [](const int8_t* from) PAIREC_TARGET_AVX512 {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  };
  const __m512i value = _mm512_add_epi32(_mm512_slli_epi32(sixteen(high), 8), sixteen(low));
  sum.lanes = _mm512_add_ps(sum.lanes, _mm512_mul_ps(_mm512_loadu_ps(query), _mm512_cvtepi32_ps(value)));
}

PAIREC_TARGET_AVX512 inline __m128 quarter(const SumAvx512& sum) noexcept {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sum.lanes), _mm512_extractf32x8_ps(sum.lanes, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

#define PAIREC_DOT_BOTH(LEVEL, TARGET, SUM)                                                                           \
  TARGET void both_##LEVEL(const float* query, const int8_t* high, const int8_t* low, int32_t stride, int32_t width,                  \
                           const int32_t* places, int32_t count, float* dots) noexcept {                              \
    const auto ask = [=](int32_t place) TARGET {                                                                      \
      prefetch(at(high, stride, place), width);                                                                        \
      prefetch(at(low, stride, place), width);                                                                         \
    };                                                                                                                \
    const auto score = [=](int32_t first, const int32_t* four, int32_t rows) TARGET {                                 \
      const int8_t *high_row[rows_abreast], *low_row[rows_abreast];                                                   \
      SUM sum[rows_abreast];                                                                                          \
      for (int32_t i = 0; i < rows_abreast; ++i) {                                                                    \
        high_row[i] = at(high, stride, four[std::min(i, rows - 1)]);                                                   \
        low_row[i] = at(low, stride, four[std::min(i, rows - 1)]);                                                     \
        zero(sum[i]);                                                                                                 \
      }                                                                                                               \
      for (int32_t lane = 0; lane < width; lane += float_lanes)                                                       \
        for (int32_t i = 0; i < rows_abreast; ++i)                                                                    \
          add_both(sum[i], query + lane, high_row[i] + lane, low_row[i] + lane);                                      \
      const __m128 sums = sums_of(Quarters{{quarter(sum[0]), quarter(sum[1]), quarter(sum[2]), quarter(sum[3])}});    \
      if (rows == rows_abreast) return _mm_storeu_ps(dots + first, sums);                                             \
      alignas(16) float last[rows_abreast];                                                                           \
      _mm_store_ps(last, sums);                                                                                       \
      for (int32_t i = 0; i < rows; ++i) dots[first + i] = last[i];                                                   \
    };                                                                                                                \
    in_fours<both_ahead>(places, count, ask, score);                                                                  \
  }

PAIREC_DOT_BOTH(avx2, PAIREC_TARGET_AVX2, SumAvx2)
PAIREC_DOT_BOTH(avx512, PAIREC_TARGET_AVX512, SumAvx512)
#endif

}  // namespace

RowKernels row_kernels() {
  switch (isa_active()) {
#if defined(__x86_64__)
    case Isa::avx512vbmi: return {high_vbmi<high_ahead>, both_avx512, high_vbmi<0>};
    case Isa::avx512bw: return {high_avx2<high_ahead>, both_avx512, high_avx2<0>};
    case Isa::avx2: return {high_avx2<high_ahead>, both_avx2, high_avx2<0>};
#endif
    default: return {high_baseline<high_ahead>, both_baseline, high_baseline<0>};
  }
}

}  // namespace pairec
