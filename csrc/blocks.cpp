#include "blocks.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "best.hpp"
#include "target.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::size_t;
using std::uint16_t;
using std::uint8_t;

constexpr int32_t ahead_bytes = 12 << 10;  // asked for before they are scanned: L1 has room for more
constexpr int32_t lists_ahead = 4;         // of a promise, whose centres are asked for

// What makes scores of dots: flat, by list, or by lane.
enum class Form { flat, list, mixed };
constexpr int bits_of(Form form) { return form == Form::flat ? 8 : 4; }
template <Form kForm>
using ScanOf = std::conditional_t<kForm == Form::mixed, Mixed, Scan>;

size_t block_bytes(const Codes& codes, int bits) noexcept { return static_cast<size_t>(codes.quads) * (8 * bits); }

// How many blocks before its turn a block is asked for.
constexpr int32_t ahead_of(size_t bytes) noexcept {
  return std::clamp(static_cast<int32_t>(ahead_bytes / bytes), 1, blocks_ahead);
}

inline void ask_for(const Centres& centres, int32_t list, size_t bytes) noexcept {
  const uint8_t *at = centres.codes, *end = at + centres.block[list + 1] * bytes;
  for (at += centres.block[list] * bytes; at < end; at += 64) __builtin_prefetch(at);
}

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

// What some lanes of centres promise, and their numbers. Inlined, to be compiled for each level.
inline __attribute__((always_inline)) void promise(const Centres& centres, int32_t list, int32_t number,
                                                   const int32_t* dots, int32_t* keys, int32_t* numbers) noexcept {
  const float scale = centres.unit * centres.scale[list], base = centres.base[list];
  for (int32_t i = 0; i < block_lanes; ++i) {
    const float score = (static_cast<float>(dots[i]) - centres.middle) * scale + base;
    if (centres.scores != nullptr) centres.scores[number + i] = score;
    keys[i] = ordered(score + (centres.deviations * centres.spread[number + i] - centres.square[number + i]));
    numbers[i] = number + i;
  }
}

// As BlockKernels says, by what makes dots of a block. Inlined, to be compiled for each level.
template <int kBits, auto kDots>
inline __attribute__((always_inline)) int32_t promise_all(const Codes& codes, const Centres& centres,
                                                          const int32_t* lists, int32_t count, int32_t* keys,
                                                          int32_t* numbers) noexcept {
  const size_t bytes = block_bytes(codes, kBits);
  int32_t written = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t list = lists[i], first = centres.block[list], end = centres.block[list + 1];
    if (i + lists_ahead < count) ask_for(centres, lists[i + lists_ahead], bytes);
    for (int32_t block = first; block < end; ++block) {
      const int32_t lane = (block - first) * block_lanes, at = written + lane;
      int32_t dots[block_lanes];
      kDots(codes, centres.codes + block * bytes, dots);
      promise(centres, list, centres.first[list] + lane, dots, keys + at, numbers + at);
    }
    written += centres.first[list + 1] - centres.first[list];
  }
  return written;
}

// Turns the dots of a block into keys. Inlined, to be compiled for each level.
template <Form kForm>
inline __attribute__((always_inline)) void score(const ScanOf<kForm>& scan, int32_t block, int32_t* keys) noexcept {
  const int32_t first = block * block_lanes;
  float scores[block_lanes];
  if constexpr (kForm == Form::flat) {
    const float unit = scan.unit, base = scan.base, *scale = scan.scale + first;
    for (int32_t i = 0; i < block_lanes; ++i) scores[i] = (static_cast<float>(keys[i]) * unit + base) * scale[i];
  } else if constexpr (kForm == Form::list) {
    const int32_t list = scan.list[block];
    const float scale = scan.unit * scan.scale[list], base = scan.bases[list], middle = scan.middle;
    for (int32_t i = 0; i < block_lanes; ++i) scores[i] = (static_cast<float>(keys[i]) - middle) * scale + base;
  } else {
    const float unit = scan.unit, middle = scan.middle, *scale = scan.scale + first;
    for (int32_t i = 0; i < block_lanes; ++i)
      scores[i] = (static_cast<float>(keys[i]) - middle) * (unit * scale[i]) + scan.bases[scan.list[first + i]];
  }
  if (scan.bias != nullptr) {
    for (int32_t i = 0; i < block_lanes; ++i) scores[i] += scan.bias[first + i];
  }
  for (int32_t i = 0; i < block_lanes; ++i) keys[i] = ordered(scores[i]);
}

inline unsigned reach_baseline(const int32_t* keys, int32_t floor) noexcept {
  unsigned lanes = 0;
  for (int32_t i = 0; i < block_lanes; ++i) lanes |= unsigned{keys[i] >= floor} << i;
  return lanes;
}

template <Form kForm, auto kDots, auto kReach>
inline __attribute__((always_inline)) int32_t scan_all(const Codes& codes, const ScanOf<kForm>& scan,
                                                       Pool& pool) noexcept {
  const size_t bytes = block_bytes(codes, bits_of(kForm));
  const int32_t ahead = ahead_of(bytes);
  int32_t i = 0;
  for (; i < scan.count && pool.count <= pool.capacity - block_lanes; ++i) {
    const uint8_t* next = scan.codes + scan.block[i + ahead] * bytes;
    for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(next + line, 0, 2);
    const int32_t block = scan.block[i];
    unsigned lanes = scan.places.lanes(block);
    if (lanes == 0) continue;
    int32_t keys[block_lanes];
    kDots(codes, scan.codes + block * bytes, keys);
    score<kForm>(scan, block, keys);
    for (lanes &= kReach(keys, scan.floor); lanes != 0; lanes &= lanes - 1) {
      const int32_t lane = std::countr_zero(lanes);
      int32_t place = block * block_lanes + lane;
      if constexpr (kForm == Form::mixed) place = scan.place[place];
      pool.keys[pool.count] = keys[lane];
      pool.places[pool.count++] = place;
    }
  }
  return i;
}

template <int kBits>
int32_t promise_baseline(const Codes& codes, const Centres& centres, const int32_t* lists, int32_t count,
                         int32_t* keys, int32_t* numbers) noexcept {
  return promise_all<kBits, dots_baseline<kBits>>(codes, centres, lists, count, keys, numbers);
}

template <Form kForm>
int32_t scan_baseline(const Codes& codes, const ScanOf<kForm>& scan, Pool& pool) noexcept {
  return scan_all<kForm, dots_baseline<bits_of(kForm)>, reach_baseline>(codes, scan, pool);
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
PAIREC_TARGET_AVX2 int32_t promise_avx2(const Codes& codes, const Centres& centres, const int32_t* lists,
                                        int32_t count, int32_t* keys, int32_t* numbers) noexcept {
  return promise_all<kBits, dots_avx2<kBits>>(codes, centres, lists, count, keys, numbers);
}

PAIREC_TARGET_AVX2 inline unsigned reach_avx2(const int32_t* keys, int32_t floor) noexcept {
  const auto below = [=](const int32_t* eight) PAIREC_TARGET_AVX2 {
    const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(eight));
    const __m256i lanes = _mm256_cmpgt_epi32(_mm256_set1_epi32(floor), at);
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(lanes)));
  };
  return ~(below(keys) | below(keys + 8) << 8);
}

template <Form kForm>
PAIREC_TARGET_AVX2 int32_t scan_avx2(const Codes& codes, const ScanOf<kForm>& scan, Pool& pool) noexcept {
  return scan_all<kForm, dots_avx2<bits_of(kForm)>, reach_avx2>(codes, scan, pool);
}

// --- avx512: a block a register. Of its two levels, `vnni` sums four products by one instruction.

// Calls `with` the number of quads as a constant where the query fits the registers, else with 0.
template <int kQuads = 16, typename With>
inline int32_t by_quads(int32_t quads, const With& with) noexcept {
  if constexpr (kQuads != 0)
    if (quads != kQuads) return by_quads<kQuads - 2>(quads, with);
  return with(std::integral_constant<int, kQuads>());
}

#define PAIREC_BLOCKS_512(LEVEL, TARGET)                                                                              \
  /* Up to 64 dims kQuads says how many, and the query stays in registers; else it is 0. */                           \
  template <int kQuads>                                                                                               \
  TARGET inline void load_##LEVEL(const Codes& codes, __m512i* query) noexcept {                                      \
    _Pragma("GCC unroll 16") for (int quad = 0; quad < kQuads; ++quad) {                                              \
      int32_t four;                                                                                                   \
      std::memcpy(&four, codes.query + 4 * quad, 4);                                                                  \
      query[quad] = _mm512_set1_epi32(four);                                                                          \
    }                                                                                                                 \
  }                                                                                                                   \
  template <int kBits>                                                                                                \
  TARGET inline void pair_##LEVEL(const uint8_t* at, __m512i first, __m512i second, __m512i& even,                    \
                                  __m512i& odd) noexcept {                                                            \
    if constexpr (kBits == 8) {                                                                                       \
      even = quad8_##LEVEL(even, _mm512_loadu_si512(at), first);                                                      \
      odd = quad8_##LEVEL(odd, _mm512_loadu_si512(at + 64), second);                                                  \
    } else {                                                                                                          \
      const __m512i both = _mm512_loadu_si512(at);                                                                    \
      even = quad4_##LEVEL(even, _mm512_and_si512(both, _mm512_set1_epi8(15)), first);                                \
      const __m512i high = _mm512_and_si512(both, _mm512_set1_epi8(char(0xF0)));                                      \
      odd = quad4_##LEVEL(odd, nibbles_##LEVEL(high), second);                                                        \
    }                                                                                                                 \
  }                                                                                                                   \
  template <int kBits, int kQuads>                                                                                    \
  TARGET inline __m512i dots_##LEVEL(const Codes& codes, const __m512i* query, const uint8_t* at) noexcept {          \
    __m512i even = _mm512_setzero_si512(), odd = even;                                                                \
    if constexpr (kQuads != 0) {                                                                                      \
      _Pragma("GCC unroll 16") for (int quad = 0; quad < kQuads; quad += 2)                                           \
          pair_##LEVEL<kBits>(at + quad * (8 * kBits), query[quad], query[quad + 1], even, odd);                      \
    } else {                                                                                                          \
      /* Two sums of each, so that none waits for the one before. */                                                  \
      __m512i even2 = even, odd2 = even;                                                                              \
      const auto at_quad = [&](int32_t quad, __m512i& sum, __m512i& sum2) TARGET {                                    \
        int32_t four[2];                                                                                              \
        std::memcpy(four, codes.query + 4 * quad, 8);                                                                 \
        pair_##LEVEL<kBits>(at + quad * (8 * kBits), _mm512_set1_epi32(four[0]), _mm512_set1_epi32(four[1]), sum,     \
                            sum2);                                                                                    \
      };                                                                                                              \
      int32_t quad = 0;                                                                                               \
      for (; quad + 4 <= codes.quads; quad += 4) {                                                                    \
        at_quad(quad, even, odd);                                                                                     \
        at_quad(quad + 2, even2, odd2);                                                                               \
      }                                                                                                               \
      if (quad < codes.quads) at_quad(quad, even, odd);                                                               \
      even = _mm512_add_epi32(even, even2);                                                                           \
      odd = _mm512_add_epi32(odd, odd2);                                                                              \
    }                                                                                                                 \
    return kBits == 8 ? total8_##LEVEL(codes, even, odd) : total4_##LEVEL(even, odd);                                 \
  }                                                                                                                   \
  TARGET inline __m512i ordered_##LEVEL(__m512 score) noexcept {                                                      \
    const __m512i bits = _mm512_castps_si512(_mm512_add_ps(score, _mm512_setzero_ps()));                              \
    return _mm512_xor_si512(bits, _mm512_and_si512(_mm512_srai_epi32(bits, 31), _mm512_set1_epi32(0x7FFFFFFF)));      \
  }                                                                                                                   \
  template <int kBits, int kQuads>                                                                                    \
  TARGET int32_t promise_few_##LEVEL(const Codes& codes, const Centres& centres, const int32_t* lists, int32_t count, \
                                     int32_t* keys, int32_t* numbers) noexcept {                                      \
    const size_t bytes = block_bytes(codes, kBits);                                                                   \
    __m512i query[kQuads + 1];                                                                                        \
    load_##LEVEL<kQuads>(codes, query);                                                                               \
    const Centres c = centres;                                                                                        \
    const __m512 middle = _mm512_set1_ps(c.middle), deviations = _mm512_set1_ps(c.deviations);                        \
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);                      \
    int32_t written = 0;                                                                                              \
    for (int32_t i = 0; i < count; ++i) {                                                                             \
      const int32_t list = lists[i], first = c.first[list];                                                           \
      if (i + lists_ahead < count) ask_for(c, lists[i + lists_ahead], bytes);                                         \
      const __m512 scale = _mm512_set1_ps(c.unit * c.scale[list]), base = _mm512_set1_ps(c.base[list]);               \
      for (int32_t block = c.block[list], number = first; block < c.block[list + 1]; ++block, number += block_lanes) {\
        const __m512i dots = dots_##LEVEL<kBits, kQuads>(codes, query, c.codes + block * bytes);                      \
        const __m512 dot = _mm512_sub_ps(_mm512_cvtepi32_ps(dots), middle);                                           \
        const __m512 score = _mm512_add_ps(_mm512_mul_ps(dot, scale), base);                                          \
        if (c.scores != nullptr) _mm512_storeu_ps(c.scores + number, score);                                          \
        const __m512 more = _mm512_sub_ps(_mm512_mul_ps(deviations, _mm512_loadu_ps(c.spread + number)),              \
                                          _mm512_loadu_ps(c.square + number));                                        \
        const int32_t at = written + number - first;                                                                  \
        _mm512_storeu_si512(keys + at, ordered_##LEVEL(_mm512_add_ps(score, more)));                                  \
        _mm512_storeu_si512(numbers + at, _mm512_add_epi32(_mm512_set1_epi32(number), lane));                         \
      }                                                                                                               \
      written += c.first[list + 1] - first;                                                                           \
    }                                                                                                                 \
    return written;                                                                                                   \
  }                                                                                                                   \
  template <Form kForm>                                                                                               \
  TARGET inline __m512 score_##LEVEL(const ScanOf<kForm>& scan, __m512i dots, int32_t block) noexcept {               \
    const int32_t first = block * block_lanes;                                                                        \
    __m512 score = _mm512_cvtepi32_ps(dots);                                                                          \
    if constexpr (kForm == Form::flat) {                                                                              \
      score = _mm512_add_ps(_mm512_mul_ps(score, _mm512_set1_ps(scan.unit)), _mm512_set1_ps(scan.base));              \
      score = _mm512_mul_ps(score, _mm512_loadu_ps(scan.scale + first));                                              \
    } else {                                                                                                          \
      __m512 scale, base;                                                                                             \
      if constexpr (kForm == Form::list) {                                                                            \
        const int32_t list = scan.list[block];                                                                        \
        scale = _mm512_set1_ps(scan.unit * scan.scale[list]);                                                         \
        base = _mm512_set1_ps(scan.bases[list]);                                                                      \
      } else {                                                                                                        \
        const auto* list = reinterpret_cast<const __m256i*>(scan.list + first);                                       \
        scale = _mm512_mul_ps(_mm512_set1_ps(scan.unit), _mm512_loadu_ps(scan.scale + first));                        \
        base = _mm512_i32gather_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(list)), scan.bases, 4);                   \
      }                                                                                                               \
      score = _mm512_add_ps(_mm512_mul_ps(_mm512_sub_ps(score, _mm512_set1_ps(scan.middle)), scale), base);           \
    }                                                                                                                 \
    return scan.bias != nullptr ? _mm512_add_ps(score, _mm512_loadu_ps(scan.bias + first)) : score;                   \
  }                                                                                                                   \
  template <Form kForm, int kQuads>                                                                                   \
  TARGET int32_t scan_few_##LEVEL(const Codes& codes, const ScanOf<kForm>& of, Pool& pool) noexcept {                 \
    constexpr int bits = bits_of(kForm);                                                                              \
    const size_t bytes = kQuads != 0 ? kQuads * 8 * bits : block_bytes(codes, bits);                                  \
    const int32_t ahead = ahead_of(bytes);                                                                            \
    __m512i query[kQuads + 1];                                                                                        \
    load_##LEVEL<kQuads>(codes, query);                                                                               \
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);                      \
    const __m512i floor = _mm512_set1_epi32(of.floor);                                                                \
    const ScanOf<kForm> scan = of;                                                                                    \
    Pool out = pool;                                                                                                  \
    int32_t i = 0;                                                                                                    \
    for (; i < scan.count && out.count <= out.capacity - block_lanes; ++i) {                                          \
      const uint8_t* next = scan.codes + scan.block[i + ahead] * bytes;                                               \
      _Pragma("GCC unroll 16") for (size_t line = 0; line < bytes; line += 64) __builtin_prefetch(next + line, 0, 2); \
      const int32_t block = scan.block[i];                                                                            \
      const auto lanes = __mmask16(scan.places.lanes(block));                                                         \
      if (lanes == 0) continue;                                                                                       \
      const __m512i dots = dots_##LEVEL<bits, kQuads>(codes, query, scan.codes + block * bytes);                      \
      const __m512i keys = ordered_##LEVEL(score_##LEVEL<kForm>(scan, dots, block));                                  \
      const __mmask16 kept = _mm512_mask_cmpge_epi32_mask(lanes, keys, floor);                                        \
      __m512i places;                                                                                                 \
      if constexpr (kForm == Form::mixed)                                                                             \
        places = _mm512_loadu_si512(scan.place + block * block_lanes);                                                \
      else                                                                                                            \
        places = _mm512_add_epi32(_mm512_set1_epi32(block * block_lanes), lane);                                      \
      _mm512_storeu_si512(out.keys + out.count, _mm512_maskz_compress_epi32(kept, keys));                             \
      _mm512_storeu_si512(out.places + out.count, _mm512_maskz_compress_epi32(kept, places));                         \
      out.count += std::popcount(static_cast<uint32_t>(kept));                                                        \
    }                                                                                                                 \
    pool.count = out.count;                                                                                           \
    return i;                                                                                                         \
  }                                                                                                                   \
  template <int kBits>                                                                                                \
  TARGET int32_t promise_##LEVEL(const Codes& codes, const Centres& centres, const int32_t* lists, int32_t count,     \
                                 int32_t* keys, int32_t* numbers) noexcept {                                          \
    return by_quads(codes.quads, [&](auto quads) {                                                                    \
      return promise_few_##LEVEL<kBits, quads()>(codes, centres, lists, count, keys, numbers);                        \
    });                                                                                                               \
  }                                                                                                                   \
  template <Form kForm>                                                                                               \
  TARGET int32_t scan_##LEVEL(const Codes& codes, const ScanOf<kForm>& scan, Pool& pool) noexcept {                   \
    return by_quads(codes.quads, [&](auto quads) { return scan_few_##LEVEL<kForm, quads()>(codes, scan, pool); });    \
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
#define PAIREC_BLOCK_KERNELS(LEVEL)                                                                                    \
  {pool_kernels(),           promise_##LEVEL<8>,       promise_##LEVEL<4>,                                             \
   scan_##LEVEL<Form::flat>, scan_##LEVEL<Form::list>, scan_##LEVEL<Form::mixed>}
  switch (isa_active()) {
#if defined(__x86_64__)
    case Isa::avx512vbmi: return PAIREC_BLOCK_KERNELS(vnni);
    case Isa::avx512bw: return PAIREC_BLOCK_KERNELS(avx512);
    case Isa::avx2: return PAIREC_BLOCK_KERNELS(avx2);
#endif
    default: return PAIREC_BLOCK_KERNELS(baseline);
  }
}

}  // namespace pairec
