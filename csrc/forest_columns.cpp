#include "forest_columns.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#if !defined(__clang__)
// GCC 12 takes the undefined registers of its own header, which a full mask hides, for mistakes of ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::ptrdiff_t;
using std::uint32_t;
using std::uint8_t;

// Writes the ranks of a group's values of one feature: walks its search tree.
template <typename Value>
using FindRanks = void (*)(const Value* threshold, int32_t depth, const Value* value, int32_t* rank) noexcept;

template <typename Value>
inline int32_t find_rank(const Value* threshold, int32_t depth, Value value) noexcept {
  size_t at = 1;
  for (int32_t level = 0; level < depth; ++level) at = 2 * at + size_t(threshold[at] < value);
  return int32_t(at - (size_t(1) << depth));
}

// Level by level for all values, so that they wait for memory together.
template <typename Value>
[[gnu::always_inline]] inline void find_ranks(const Value* threshold, int32_t depth, const Value* value,
                                              int32_t* rank) noexcept {
  for (int32_t i = 0; i < kGroupRows; ++i) rank[i] = 1;
  for (int32_t level = 0; level < depth; ++level) {
    for (int32_t i = 0; i < kGroupRows; ++i) rank[i] = 2 * rank[i] + int32_t(threshold[rank[i]] < value[i]);
  }
  for (int32_t i = 0; i < kGroupRows; ++i) rank[i] -= 1 << depth;
}

template <typename Value>
[[gnu::always_inline]] inline uint8_t rank_byte(const Ranks::Column& column, int32_t rank, Value value) noexcept {
  int32_t byte = std::clamp(rank - column.base, 0, 255) - kRankBias;
  if (column.is_zero_apart) byte = std::fabs(value) <= Value(kZero) ? column.zero : byte;
  return static_cast<uint8_t>(value != value ? column.nan : byte);
}

// Categories of no set, and what LightGBM takes to be outside of all, are the largest number.
template <typename Value>
inline uint32_t category(Value value) noexcept {
  return value > Value(-1.0) && value < Value(2147483648.0) ? uint32_t(int32_t(value)) : UINT32_MAX;
}

typedef uint8_t Bytes __attribute__((vector_size(16), may_alias));

// Writes 16 rows of the columns of `sets`: looks up 16 bytes for each and transposes them, as a matrix of 16 x 16: four
// times, the upper half of the rows is interleaved with the lower.
[[gnu::always_inline]] inline void look_up_16(const Ranks::Sets& sets, const uint8_t* outside, const uint32_t* which,
                                              uint8_t* out) noexcept {
  Bytes row[16], next[16];
#pragma GCC unroll 16
  for (int32_t i = 0; i < 16; ++i) {
    std::memcpy(&row[i], outside + size_t(std::min(which[i], sets.size)) * 16, sizeof row[i]);
  }
#pragma GCC unroll 4
  for (int32_t step = 0; step < 4; ++step) {
#pragma GCC unroll 8
    for (int32_t i = 0; i < 8; ++i) {
      next[2 * i] = __builtin_shufflevector(row[i], row[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      next[2 * i + 1] =
          __builtin_shufflevector(row[i], row[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
#pragma GCC unroll 16
    for (int32_t i = 0; i < 16; ++i) row[i] = next[i];
  }
  for (uint32_t i = 0; i < sets.columns; ++i) std::memcpy(out + size_t(i) * kBlockRows, &row[i], sizeof row[i]);
}

template <Isa kLevel, typename Value>
[[gnu::always_inline]] inline void fill(const Ranks& ranks, const Value* x, ptrdiff_t stride, int32_t count,
                                        uint8_t* columns, const Value* thresholds,
                                        FindRanks<Value> find) noexcept {
  for (int32_t begin = 0; begin < count; begin += kGroupRows) {
    const Value* row[kGroupRows];
    for (int32_t i = 0; i < kGroupRows; ++i) row[i] = x + stride * std::min(begin + place(kLevel, i), count - 1);
    alignas(64) Value value[kGroupRows];
    alignas(64) int32_t rank[kGroupRows];
    uint8_t* bytes = columns + begin;
    for (const Ranks::Number& number : ranks.numbers) {
      const Value* threshold = thresholds + number.begin;
#pragma GCC unroll 16
      for (int32_t i = 0; i < kGroupRows; ++i) value[i] = row[i][number.feature];
      // What is known of who asks is the same in all rows.
      const bool is_same = std::memcmp(value, value + 1, sizeof value - sizeof *value) == 0;
      if (is_same) {
        const int32_t all = find_rank(threshold, number.depth, value[0]);
        for (uint32_t at = number.column_begin; at < number.column_end; ++at) {
          std::memset(bytes + size_t(at) * kBlockRows, rank_byte(ranks.columns[at], all, value[0]), kGroupRows);
        }
        continue;
      }
      find(threshold, number.depth, value, rank);
      for (uint32_t at = number.column_begin; at < number.column_end; ++at) {
        const Ranks::Column column = ranks.columns[at];
        uint8_t* out = bytes + size_t(at) * kBlockRows;
        for (int32_t i = 0; i < kGroupRows; ++i) out[i] = rank_byte(column, rank[i], value[i]);
      }
    }
    uint32_t which[kGroupRows];
    int32_t feature = -1;
    for (const Ranks::Sets& sets : ranks.sets) {
      if (sets.feature != feature) {
        feature = sets.feature;
        for (int32_t i = 0; i < kGroupRows; ++i) which[i] = category(row[i][feature]);
      }
      const uint8_t* outside = ranks.outside.data() + sets.begin;
      uint8_t* out = bytes + size_t(sets.column) * kBlockRows;
      if (sets.bytes == 1) {
        for (int32_t i = 0; i < kGroupRows; ++i) out[i] = outside[std::min(which[i], sets.size)];
        continue;
      }
      for (int32_t i = 0; i < kGroupRows; i += 16) look_up_16(sets, outside, which + i, out + i);
    }
  }
}

// A target is inherited by what is inlined, not by templates: so the loops, once per level.
#define PAIREC_COLUMNS(LEVEL, TARGET, FIND32)                                                                         \
  template <typename Value>                                                                                           \
  TARGET void find_ranks_##LEVEL(const Value* threshold, int32_t depth, const Value* value, int32_t* rank) noexcept { \
    find_ranks(threshold, depth, value, rank);                                                                        \
  }                                                                                                                   \
  TARGET void fill32_##LEVEL(const Ranks& ranks, const float* x, ptrdiff_t stride, int32_t count,                     \
                             uint8_t* columns) noexcept {                                                             \
    fill<Isa::LEVEL, float>(ranks, x, stride, count, columns, ranks.threshold32.data(), FIND32);                      \
  }                                                                                                                   \
  TARGET void fill64_##LEVEL(const Ranks& ranks, const double* x, ptrdiff_t stride, int32_t count,                    \
                             uint8_t* columns) noexcept {                                                             \
    fill<Isa::LEVEL, double>(ranks, x, stride, count, columns, ranks.threshold.data(), find_ranks_##LEVEL<double>);   \
  }

PAIREC_COLUMNS(baseline, , find_ranks_baseline<float>)
#if defined(__x86_64__)
// The first 63 thresholds are looked up in registers, the others gathered. A step waits for the one before it, so all
// the group's values step together.
PAIREC_TARGET_AVX2 void find_ranks_permuting(const float* threshold, int32_t depth, const float* value,
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
  for (int32_t i = 0; i < kRegisters; ++i) at[i] = _mm256_set1_epi32(1);
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
      const __m256 is_above = _mm256_cmp_ps(limit, _mm256_load_ps(value + 8 * i), _CMP_LT_OQ);
      at[i] = _mm256_sub_epi32(_mm256_add_epi32(at[i], at[i]), _mm256_castps_si256(is_above));
    }
  }
  for (int32_t i = 0; i < kRegisters; ++i) {
    const __m256i found = _mm256_sub_epi32(at[i], _mm256_set1_epi32(1 << depth));
    _mm256_store_si256(reinterpret_cast<__m256i*>(rank + 8 * i), found);
  }
}

PAIREC_COLUMNS(avx2, PAIREC_TARGET_AVX2, find_ranks_permuting)

// The first 255 thresholds fit the registers: levels 0 to 3 one of them, and each level after that as many as two to
// the power of its distance from them.
template <int32_t kDepth>
PAIREC_TARGET_AVX512 void find_ranks_in_registers(const float* threshold, const float* value, int32_t* rank) noexcept {
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
      const __mmask16 is_above = _mm512_cmp_ps_mask(limit, _mm512_load_ps(value + 16 * i), _CMP_LT_OQ);
      at[i] = _mm512_add_epi32(at[i], at[i]);
      at[i] = _mm512_mask_add_epi32(at[i], is_above, at[i], one);
    }
  }
#pragma GCC unroll 4
  for (int32_t i = 0; i < kRegisters; ++i) {
    _mm512_store_si512(rank + 16 * i, _mm512_sub_epi32(at[i], _mm512_set1_epi32(1 << kDepth)));
  }
}

PAIREC_TARGET_AVX512 void find_ranks_avx512(const float* threshold, int32_t depth, const float* value,
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
  if (level >= Isa::avx512bw) return {fill32_avx512bw, fill64_avx512bw};
  if (level == Isa::avx2) return {fill32_avx2, fill64_avx2};
#endif
  return {fill32_baseline, fill64_baseline};
}

}  // namespace pairec
