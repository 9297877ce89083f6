#include "distance.hpp"

#include <cmath>
#include <cstddef>

#include "simd.hpp"

namespace pairec {
namespace {

// Aligned like a float: a caller's query need not lie on a line.
typedef float Lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef float Half __attribute__((vector_size(32)));
typedef float Quarter __attribute__((vector_size(16)));

// How many rows ahead of the one being scored its lines are asked for; 6 and 12 were slower.
constexpr std::int32_t rows_ahead = 24;

inline void prefetch_row(const float* row, std::int32_t width) noexcept {
  for (std::int32_t lane = 0; lane < width; lane += lanes) __builtin_prefetch(row + lane);
}

// The loops, once per level. A macro, because a template cannot carry `target`, and because vectors of a function
// without it are lowered to the baseline before it is inlined into one that has it.
#define PAIREC_SCORES(LEVEL, TARGET)                                                                                  \
  TARGET inline float fold_##LEVEL(Lanes sum) noexcept {                                                              \
    const Half half = __builtin_shufflevector(sum, sum, 0, 1, 2, 3, 4, 5, 6, 7) +                                     \
                      __builtin_shufflevector(sum, sum, 8, 9, 10, 11, 12, 13, 14, 15);                                \
    const Quarter quarter =                                                                                           \
        __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);            \
    return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);                                                     \
  }                                                                                                                   \
  TARGET inline float dot_##LEVEL(const float* query, const float* row, std::int32_t width) noexcept {                \
    Lanes sum = {};                                                                                                   \
    for (std::int32_t lane = 0; lane < width; lane += lanes)                                                          \
      sum += *reinterpret_cast<const Lanes*>(query + lane) * *reinterpret_cast<const Lanes*>(row + lane);             \
    return fold_##LEVEL(sum);                                                                                         \
  }                                                                                                                   \
  TARGET inline float l2_##LEVEL(const float* query, const float* row, std::int32_t width) noexcept {                 \
    Lanes sum = {};                                                                                                   \
    for (std::int32_t lane = 0; lane < width; lane += lanes) {                                                        \
      const Lanes gap =                                                                                               \
          *reinterpret_cast<const Lanes*>(query + lane) - *reinterpret_cast<const Lanes*>(row + lane);                \
      sum += gap * gap;                                                                                               \
    }                                                                                                                 \
    return 0.0f - fold_##LEVEL(sum); /* not -fold: equal vectors score 0, not -0 */                                   \
  }                                                                                                                   \
  PAIREC_SCORES_OF(LEVEL, TARGET, dot)                                                                                \
  PAIREC_SCORES_OF(LEVEL, TARGET, l2)

#define PAIREC_SCORES_OF(LEVEL, TARGET, METRIC)                                                                       \
  TARGET void METRIC##_rows_##LEVEL(const float* query, const float* vectors, std::int32_t width,                     \
                                    const std::int32_t* rows, std::int32_t count, float* scores) noexcept {           \
    const auto at = [=](std::int32_t i) { return vectors + static_cast<std::size_t>(rows[i]) * width; };              \
    const std::int32_t near = count < rows_ahead ? count : rows_ahead;                                                \
    for (std::int32_t i = 0; i < near; ++i) prefetch_row(at(i), width);                                               \
    std::int32_t i = 0;                                                                                               \
    for (; i + rows_ahead < count; ++i) {                                                                             \
      prefetch_row(at(i + rows_ahead), width);                                                                        \
      scores[i] = METRIC##_##LEVEL(query, at(i), width);                                                              \
    }                                                                                                                 \
    for (; i < count; ++i) scores[i] = METRIC##_##LEVEL(query, at(i), width);                                         \
  }                                                                                                                   \
  TARGET void METRIC##_range_##LEVEL(const float* query, const float* vectors, std::int32_t width,                    \
                                     std::int32_t count, float* scores) noexcept {                                    \
    for (std::int32_t i = 0; i < count; ++i, vectors += width) scores[i] = METRIC##_##LEVEL(query, vectors, width);   \
  }

PAIREC_SCORES(baseline, )
#if defined(__x86_64__)
PAIREC_SCORES(avx2, PAIREC_TARGET_AVX2)
PAIREC_SCORES(avx512, PAIREC_TARGET_AVX512)
#endif

}  // namespace

Scorer scorer(Metric metric) {
  const bool l2 = metric == Metric::l2;
  switch (isa_active()) {
#if defined(__x86_64__)
    case Isa::avx512vbmi:
    case Isa::avx512bw:
      return l2 ? Scorer{l2_rows_avx512, l2_range_avx512} : Scorer{dot_rows_avx512, dot_range_avx512};
    case Isa::avx2:
      return l2 ? Scorer{l2_rows_avx2, l2_range_avx2} : Scorer{dot_rows_avx2, dot_range_avx2};
#endif
    default:
      return l2 ? Scorer{l2_rows_baseline, l2_range_baseline} : Scorer{dot_rows_baseline, dot_range_baseline};
  }
}

void prepare(const float* vector, std::int32_t dim, std::int32_t width, bool normalise, float* padded) noexcept {
  double scale = 1.0;
  if (normalise) {
    double square = 0.0;
    for (std::int32_t lane = 0; lane < dim; ++lane) square += static_cast<double>(vector[lane]) * vector[lane];
    if (square > 0.0) scale = std::sqrt(square);
  }
  for (std::int32_t lane = 0; lane < dim; ++lane) padded[lane] = static_cast<float>(vector[lane] / scale);
  for (std::int32_t lane = dim; lane < width; ++lane) padded[lane] = 0.0f;
}

}  // namespace pairec
