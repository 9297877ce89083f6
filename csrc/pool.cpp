#include "pool.hpp"

#include <algorithm>
#include <bit>

#include "best.hpp"
#include "target.hpp"

namespace pairec {
namespace {

using std::int32_t;

struct Span {
  int32_t least, most;
};

// Bisection, by value and then by bit: `low` is reached by enough, `high` is not.
template <auto kSpan, auto kWeight>
inline __attribute__((always_inline)) int32_t floor_by(const Pool& pool, const int32_t* weights, int32_t wanted,
                                                       int32_t slack) noexcept {
  auto [low, most] = kSpan(pool);
  std::int64_t high = std::int64_t{most} + 1;
  for (int turn = 0; high - low > 1; ++turn) {
    auto middle = static_cast<int32_t>((low + high) >> 1);
    if (turn < 16) {
      const int32_t between = ordered(0.5f * (score_of(low) + score_of(static_cast<int32_t>(high - 1))));
      if (between > low && between < high) middle = between;
    }
    const int32_t weight = kWeight(pool, weights, middle);
    if (weight < wanted) {
      high = middle;
    } else {
      low = middle;
      if (weight <= wanted + slack) break;
    }
  }
  return low;
}

// --- baseline: what every machine has, and the meaning of the others

inline __attribute__((always_inline)) Span span_baseline(const Pool& pool) noexcept {
  Span span{INT32_MAX, INT32_MIN};
  for (int32_t i = 0; i < pool.count; ++i) {
    span.least = std::min(span.least, pool.keys[i]);
    span.most = std::max(span.most, pool.keys[i]);
  }
  return span;
}

// Of the rows that reach `floor`.
inline __attribute__((always_inline)) int32_t weight_baseline(const Pool& pool, const int32_t* weights,
                                                              int32_t floor) noexcept {
  int32_t sum = 0;
  if (weights == nullptr) {
    for (int32_t i = 0; i < pool.count; ++i) sum += pool.keys[i] >= floor;
  } else {
    for (int32_t i = 0; i < pool.count; ++i) sum += pool.keys[i] >= floor ? weights[i] : 0;
  }
  return sum;
}

void narrow_baseline(Pool& pool, int32_t floor) noexcept {
  int32_t kept = 0;
  for (int32_t i = 0; i < pool.count; ++i) {
    const int32_t key = pool.keys[i];
    pool.keys[kept] = key;
    pool.places[kept] = pool.places[i];
    kept += key >= floor;
  }
  pool.count = kept;
}

int32_t floor_baseline(const Pool& pool, const int32_t* weights, int32_t wanted, int32_t slack) noexcept {
  return floor_by<span_baseline, weight_baseline>(pool, weights, wanted, slack);
}

#if defined(__x86_64__)
PAIREC_TARGET_AVX2 int32_t floor_avx2(const Pool& pool, const int32_t* weights, int32_t wanted,
                                      int32_t slack) noexcept {
  return floor_by<span_baseline, weight_baseline>(pool, weights, wanted, slack);
}

// --- avx512: what is left of a register at the end is masked, which a loop of the compiler's does one by one.

PAIREC_TARGET_AVX512 inline __mmask16 rest_of(const Pool& pool, int32_t i) noexcept {
  return pool.count - i < 16 ? __mmask16((1u << (pool.count - i)) - 1) : __mmask16(0xFFFF);
}

PAIREC_TARGET_AVX512 inline Span span_avx512(const Pool& pool) noexcept {
  __m512i least = _mm512_set1_epi32(INT32_MAX), most = _mm512_set1_epi32(INT32_MIN);
  for (int32_t i = 0; i < pool.count; i += 16) {
    const __mmask16 rest = rest_of(pool, i);
    const __m512i keys = _mm512_maskz_loadu_epi32(rest, pool.keys + i);
    least = _mm512_mask_min_epi32(least, rest, least, keys);
    most = _mm512_mask_max_epi32(most, rest, most, keys);
  }
  return {_mm512_reduce_min_epi32(least), _mm512_reduce_max_epi32(most)};
}

PAIREC_TARGET_AVX512 inline int32_t weight_avx512(const Pool& pool, const int32_t* weights, int32_t floor) noexcept {
  const __m512i floors = _mm512_set1_epi32(floor), one = _mm512_set1_epi32(1);
  __m512i sum = _mm512_setzero_si512();
  for (int32_t i = 0; i < pool.count; i += 16) {
    const __mmask16 rest = rest_of(pool, i);
    const __m512i keys = _mm512_maskz_loadu_epi32(rest, pool.keys + i);
    const __mmask16 reaching = _mm512_mask_cmpge_epi32_mask(rest, keys, floors);
    const __m512i each = weights == nullptr ? one : _mm512_maskz_loadu_epi32(reaching, weights + i);
    sum = _mm512_mask_add_epi32(sum, reaching, sum, each);
  }
  return _mm512_reduce_add_epi32(sum);
}

PAIREC_TARGET_AVX512 int32_t floor_avx512(const Pool& pool, const int32_t* weights, int32_t wanted,
                                          int32_t slack) noexcept {
  return floor_by<span_avx512, weight_avx512>(pool, weights, wanted, slack);
}

PAIREC_TARGET_AVX512 void narrow_avx512(Pool& pool, int32_t floor) noexcept {
  const __m512i floors = _mm512_set1_epi32(floor);
  int32_t kept = 0;
  for (int32_t i = 0; i < pool.count; i += 16) {
    const __mmask16 rest = rest_of(pool, i);
    const __m512i keys = _mm512_maskz_loadu_epi32(rest, pool.keys + i);
    const __m512i places = _mm512_maskz_loadu_epi32(rest, pool.places + i);
    const __mmask16 keep = _mm512_mask_cmpge_epi32_mask(rest, keys, floors);
    _mm512_storeu_si512(pool.keys + kept, _mm512_maskz_compress_epi32(keep, keys));
    _mm512_storeu_si512(pool.places + kept, _mm512_maskz_compress_epi32(keep, places));
    kept += std::popcount(static_cast<uint32_t>(keep));
  }
  pool.count = kept;
}
#endif

}  // namespace

PoolKernels pool_kernels() {
  switch (isa_active()) {
#if defined(__x86_64__)
    case Isa::avx512vbmi:
    case Isa::avx512bw: return {narrow_avx512, floor_avx512};
    case Isa::avx2: return {narrow_baseline, floor_avx2};
#endif
    default: return {narrow_baseline, floor_baseline};
  }
}

}  // namespace pairec
