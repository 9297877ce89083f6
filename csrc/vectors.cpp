#include "vectors.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "simd.hpp"

namespace pairec {

void turn(const float* table, std::int32_t dim, const std::int32_t* rows, std::int32_t count, std::int64_t stride,
          float* lane) noexcept {
  constexpr std::int32_t line = 16;  // floats: a line of `lane` is written at once
  const std::int32_t end = (count + turned_block - 1) / turned_block * turned_block;
  static const float nothing[1] = {0.0f};
  for (std::int32_t at = 0; at < end; at += line) {
    const float* row[line];
    std::ptrdiff_t step[line];
    for (std::int32_t i = 0; i < line; ++i) {
      const bool known = at + i < count && rows[at + i] >= 0;
      row[i] = known ? table + static_cast<std::ptrdiff_t>(rows[at + i]) * dim : nothing;
      step[i] = known;
    }
    for (std::int32_t next = at + line; next < at + 2 * line && next < count; ++next)
      if (rows[next] >= 0)
        for (std::int32_t k = 0; k < dim; k += line)
          __builtin_prefetch(table + static_cast<std::ptrdiff_t>(rows[next]) * dim + k);
    for (std::int32_t k = 0; k < dim; ++k) {
      float* to = lane + k * stride + at;
      for (std::int32_t i = 0; i < line; ++i) to[i] = row[i][k * step[i]];
    }
  }
}

std::int32_t weigh(const double* square, std::int32_t count, bool normalise, double* scale) noexcept {
  std::int32_t missing = 0;
  for (std::int32_t i = 0; i < count; ++i) {
    const bool known = square[i] > 0.0 && square[i] <= std::numeric_limits<double>::max();
    scale[i] = !known ? 0.0 : normalise ? 1.0 / std::sqrt(square[i]) : 1.0;
    missing += !known;
  }
  return missing;
}

void draw(std::uint64_t seed, std::int32_t dim, std::int64_t stride, std::int32_t count, float* lane, double* square,
          double* scale) noexcept {
  constexpr double unit = 0x1p-53, round = 6.283185307179586;
  for (std::int32_t i = 0; i < count; ++i) {
    if (scale[i] != 0.0) continue;
    const std::uint64_t own = mixed(seed + static_cast<std::uint64_t>(i));
    square[i] = 0.0;
    for (std::int32_t k = 0; k < dim; ++k) {
      // A normal number for each dimension makes all directions alike (Box and Muller).
      const std::uint64_t word = mixed(own + static_cast<std::uint64_t>(k));
      const double length = std::sqrt(-2.0 * std::log(static_cast<double>((word >> 11) + 1) * unit));
      const double angle = round * static_cast<double>(mixed(~word) >> 11) * unit;
      const float drawn = static_cast<float>(length * std::cos(angle));
      lane[k * stride + i] = drawn;
      square[i] += static_cast<double>(drawn) * drawn;
    }
    scale[i] = 1.0 / std::sqrt(square[i]);
  }
}

namespace {

// The loop, once per level, as wide as the level's registers; a macro because a template cannot carry `target`.
#define PAIREC_SUM(NAME, TARGET, NUMBER, WIDTH, BLOCK, FACTORS, FACTOR)                                               \
  TARGET void NAME(const NUMBER* lane, std::int32_t dim, std::int64_t stride, std::int32_t count FACTORS,             \
                   double* sum) noexcept {                                                                            \
    typedef double Lanes __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));                              \
    typedef NUMBER Given __attribute__((vector_size(sizeof(NUMBER) * WIDTH), aligned(sizeof(NUMBER)), may_alias));    \
    static_assert(turned_block % BLOCK == 0);                                                                         \
    constexpr std::int32_t parts = BLOCK / WIDTH;                                                                     \
    const std::int32_t end = (count + turned_block - 1) / turned_block * turned_block;                                \
    for (std::int32_t at = 0; at < end; at += BLOCK) {                                                                \
      Lanes part[parts] = {};                                                                                         \
      const NUMBER* row = lane + at;                                                                                  \
      for (std::int32_t k = 0; k < dim; ++k, row += stride)                                                           \
        _Pragma("GCC unroll 16") for (std::int32_t i = 0; i < parts; ++i) {                                           \
          const Lanes given = __builtin_convertvector(*reinterpret_cast<const Given*>(row + i * WIDTH), Lanes);       \
          part[i] += FACTOR * given;                                                                                  \
        }                                                                                                             \
      _Pragma("GCC unroll 16") for (std::int32_t i = 0; i < parts; ++i)                                               \
          * reinterpret_cast<Lanes*>(sum + at + i * WIDTH) = part[i];                                                 \
    }                                                                                                                 \
  }
#define PAIREC_FACTORS , const double* factor
#define PAIREC_SUMS(LEVEL, TARGET, WIDTH, BLOCK)                                                                      \
  PAIREC_SUM(narrow_##LEVEL, TARGET, float, WIDTH, BLOCK, PAIREC_FACTORS, factor[k])                                  \
  PAIREC_SUM(wide_##LEVEL, TARGET, double, WIDTH, BLOCK, PAIREC_FACTORS, factor[k])                                   \
  PAIREC_SUM(squares_##LEVEL, TARGET, float, WIDTH, BLOCK, , given)

PAIREC_SUMS(baseline, , 2, 16)
#if defined(__x86_64__)
PAIREC_SUMS(avx2, PAIREC_TARGET_AVX2, 4, 32)
PAIREC_SUMS(avx512, PAIREC_TARGET_AVX512, 8, 32)
#endif

}  // namespace

Sums sums() {
  switch (isa_active()) {
#if defined(__x86_64__)
    case Isa::avx512vbmi:
    case Isa::avx512bw:
      return {narrow_avx512, wide_avx512, squares_avx512};
    case Isa::avx2:
      return {narrow_avx2, wide_avx2, squares_avx2};
#endif
    default:
      return {narrow_baseline, wide_baseline, squares_baseline};
  }
}

}  // namespace pairec
