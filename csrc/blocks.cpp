#include "blocks.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "best.hpp"
#include "target.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::size_t;
using std::uint16_t;
using std::uint8_t;

// The smallest dot whose score may reach the run's floor: rounding apart, so one less. Rows below it are left out
// before they become scores.
int32_t least_dot(const Run& run) noexcept {
  if (run.weight != nullptr || run.bias != nullptr || run.floor == INT32_MIN) return INT32_MIN;
  const double dot = (static_cast<double>(score_of(run.floor)) - run.base) / run.scale;
  if (!(dot > -2e9)) return INT32_MIN;
  return dot < 2e9 ? static_cast<int32_t>(std::floor(dot)) - 1 : INT32_MAX;
}

// Turns the dots of the rows appended from `first` on into keys. Inlined, to be compiled for each level.
inline __attribute__((always_inline)) void finish(const Run& run, Pool& pool, int32_t first) noexcept {
  const float scale = run.scale, base = run.base, *weight = run.weight, *bias = run.bias;
  int32_t *keys = pool.keys, *places = pool.places;
  const int32_t count = pool.count, floor = run.floor;
  if (weight == nullptr && bias == nullptr) {
    for (int32_t i = first; i < count; ++i) keys[i] = ordered(static_cast<float>(keys[i]) * scale + base);
    return;
  }
  int32_t kept = first;
  for (int32_t i = first; i < count; ++i) {
    float score = static_cast<float>(keys[i]) * scale + base;
    if (weight != nullptr) score *= weight[places[i]];
    if (bias != nullptr) score += bias[places[i]];
    const int32_t key = ordered(score);
    keys[kept] = key;
    places[kept] = places[i];
    kept += key >= floor;
  }
  pool.count = kept;
}

inline __attribute__((always_inline)) void narrow(Pool& pool, int32_t floor) noexcept {
  int32_t kept = 0;
  for (int32_t i = 0; i < pool.count; ++i) {
    const int32_t key = pool.keys[i];
    pool.keys[kept] = key;
    pool.places[kept] = pool.places[i];
    kept += key >= floor;
  }
  pool.count = kept;
}

// Bisection, by value and then by bit: `low` is reached by enough, `high` is not.
template <bool kIsWeighted>
inline __attribute__((always_inline)) int32_t floor_by(const Pool& pool, const int32_t* weights, int32_t wanted,
                                                       int32_t slack) noexcept {
  int32_t low = INT32_MAX, most = INT32_MIN;
  for (int32_t i = 0; i < pool.count; ++i) {
    low = std::min(low, pool.keys[i]);
    most = std::max(most, pool.keys[i]);
  }
  std::int64_t high = std::int64_t{most} + 1;
  for (int turn = 0; high - low > 1; ++turn) {
    auto middle = static_cast<int32_t>((low + high) >> 1);
    if (turn < 16) {
      const int32_t between = ordered(0.5f * (score_of(low) + score_of(static_cast<int32_t>(high - 1))));
      if (between > low && between < high) middle = between;
    }
    int32_t sum = 0;
    for (int32_t i = 0; i < pool.count; ++i) sum += pool.keys[i] >= middle ? (kIsWeighted ? weights[i] : 1) : 0;
    if (sum < wanted) {
      high = middle;
    } else {
      low = middle;
      if (sum <= wanted + slack) break;
    }
  }
  return low;
}

inline __attribute__((always_inline)) int32_t floor_of(const Pool& pool, const int32_t* weights, int32_t wanted,
                                                       int32_t slack) noexcept {
  return weights == nullptr ? floor_by<false>(pool, weights, wanted, slack)
                            : floor_by<true>(pool, weights, wanted, slack);
}

size_t block_bytes(const Codes& codes, int bits) noexcept { return static_cast<size_t>(codes.quads) * (8 * bits); }

// --- baseline: what every machine has, and the meaning of the others

template <int kBits>
void dots_baseline(const Codes& codes, const uint8_t* block, int32_t* dots) noexcept {
  for (int32_t lane = 0; lane < block_lanes; ++lane) dots[lane] = 0;
  for (int32_t quad = 0; quad < codes.quads; ++quad) {
    const uint8_t* at = block + (kBits == 8 ? quad : quad / 2) * 64;
    const int shift = kBits == 4 && quad % 2 != 0 ? 4 : 0;
    const int8_t* query = codes.query + 4 * quad;
    for (int32_t lane = 0; lane < block_lanes; ++lane) {
      int32_t sum = 0;
      for (int dim = 0; dim < 4; ++dim) {
        const int32_t byte = at[4 * lane + dim];
        sum += query[dim] * (kBits == 8 ? byte - 128 : (byte >> shift) & 15);
      }
      dots[lane] += sum;
    }
  }
}

// Turns the dots of centres into keys, and numbers them. Inlined, to be compiled for each level.
inline __attribute__((always_inline)) void promise(const Centres& centres, int32_t* keys, int32_t* numbers) noexcept {
  const int32_t count = centres.blocks * block_lanes;
  if (float* const scores = centres.scores) {
    for (int32_t i = 0; i < count; ++i) scores[i] = static_cast<float>(keys[i]) * centres.scale + centres.base;
  }
  for (int32_t i = 0; i < count; ++i) {
    const float more = centres.deviations * centres.spread[i] - centres.square[i];
    keys[i] = ordered((static_cast<float>(keys[i]) * centres.scale + centres.base) + more);
    numbers[i] = centres.first + i;
  }
}

template <int kBits>
void promise_baseline(const Codes& codes, const Centres& centres, int32_t* keys, int32_t* numbers) noexcept {
  for (int32_t block = 0; block < centres.blocks; ++block)
    dots_baseline<kBits>(codes, centres.codes + block * block_bytes(codes, kBits), keys + block * block_lanes);
  promise(centres, keys, numbers);
}

// Turns the dots of mixed lanes into keys. Inlined, to be compiled for each level.
inline __attribute__((always_inline)) void finish(const Codes& codes, const Mixed& mixed, int32_t first, int32_t count,
                                                  float unit, const float* base, int32_t* keys) noexcept {
  const float middle = 7.5f * static_cast<float>(codes.sum), *scale = mixed.scale + first;
  const uint16_t* list = mixed.list + first;
  if (mixed.bias == nullptr) {
    for (int32_t i = 0; i < count; ++i)
      keys[i] = ordered((static_cast<float>(keys[i]) - middle) * (unit * scale[i]) + base[list[i]]);
    return;
  }
  const float* bias = mixed.bias + first;
  for (int32_t i = 0; i < count; ++i)
    keys[i] = ordered(((static_cast<float>(keys[i]) - middle) * (unit * scale[i]) + base[list[i]]) + bias[i]);
}

void mixed_baseline(const Codes& codes, const Mixed& mixed, int32_t block, int32_t count, float unit,
                    const float* base, int32_t* keys) noexcept {
  for (int32_t i = 0; i < count; ++i)
    dots_baseline<4>(codes, mixed.codes + (block + i) * block_bytes(codes, 4), keys + i * block_lanes);
  finish(codes, mixed, block * block_lanes, count * block_lanes, unit, base, keys);
}

// Appends the lanes of one block that count and reach `least`. Writes a whole block, whatever it keeps.
inline void append(const int32_t* dots, uint16_t lanes, int32_t least, int32_t place, Pool& pool) noexcept {
  for (int32_t lane = 0; lane < block_lanes; ++lane) {
    pool.keys[pool.count] = dots[lane];
    pool.places[pool.count] = place + lane;
    pool.count += (lanes >> lane & 1) & (dots[lane] >= least);
  }
}

template <int kBits>
void scan_baseline(const Codes& codes, const Run& run, Pool& pool) noexcept {
  const int32_t least = least_dot(run), first = pool.count;
  for (int32_t i = 0; i < run.count; ++i) {
    if (run.lanes[i] == 0) continue;
    int32_t dots[block_lanes];
    dots_baseline<kBits>(codes, run.codes + run.block[i] * block_bytes(codes, kBits), dots);
    append(dots, run.lanes[i], least, run.block[i] * block_lanes, pool);
  }
  finish(run, pool, first);
}

void narrow_baseline(Pool& pool, int32_t floor) noexcept { narrow(pool, floor); }
int32_t floor_baseline(const Pool& pool, const int32_t* weights, int32_t wanted, int32_t slack) noexcept {
  return floor_of(pool, weights, wanted, slack);
}

#if defined(__x86_64__)
// --- avx2: half a block a register. Codes are made signed and multiplied as |code| * (query with the code's sign):
// pairs of products then fit int16 without saturation, 2 * 127 * 127.

PAIREC_TARGET_AVX2 inline __m256i quad8_avx2(__m256i sum, __m256i bytes, __m256i query) noexcept {
  const __m256i code = _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(query, code));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

PAIREC_TARGET_AVX2 inline __m256i quad4_avx2(__m256i sum, __m256i nibbles, __m256i query) noexcept {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(nibbles, query), _mm256_set1_epi16(1)));
}

template <int kBits>
PAIREC_TARGET_AVX2 inline void dots_avx2(const Codes& codes, const uint8_t* block, int32_t* dots) noexcept {
  __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  const __m256i low = _mm256_set1_epi8(15);
  for (int32_t quad = 0; quad < codes.quads; quad += 2) {
    int32_t query[2];
    std::memcpy(query, codes.query + 4 * quad, 8);
    const __m256i even = _mm256_set1_epi32(query[0]), odd = _mm256_set1_epi32(query[1]);
    for (int half = 0; half < 2; ++half) {
      const auto* at = reinterpret_cast<const __m256i*>(block + quad * (8 * kBits)) + half;
      if constexpr (kBits == 8) {
        sum[half] = quad8_avx2(sum[half], _mm256_loadu_si256(at), even);
        sum[half] = quad8_avx2(sum[half], _mm256_loadu_si256(at + 2), odd);
      } else {
        const __m256i both = _mm256_loadu_si256(at);
        sum[half] = quad4_avx2(sum[half], _mm256_and_si256(both, low), even);
        sum[half] = quad4_avx2(sum[half], _mm256_and_si256(_mm256_srli_epi16(both, 4), low), odd);
      }
    }
  }
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(dots), sum[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(dots) + 1, sum[1]);
}

template <int kBits>
PAIREC_TARGET_AVX2 void promise_avx2(const Codes& codes, const Centres& centres, int32_t* keys,
                                     int32_t* numbers) noexcept {
  for (int32_t block = 0; block < centres.blocks; ++block)
    dots_avx2<kBits>(codes, centres.codes + block * block_bytes(codes, kBits), keys + block * block_lanes);
  promise(centres, keys, numbers);
}

PAIREC_TARGET_AVX2 void mixed_avx2(const Codes& codes, const Mixed& mixed, int32_t block, int32_t count, float unit,
                                   const float* base, int32_t* keys) noexcept {
  for (int32_t i = 0; i < count; ++i)
    dots_avx2<4>(codes, mixed.codes + (block + i) * block_bytes(codes, 4), keys + i * block_lanes);
  finish(codes, mixed, block * block_lanes, count * block_lanes, unit, base, keys);
}

PAIREC_TARGET_AVX2 inline uint32_t reach_avx2(const int32_t* keys, __m256i below) noexcept {
  const __m256i is_above = _mm256_cmpgt_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys)), below);
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_above)));
}

template <int kBits>
PAIREC_TARGET_AVX2 void scan_avx2(const Codes& codes, const Run& run, Pool& pool) noexcept {
  const int32_t least = least_dot(run), first = pool.count;
  const __m256i below = _mm256_set1_epi32(least == INT32_MIN ? least : least - 1);
  const size_t bytes = block_bytes(codes, kBits);
  for (int32_t i = 0; i < run.count; ++i) {
    const uint8_t* ahead = run.codes + run.ahead[i] * bytes;
    for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2);
    if (run.lanes[i] == 0) continue;
    int32_t dots[block_lanes];
    dots_avx2<kBits>(codes, run.codes + run.block[i] * bytes, dots);
    uint32_t lanes = (reach_avx2(dots, below) | reach_avx2(dots + 8, below) << 8) & run.lanes[i];
    for (; lanes != 0; lanes &= lanes - 1) {
      const int32_t lane = std::countr_zero(lanes);
      pool.keys[pool.count] = dots[lane];
      pool.places[pool.count++] = run.block[i] * block_lanes + lane;
    }
  }
  finish(run, pool, first);
}

PAIREC_TARGET_AVX2 int32_t floor_avx2(const Pool& pool, const int32_t* weights, int32_t wanted,
                                      int32_t slack) noexcept {
  return floor_of(pool, weights, wanted, slack);
}

// --- avx512: a block a register. `Vnni` says whether four products are summed by one instruction.

#define PAIREC_BLOCKS_512(LEVEL, TARGET)                                                                              \
  /* Four blocks, or one: each half of its codes has a sum of its own, so that no sum waits for the one before. */    \
  template <int kBits, int kBlocks>                                                                                   \
  TARGET inline void dots_##LEVEL(const Codes& codes, const uint8_t* const* blocks, __m512i* dots) noexcept {         \
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(char(0xF0));                                    \
    __m512i even[kBlocks], odd[kBlocks];                                                                              \
    _Pragma("GCC unroll 4") for (int b = 0; b < kBlocks; ++b) even[b] = odd[b] = _mm512_setzero_si512();              \
    for (int32_t quad = 0; quad < codes.quads; quad += 2) {                                                           \
      int32_t query[2];                                                                                               \
      std::memcpy(query, codes.query + 4 * quad, 8);                                                                  \
      const __m512i first = _mm512_set1_epi32(query[0]), second = _mm512_set1_epi32(query[1]);                        \
      _Pragma("GCC unroll 4") for (int b = 0; b < kBlocks; ++b) {                                                     \
        const uint8_t* at = blocks[b] + quad * (8 * kBits);                                                           \
        if constexpr (kBits == 8) {                                                                                   \
          even[b] = quad8_##LEVEL(even[b], _mm512_loadu_si512(at), first);                                            \
          odd[b] = quad8_##LEVEL(odd[b], _mm512_loadu_si512(at + 64), second);                                        \
        } else {                                                                                                      \
          const __m512i both = _mm512_loadu_si512(at);                                                                \
          even[b] = quad4_##LEVEL(even[b], _mm512_and_si512(both, low), first);                                       \
          odd[b] = quad4_##LEVEL(odd[b], nibbles_##LEVEL(_mm512_and_si512(both, high)), second);                      \
        }                                                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
    _Pragma("GCC unroll 4") for (int b = 0; b < kBlocks; ++b) dots[b] =                                               \
        kBits == 8 ? total8_##LEVEL(codes, even[b], odd[b]) : total4_##LEVEL(even[b], odd[b]);                        \
  }                                                                                                                   \
  template <int kBits>                                                                                                \
  TARGET inline void all_dots_##LEVEL(const Codes& codes, const uint8_t* blocks, int32_t count,                       \
                                      int32_t* dots) noexcept {                                                       \
    const size_t bytes = block_bytes(codes, kBits);                                                                   \
    int32_t block = 0;                                                                                                \
    for (; block + 4 <= count; block += 4) {                                                                          \
      const uint8_t* first = blocks + block * bytes;                                                                  \
      const uint8_t* at[4] = {first, first + bytes, first + 2 * bytes, first + 3 * bytes};                            \
      __m512i sums[4];                                                                                                \
      dots_##LEVEL<kBits, 4>(codes, at, sums);                                                                        \
      for (int b = 0; b < 4; ++b) _mm512_storeu_si512(dots + (block + b) * block_lanes, sums[b]);                     \
    }                                                                                                                 \
    for (; block < count; ++block) {                                                                                  \
      const uint8_t* at = blocks + block * bytes;                                                                     \
      __m512i sum;                                                                                                    \
      dots_##LEVEL<kBits, 1>(codes, &at, &sum);                                                                       \
      _mm512_storeu_si512(dots + block * block_lanes, sum);                                                           \
    }                                                                                                                 \
  }                                                                                                                   \
  template <int kBits>                                                                                                \
  TARGET void promise_##LEVEL(const Codes& codes, const Centres& centres, int32_t* keys, int32_t* numbers) noexcept { \
    all_dots_##LEVEL<kBits>(codes, centres.codes, centres.blocks, keys);                                              \
    promise(centres, keys, numbers);                                                                                  \
  }                                                                                                                   \
  TARGET void mixed_##LEVEL(const Codes& codes, const Mixed& mixed, int32_t block, int32_t count, float unit,         \
                            const float* base, int32_t* keys) noexcept {                                              \
    all_dots_##LEVEL<4>(codes, mixed.codes + block * block_bytes(codes, 4), count, keys);                             \
    finish(codes, mixed, block * block_lanes, count * block_lanes, unit, base, keys);                                 \
  }                                                                                                                   \
  /* Of the lanes, those whose scores reach the floor, where each has a weight or a bias of its own. */               \
  TARGET inline __mmask16 reach_##LEVEL(const Run& run, __m512i dots, __mmask16 lanes, int32_t place) noexcept {      \
    __m512 score = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dots), _mm512_set1_ps(run.scale)),                  \
                                 _mm512_set1_ps(run.base));                                                           \
    if (run.weight != nullptr) score = _mm512_mul_ps(score, _mm512_loadu_ps(run.weight + place));                     \
    if (run.bias != nullptr) score = _mm512_add_ps(score, _mm512_loadu_ps(run.bias + place));                         \
    return _mm512_mask_cmp_ps_mask(lanes, score, _mm512_set1_ps(score_of(run.floor)), _CMP_GE_OQ);                    \
  }                                                                                                                   \
  TARGET inline void append_##LEVEL(const Run& run, bool is_even, __m512i dots, __mmask16 lanes, __m512i least,       \
                                    __m512i lane, int32_t place, Pool& pool) noexcept {                               \
    const __m512i places = _mm512_add_epi32(_mm512_set1_epi32(place), lane);                                          \
    const __mmask16 kept = is_even ? _mm512_mask_cmpge_epi32_mask(lanes, dots, least)                                 \
                                   : reach_##LEVEL(run, dots, lanes, place);                                          \
    _mm512_storeu_si512(pool.keys + pool.count, _mm512_maskz_compress_epi32(kept, dots));                             \
    _mm512_storeu_si512(pool.places + pool.count, _mm512_maskz_compress_epi32(kept, places));                         \
    pool.count += std::popcount(static_cast<uint32_t>(kept));                                                         \
  }                                                                                                                   \
  /* Up to 64 dims: the query stays in registers. */                                                                  \
  template <int kBits, int kQuads>                                                                                    \
  TARGET void scan_few_##LEVEL(const Codes& codes, const Run& run, Pool& pool) noexcept {                             \
    constexpr size_t bytes = kQuads * 8 * kBits;                                                                      \
    const int32_t first = pool.count;                                                                                 \
    const bool is_even = (run.weight == nullptr && run.bias == nullptr) || run.floor == INT32_MIN;                    \
    const __m512i least = _mm512_set1_epi32(least_dot(run));                                                          \
    const __m512i low = _mm512_set1_epi8(15), high = _mm512_set1_epi8(char(0xF0));                                    \
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);                      \
    __m512i query[kQuads];                                                                                            \
    _Pragma("GCC unroll 16") for (int quad = 0; quad < kQuads; ++quad) {                                              \
      int32_t four;                                                                                                   \
      std::memcpy(&four, codes.query + 4 * quad, 4);                                                                  \
      query[quad] = _mm512_set1_epi32(four);                                                                          \
    }                                                                                                                 \
    Pool out = pool;                                                                                                  \
    for (int32_t i = 0; i < run.count; ++i) {                                                                         \
      const uint8_t* at = run.codes + run.block[i] * bytes;                                                           \
      const uint8_t* ahead = run.codes + run.ahead[i] * bytes;                                                        \
      _Pragma("GCC unroll 16") for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2); \
      if (run.lanes[i] == 0) continue;                                                                                \
      __m512i even = _mm512_setzero_si512(), odd = even;                                                              \
      _Pragma("GCC unroll 16") for (int quad = 0; quad < kQuads; quad += 2) {                                         \
        if constexpr (kBits == 8) {                                                                                   \
          even = quad8_##LEVEL(even, _mm512_loadu_si512(at + quad * 64), query[quad]);                                \
          odd = quad8_##LEVEL(odd, _mm512_loadu_si512(at + quad * 64 + 64), query[quad + 1]);                         \
        } else {                                                                                                      \
          const __m512i both = _mm512_loadu_si512(at + quad * 32);                                                    \
          even = quad4_##LEVEL(even, _mm512_and_si512(both, low), query[quad]);                                       \
          odd = quad4_##LEVEL(odd, nibbles_##LEVEL(_mm512_and_si512(both, high)), query[quad + 1]);                   \
        }                                                                                                             \
      }                                                                                                               \
      const __m512i dots = kBits == 8 ? total8_##LEVEL(codes, even, odd) : total4_##LEVEL(even, odd);                 \
      append_##LEVEL(run, is_even, dots, run.lanes[i], least, lane, block_lanes * run.block[i], out);                 \
    }                                                                                                                 \
    pool.count = out.count;                                                                                           \
    finish(run, pool, first);                                                                                         \
  }                                                                                                                   \
  template <int kBits>                                                                                                \
  TARGET void scan_many_##LEVEL(const Codes& codes, const Run& run, Pool& pool) noexcept {                            \
    const size_t bytes = block_bytes(codes, kBits);                                                                   \
    const int32_t first = pool.count;                                                                                 \
    const bool is_even = (run.weight == nullptr && run.bias == nullptr) || run.floor == INT32_MIN;                    \
    const __m512i least = _mm512_set1_epi32(least_dot(run));                                                          \
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);                      \
    Pool out = pool;                                                                                                  \
    for (int32_t i = 0; i < run.count; i += 4) {                                                                      \
      const int32_t some = std::min(run.count - i, 4);                                                                \
      const uint8_t* at[4];                                                                                           \
      for (int32_t b = 0; b < some; ++b) {                                                                            \
        at[b] = run.codes + run.block[i + b] * bytes;                                                                 \
        const uint8_t* ahead = run.codes + run.ahead[i + b] * bytes;                                                  \
        for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(ahead + line, 0, 2);                       \
      }                                                                                                               \
      uint64_t lanes = 0;                                                                                             \
      std::memcpy(&lanes, run.lanes + i, 2 * some);                                                                   \
      __m512i dots[4];                                                                                                \
      if (some == 4 && lanes != 0) dots_##LEVEL<kBits, 4>(codes, at, dots);                                           \
      for (int32_t b = 0; b < some; ++b, lanes >>= 16) {                                                              \
        if (__mmask16(lanes) == 0) continue;                                                                          \
        if (some < 4) dots_##LEVEL<kBits, 1>(codes, at + b, dots + b);                                                \
        append_##LEVEL(run, is_even, dots[b], __mmask16(lanes), least, lane, block_lanes * run.block[i + b], out);    \
      }                                                                                                               \
    }                                                                                                                 \
    pool.count = out.count;                                                                                           \
    finish(run, pool, first);                                                                                         \
  }                                                                                                                   \
  template <int kBits>                                                                                                \
  TARGET void scan_##LEVEL(const Codes& codes, const Run& run, Pool& pool) noexcept {                                 \
    switch (codes.quads) {                                                                                            \
      case 2: return scan_few_##LEVEL<kBits, 2>(codes, run, pool);                                                    \
      case 4: return scan_few_##LEVEL<kBits, 4>(codes, run, pool);                                                    \
      case 6: return scan_few_##LEVEL<kBits, 6>(codes, run, pool);                                                    \
      case 8: return scan_few_##LEVEL<kBits, 8>(codes, run, pool);                                                    \
      case 10: return scan_few_##LEVEL<kBits, 10>(codes, run, pool);                                                  \
      case 12: return scan_few_##LEVEL<kBits, 12>(codes, run, pool);                                                  \
      case 14: return scan_few_##LEVEL<kBits, 14>(codes, run, pool);                                                  \
      case 16: return scan_few_##LEVEL<kBits, 16>(codes, run, pool);                                                  \
      default: return scan_many_##LEVEL<kBits>(codes, run, pool);                                                     \
    }                                                                                                                 \
  }                                                                                                                   \
  TARGET void narrow_##LEVEL(Pool& pool, int32_t floor) noexcept {                                                    \
    const __m512i floors = _mm512_set1_epi32(floor);                                                                  \
    int32_t kept = 0;                                                                                                 \
    for (int32_t i = 0; i < pool.count; i += 16) {                                                                    \
      const __mmask16 rest = pool.count - i < 16 ? __mmask16((1u << (pool.count - i)) - 1) : __mmask16(0xFFFF);       \
      const __m512i keys = _mm512_loadu_si512(pool.keys + i), places = _mm512_loadu_si512(pool.places + i);           \
      const __mmask16 keep = _mm512_mask_cmpge_epi32_mask(rest, keys, floors);                                        \
      _mm512_storeu_si512(pool.keys + kept, _mm512_maskz_compress_epi32(keep, keys));                                 \
      _mm512_storeu_si512(pool.places + kept, _mm512_maskz_compress_epi32(keep, places));                             \
      kept += std::popcount(static_cast<uint32_t>(keep));                                                             \
    }                                                                                                                 \
    pool.count = kept;                                                                                                \
  }                                                                                                                   \
  TARGET int32_t floor_##LEVEL(const Pool& pool, const int32_t* weights, int32_t wanted, int32_t slack) noexcept {    \
    return floor_of(pool, weights, wanted, slack);                                                                    \
  }

PAIREC_TARGET_AVX512 inline __m512i quad8_avx512(__m512i sum, __m512i bytes, __m512i query) noexcept {
  const __m512i code = _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
  const __m512i turned = _mm512_mask_sub_epi8(query, _mm512_movepi8_mask(code), _mm512_setzero_si512(), query);
  const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(code), turned);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
PAIREC_TARGET_AVX512 inline __m512i quad4_avx512(__m512i sum, __m512i nibbles, __m512i query) noexcept {
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(nibbles, query), _mm512_set1_epi16(1)));
}
PAIREC_TARGET_AVX512 inline __m512i nibbles_avx512(__m512i high) noexcept { return _mm512_srli_epi16(high, 4); }
PAIREC_TARGET_AVX512 inline __m512i total8_avx512(const Codes&, __m512i even, __m512i odd) noexcept {
  return _mm512_add_epi32(even, odd);
}
PAIREC_TARGET_AVX512 inline __m512i total4_avx512(__m512i even, __m512i odd) noexcept {
  return _mm512_add_epi32(even, odd);
}
PAIREC_BLOCKS_512(avx512, PAIREC_TARGET_AVX512)

PAIREC_TARGET_VBMI inline __m512i quad8_vnni(__m512i sum, __m512i bytes, __m512i query) noexcept {
  return _mm512_dpbusd_epi32(sum, bytes, query);
}
PAIREC_TARGET_VBMI inline __m512i quad4_vnni(__m512i sum, __m512i nibbles, __m512i query) noexcept {
  return _mm512_dpbusd_epi32(sum, nibbles, query);
}
// The high nibbles stay where they are: their sum is 16 times what it should be, and is shifted once.
PAIREC_TARGET_VBMI inline __m512i nibbles_vnni(__m512i high) noexcept { return high; }
PAIREC_TARGET_VBMI inline __m512i total8_vnni(const Codes& codes, __m512i even, __m512i odd) noexcept {
  return _mm512_sub_epi32(_mm512_add_epi32(even, odd), _mm512_set1_epi32(128 * codes.sum));
}
PAIREC_TARGET_VBMI inline __m512i total4_vnni(__m512i even, __m512i odd) noexcept {
  return _mm512_add_epi32(even, _mm512_srai_epi32(odd, 4));
}
PAIREC_BLOCKS_512(vnni, PAIREC_TARGET_VBMI)
#endif

}  // namespace

BlockKernels block_kernels() {
  switch (isa_active()) {
#if defined(__x86_64__)
    case Isa::avx512vbmi:
      return {promise_vnni<8>, promise_vnni<4>, scan_vnni<8>, scan_vnni<4>, mixed_vnni, narrow_vnni, floor_vnni};
    case Isa::avx512bw:
      return {promise_avx512<8>, promise_avx512<4>, scan_avx512<8>, scan_avx512<4>, mixed_avx512, narrow_avx512,
              floor_avx512};
    case Isa::avx2:
      return {promise_avx2<8>, promise_avx2<4>, scan_avx2<8>, scan_avx2<4>, mixed_avx2, narrow_baseline, floor_avx2};
#endif
    default:
      return {promise_baseline<8>, promise_baseline<4>, scan_baseline<8>, scan_baseline<4>, mixed_baseline,
              narrow_baseline, floor_baseline};
  }
}

}  // namespace pairec
