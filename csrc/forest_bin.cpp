#include "forest_bin.hpp"

#include <array>
#include <cstring>

#include "target.hpp"
#include "transpose.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::size_t;
using std::uint32_t;
using std::uint64_t;
using std::uint8_t;

// Searches `value` [kGroupRows] among the thresholds of a number; returns the rows whose value equals one of them.
using FindRanks = uint64_t (*)(const float* threshold, int32_t depth, const float* value, int32_t* rank) noexcept;
// Writes the bytes of a piece from the ranks.
using PutRanks = void (*)(const Ranks::Piece& piece, const int32_t* rank, const float* value, uint8_t* out) noexcept;


[[gnu::always_inline]] inline uint64_t number(const Ranks& ranks, const Ranks::Number& it, const float* value,
                                              uint8_t* out, FindRanks find, PutRanks put) noexcept {
  // What is known of who asks is the same in all rows.
  if (std::memcmp(value, value + 1, (kGroupRows - 1) * sizeof *value) == 0) {
    uint64_t is_equal = 0;
    const float* threshold = ranks.threshold32.data() + it.begin;
    size_t at = 1;
    for (int32_t level = 0; level < it.depth; ++level) {
      is_equal |= uint64_t(threshold[at] == value[0]);
      at = 2 * at + size_t(threshold[at] < value[0]);
    }
    const auto rank = int32_t(at - (size_t(1) << it.depth));
    for (uint32_t i = 0; i < it.columns; ++i, out += kBlockRows) {
      std::memset(out, rank_byte(ranks.pieces[it.column + i], rank, double(value[0])), kGroupRows);
    }
    return is_equal ? ~uint64_t(0) : 0;
  }
  alignas(64) int32_t rank[kGroupRows];
  const uint64_t rows = find(ranks.threshold32.data() + it.begin, it.depth, value, rank);
  for (uint32_t i = 0; i < it.columns; ++i, out += kBlockRows) put(ranks.pieces[it.column + i], rank, value, out);
  return rows;
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

uint64_t find_ranks_baseline(const float* threshold, int32_t depth, const float* value, int32_t* rank) noexcept {
  return find_ranks(threshold, depth, value, rank);
}

void put_ranks_baseline(const Ranks::Piece& piece, const int32_t* rank, const float* value, uint8_t* out) noexcept {
  if (piece.is_zero_apart) {
    for (int32_t i = 0; i < kGroupRows; ++i) out[i] = rank_byte(piece, rank[i], double(value[i]));
  } else {
    for (int32_t i = 0; i < kGroupRows; ++i) {
      const int32_t byte = std::clamp(rank[i] - piece.base, 0, kPiece) - kRankBias;
      out[i] = static_cast<uint8_t>(value[i] != value[i] ? piece.nan : byte);
    }
  }
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

// A target is inherited by what is inlined, not by templates: so the loops, once per level.
#define PAIREC_BIN(LEVEL, TARGET)                                                                                     \
  TARGET uint64_t number_##LEVEL(const Ranks& ranks, const Ranks::Number& it, const float* value,                     \
                                 uint8_t* out) noexcept {                                                             \
    return number(ranks, it, value, out, find_ranks_##LEVEL, put_ranks_##LEVEL);                                      \
  }                                                                                                                   \
  TARGET void category_##LEVEL(const Ranks& ranks, const Ranks::Category& it, const uint32_t* which,                  \
                               uint8_t* out) noexcept {                                                               \
    category<Isa::LEVEL>(ranks, it, which, out);                                                                      \
  }

PAIREC_BIN(baseline, )
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

// Eight ranks each of eight registers are packed, which clamps them to 0..255; four of each are then together.
PAIREC_TARGET_AVX2 void put_ranks_avx2(const Ranks::Piece& piece, const int32_t* rank, const float* value,
                                       uint8_t* out) noexcept {
  const __m256i base = _mm256_set1_epi32(piece.base), nan = _mm256_set1_epi32(piece.nan + kRankBias);
  const __m256i zero = _mm256_set1_epi32(piece.zero + kRankBias), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (int32_t half = 0; half < kGroupRows; half += 32) {
    __m256i byte[4];
#pragma GCC unroll 4
    for (int32_t i = 0; i < 4; ++i) {
      const __m256 here = _mm256_loadu_ps(value + half + 8 * i);
      byte[i] = _mm256_sub_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(rank + half + 8 * i)), base);
      if (piece.is_zero_apart) {
        const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), here);
        const __m256 is_zero = _mm256_cmp_ps(size, _mm256_set1_ps(kZeroEdge), _CMP_LE_OQ);
        byte[i] = _mm256_blendv_epi8(byte[i], zero, _mm256_castps_si256(is_zero));
      }
      byte[i] = _mm256_blendv_epi8(byte[i], nan, _mm256_castps_si256(_mm256_cmp_ps(here, here, _CMP_UNORD_Q)));
    }
    const __m256i words[2] = {_mm256_packs_epi32(byte[0], byte[1]), _mm256_packs_epi32(byte[2], byte[3])};
    const __m256i packed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words[0], words[1]), order);
    const __m256i less = _mm256_xor_si256(packed, _mm256_set1_epi8(char(kRankBias)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + half), less);
  }
}

PAIREC_BIN(avx2, PAIREC_TARGET_AVX2)

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
  __m512 least[kRegisters];  // threshold that is not below the value
#pragma GCC unroll 4
  for (int32_t i = 0; i < kRegisters; ++i) {
    at[i] = one;
    least[i] = _mm512_set1_ps(NAN);
  }
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
      const __mmask16 is_above = _mm512_cmp_ps_mask(limit, here, _CMP_LT_OQ);
      at[i] = _mm512_add_epi32(at[i], at[i]);
      at[i] = _mm512_mask_add_epi32(at[i], is_above, at[i], one);
      least[i] = _mm512_mask_mov_ps(limit, is_above, least[i]);
    }
  }
  uint64_t rows = 0;
#pragma GCC unroll 4
  for (int32_t i = 0; i < kRegisters; ++i) {
    rows |= uint64_t(_mm512_cmp_ps_mask(least[i], _mm512_loadu_ps(value + 16 * i), _CMP_EQ_OQ)) << 16 * i;
    _mm512_store_si512(rank + 16 * i, _mm512_sub_epi32(at[i], _mm512_set1_epi32(1 << kDepth)));
  }
  return rows;
}

PAIREC_TARGET_AVX512 uint64_t find_ranks_avx512bw(const float* threshold, int32_t depth, const float* value,
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

// The word of packed ranks whose two bytes go to word i: packing sixteen ranks each of four registers takes four of
// every register in turn.
constexpr auto kUnpacked = [] {
  std::array<std::uint16_t, kGroupRows / 2> word{};
  for (int32_t i = 0; i < kGroupRows / 2; ++i) {
    const int32_t row = place(Isa::avx512bw, 2 * i);
    word[size_t(i)] = std::uint16_t((row % 16 / 4 * 16 + row / 16 * 4 + row % 4) / 2);
  }
  return word;
}();

PAIREC_TARGET_AVX512 void put_ranks_avx512bw(const Ranks::Piece& piece, const int32_t* rank, const float* value,
                                             uint8_t* out) noexcept {
  const __m512i base = _mm512_set1_epi32(piece.base), nan = _mm512_set1_epi32(piece.nan + kRankBias);
  const __m512i zero = _mm512_set1_epi32(piece.zero + kRankBias);
  __m512i byte[4];
#pragma GCC unroll 4
  for (int32_t i = 0; i < 4; ++i) {
    const __m512 here = _mm512_loadu_ps(value + 16 * i);
    byte[i] = _mm512_sub_epi32(_mm512_load_si512(rank + 16 * i), base);
    if (piece.is_zero_apart) {
      const __mmask16 is_zero = _mm512_cmp_ps_mask(_mm512_abs_ps(here), _mm512_set1_ps(kZeroEdge), _CMP_LE_OQ);
      byte[i] = _mm512_mask_mov_epi32(byte[i], is_zero, zero);
    }
    byte[i] = _mm512_mask_mov_epi32(byte[i], _mm512_cmp_ps_mask(here, here, _CMP_UNORD_Q), nan);
  }
  const __m512i low = _mm512_packs_epi32(byte[0], byte[1]), high = _mm512_packs_epi32(byte[2], byte[3]);
  const __m512i packed = _mm512_packus_epi16(low, high);  // the two clamp to 0..255
  const __m512i ordered = _mm512_permutexvar_epi16(_mm512_loadu_si512(kUnpacked.data()), packed);
  _mm512_store_si512(out, _mm512_xor_si512(ordered, _mm512_set1_epi8(char(kRankBias))));
}

PAIREC_BIN(avx512bw, PAIREC_TARGET_AVX512)

// Where a group's bytes go: pairs of them change places.
constexpr auto kInPlace = [] {
  std::array<std::uint16_t, kGroupRows / 2> word{};
  for (int32_t i = 0; i < kGroupRows / 2; ++i) word[size_t(i)] = std::uint16_t(place(Isa::avx512bw, 2 * i) / 2);
  return word;
}();

template <uint32_t kNumbers>
PAIREC_TARGET_VBMI inline void look_up(const uint8_t* table, uint32_t columns, __m512i which, uint8_t* out) noexcept {
  const auto of_128 = [&](const uint8_t* begin) PAIREC_TARGET_VBMI {
    return _mm512_permutex2var_epi8(_mm512_load_si512(begin), which, _mm512_load_si512(begin + 64));
  };
  for (uint32_t i = 0; i < columns; ++i, table += kNumbers, out += kBlockRows) {
    __m512i bytes;
    if constexpr (kNumbers == 64) bytes = _mm512_permutexvar_epi8(which, _mm512_load_si512(table));
    if constexpr (kNumbers == 128) bytes = of_128(table);
    if constexpr (kNumbers == 256) {
      bytes = _mm512_mask_mov_epi8(of_128(table), _mm512_movepi8_mask(which), of_128(table + 128));
    }
    _mm512_store_si512(out, bytes);
  }
}

// Up to 256 numbers are looked up in registers, a column at a time.
PAIREC_TARGET_VBMI void category_avx512vbmi(const Ranks& ranks, const Ranks::Category& it, const uint32_t* which,
                                            uint8_t* out) noexcept {
  if (it.numbers > 256) return category_avx512bw(ranks, it, which, out);
  alignas(64) uint8_t packed[kGroupRows];
  for (int32_t i = 0; i < kGroupRows; i += 16) {
    _mm_store_si128(reinterpret_cast<__m128i*>(packed + i), _mm512_cvtepi32_epi8(_mm512_loadu_si512(which + i)));
  }
  const __m512i at = _mm512_permutexvar_epi16(_mm512_loadu_si512(kInPlace.data()), _mm512_load_si512(packed));
  const uint8_t* table = ranks.turned.data() + it.turned_begin;
  switch (turned_bytes(it.numbers)) {
    case 64: return look_up<64>(table, it.columns, at, out);
    case 128: return look_up<128>(table, it.columns, at, out);
    default: return look_up<256>(table, it.columns, at, out);
  }
}
#endif

}  // namespace

BinNumber number_kernel(Isa level) noexcept {
#if defined(__x86_64__)
  if (level >= Isa::avx512bw) return number_avx512bw;
  if (level == Isa::avx2) return number_avx2;
#endif
  return number_baseline;
}

BinCategory category_kernel(Isa level) noexcept {
#if defined(__x86_64__)
  if (level == Isa::avx512vbmi) return category_avx512vbmi;
  if (level >= Isa::avx512bw) return category_avx512bw;
  if (level == Isa::avx2) return category_avx2;
#endif
  return category_baseline;
}

}  // namespace pairec
