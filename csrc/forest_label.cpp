#include "forest_label.hpp"

#include <algorithm>
#include <array>
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
using std::ptrdiff_t;
using std::size_t;
using std::uint8_t;

// Bytes that compare as signed ones.
typedef signed char Bytes __attribute__((vector_size(16), may_alias));

Bytes all(int byte) noexcept { return Bytes{} + static_cast<signed char>(byte); }

// Columns of the sets this tree tests: -1 where the category is in the set and goes left, 0 where it goes right.
[[gnu::always_inline]] inline void spread_memberships(const Ranks& ranks, const Ranks::Tree& tree, int32_t groups,
                                                      uint8_t* columns) noexcept {
  const Ranks::Membership* membership = ranks.memberships.data() + tree.membership;
  uint8_t* out = columns + size_t(ranks.membership_column) * kBlockRows;
  for (int32_t i = 0; i < tree.memberships; ++i, out += kBlockRows) {
    const uint8_t* from = columns + size_t(membership[i].column) * kBlockRows;
    const uint8_t bit = membership[i].bit;
    for (int32_t row = 0; row < groups * kGroupRows; ++row) out[row] = from[row] & bit ? 0 : 0xFF;
  }
}

void add_tree_baseline(const Ranks& ranks, const Ranks::Tree& tree, int32_t groups, uint8_t* columns,
                       double* sums) noexcept {
  spread_memberships(ranks, tree, groups, columns);
  const Ranks::Split* split = ranks.splits.data() + tree.split;
  const double* leaf = ranks.leaves.data() + tree.leaf;
  constexpr int32_t kAtOnce = 8;  // what a split says is spread over a register once for so many
  for (int32_t begin = 0; begin < groups * kGroupRows; begin += kAtOnce * int32_t(sizeof(Bytes))) {
    alignas(64) Bytes label[kAtOnce] = {};
    for (int32_t i = 0; i < tree.splits; ++i) {
      const auto* column = reinterpret_cast<const Bytes*>(columns + size_t(split[i].column) * kBlockRows + begin);
      const Bytes rank = all(split[i].rank), from = all(split[i].from), moves = all(split[i].from ^ split[i].to);
#pragma GCC unroll 8
      for (int32_t k = 0; k < kAtOnce; ++k) label[k] ^= (column[k] > rank) & (label[k] == from) & moves;
    }
    uint8_t leaves[sizeof label];
    std::memcpy(leaves, label, sizeof label);
    const int32_t end = std::min(int32_t(sizeof label), groups * kGroupRows - begin);
    for (int32_t i = 0; i < end; ++i) sums[begin + i] += leaf[leaves[i]];
  }
}

#if defined(__x86_64__)
#define PAIREC_TARGET_VBMI \
  __attribute__((target("avx512vbmi,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi,bmi2")))

// The tree for `kAtOnce` registers of 32 rows.
template <int32_t kAtOnce>
PAIREC_TARGET_AVX2 inline void add_rows_avx2(const Ranks& ranks, const Ranks::Tree& tree, const uint8_t* columns,
                                             double* sums) noexcept {
  const Ranks::Split* split = ranks.splits.data() + tree.split;
  __m256i label[kAtOnce];
#pragma GCC unroll 8
  for (int32_t k = 0; k < kAtOnce; ++k) label[k] = _mm256_setzero_si256();
  for (int32_t i = 0; i < tree.splits; ++i) {
    const auto* column = reinterpret_cast<const __m256i*>(columns + size_t(split[i].column) * kBlockRows);
    const __m256i rank = _mm256_set1_epi8(split[i].rank);
    const __m256i from = _mm256_set1_epi8(char(split[i].from)), to = _mm256_set1_epi8(char(split[i].to));
#pragma GCC unroll 8
    for (int32_t k = 0; k < kAtOnce; ++k) {
      const __m256i is_above = _mm256_cmpgt_epi8(_mm256_load_si256(column + k), rank);
      const __m256i moves = _mm256_and_si256(is_above, _mm256_cmpeq_epi8(label[k], from));
      label[k] = _mm256_blendv_epi8(label[k], to, moves);
    }
  }
  alignas(64) uint8_t labels[32 * kAtOnce];
#pragma GCC unroll 8
  for (int32_t k = 0; k < kAtOnce; ++k) _mm256_store_si256(reinterpret_cast<__m256i*>(labels) + k, label[k]);
  const double* leaf = ranks.leaves.data() + tree.leaf;
  for (int32_t i = 0; i < 32 * kAtOnce; i += 4) {
    const uint8_t* at = labels + i;
    const __m256d leaves = _mm256_set_pd(leaf[at[3]], leaf[at[2]], leaf[at[1]], leaf[at[0]]);
    _mm256_store_pd(sums + i, _mm256_add_pd(_mm256_load_pd(sums + i), leaves));
  }
}

PAIREC_TARGET_AVX2 void add_tree_avx2(const Ranks& ranks, const Ranks::Tree& tree, int32_t groups, uint8_t* columns,
                                      double* sums) noexcept {
  spread_memberships(ranks, tree, groups, columns);
  int32_t group = 0;
  for (; group + 4 <= groups; group += 4) {
    add_rows_avx2<8>(ranks, tree, columns + group * kGroupRows, sums + group * kGroupRows);
  }
  for (; group < groups; ++group) {
    add_rows_avx2<2>(ranks, tree, columns + group * kGroupRows, sums + group * kGroupRows);
  }
}

// Adds the leaves of labels: each quarter of a double is looked up in a register or two, then they are unpacked to
// doubles, in the order of the rows thanks to `place`.
template <bool kIsLong>
PAIREC_TARGET_AVX512 inline void add_quarters(const std::uint16_t* quarters, const uint8_t* labels, int32_t count,
                                              double* sums) noexcept {
  for (int32_t i = 0; i < count; i += 32) {
    const __m512i at = _mm512_cvtepu8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(labels + i)));
    __m512i quarter[4];
#pragma GCC unroll 4
    for (int32_t k = 0; k < 4; ++k) {
      if constexpr (kIsLong) {
        const std::uint16_t* table = quarters + 64 * k;
        quarter[k] = _mm512_permutex2var_epi16(_mm512_loadu_si512(table), at, _mm512_loadu_si512(table + 32));
      } else {
        quarter[k] = _mm512_permutexvar_epi16(at, _mm512_loadu_si512(quarters + 32 * k));
      }
    }
    const __m512i low0 = _mm512_unpacklo_epi16(quarter[0], quarter[1]);
    const __m512i low1 = _mm512_unpackhi_epi16(quarter[0], quarter[1]);
    const __m512i high0 = _mm512_unpacklo_epi16(quarter[2], quarter[3]);
    const __m512i high1 = _mm512_unpackhi_epi16(quarter[2], quarter[3]);
    const __m512i leaves[4] = {_mm512_unpacklo_epi32(low0, high0), _mm512_unpackhi_epi32(low0, high0),
                               _mm512_unpacklo_epi32(low1, high1), _mm512_unpackhi_epi32(low1, high1)};
#pragma GCC unroll 4
    for (int32_t k = 0; k < 4; ++k) {
      double* to = sums + i + 8 * k;
      _mm512_store_pd(to, _mm512_add_pd(_mm512_load_pd(to), _mm512_castsi512_pd(leaves[k])));
    }
  }
}

template <int32_t kGroups>
PAIREC_TARGET_AVX512 inline void add_leaves_avx512(const Ranks& ranks, const Ranks::Tree& tree, const __m512i* label,
                                                   double* sums) noexcept {
  constexpr int32_t kRows = kGroups * kGroupRows;
  alignas(64) uint8_t labels[kRows];
#pragma GCC unroll 8
  for (int32_t k = 0; k < kGroups; ++k) _mm512_store_si512(labels + kGroupRows * k, label[k]);
  const std::uint16_t* quarters = ranks.quarters.data() + tree.quarter;
  if (tree.leaves <= 32) return add_quarters<false>(quarters, labels, kRows, sums);
  if (tree.leaves <= 64) return add_quarters<true>(quarters, labels, kRows, sums);
  const double* leaf = ranks.leaves.data() + tree.leaf;
  for (int32_t k = 0; k < kRows; k += kGroupRows) {
    for (int32_t i = 0; i < kGroupRows; ++i) sums[k + i] += leaf[labels[k + place(Isa::avx512bw, i)]];
  }
}

template <int32_t kGroups>
PAIREC_TARGET_AVX512 inline void add_groups_avx512bw(const Ranks& ranks, const Ranks::Tree& tree,
                                                     const uint8_t* columns, double* sums) noexcept {
  const Ranks::Split* split = ranks.splits.data() + tree.split;
  __m512i label[kGroups];
#pragma GCC unroll 8
  for (int32_t k = 0; k < kGroups; ++k) label[k] = _mm512_setzero_si512();
  for (int32_t i = 0; i < tree.splits; ++i) {
    const uint8_t* column = columns + size_t(split[i].column) * kBlockRows;
    const __m512i rank = _mm512_set1_epi8(split[i].rank);
    const __m512i from = _mm512_set1_epi8(char(split[i].from)), to = _mm512_set1_epi8(char(split[i].to));
#pragma GCC unroll 8
    for (int32_t k = 0; k < kGroups; ++k) {
      const __mmask64 is_above = _mm512_cmplt_epi8_mask(rank, _mm512_load_si512(column + 64 * k));
      label[k] = _mm512_mask_mov_epi8(label[k], _mm512_mask_cmpeq_epi8_mask(is_above, label[k], from), to);
    }
  }
  add_leaves_avx512<kGroups>(ranks, tree, label, sums);
}

// Up to 64 leaves, a split is a table of labels, all mapped to themselves but one: a look-up under a mask does both the
// second comparison and the move.
template <int32_t kGroups>
PAIREC_TARGET_VBMI inline void add_groups_avx512vbmi(const Ranks& ranks, const Ranks::Tree& tree,
                                                     const uint8_t* columns, double* sums) noexcept {
  if (tree.leaves > 64) return add_groups_avx512bw<kGroups>(ranks, tree, columns, sums);
  alignas(64) static constexpr auto kSame = [] {
    std::array<uint8_t, 64> same{};
    for (size_t i = 0; i < 64; ++i) same[i] = uint8_t(i);
    return same;
  }();
  const __m512i same = _mm512_load_si512(kSame.data());
  const Ranks::Split* split = ranks.splits.data() + tree.split;
  __m512i label[kGroups];
#pragma GCC unroll 8
  for (int32_t k = 0; k < kGroups; ++k) label[k] = _mm512_setzero_si512();
  for (int32_t i = 0; i < tree.splits; ++i) {
    const uint8_t* column = columns + size_t(split[i].column) * kBlockRows;
    const __m512i rank = _mm512_set1_epi8(split[i].rank);
    const __m512i moved = _mm512_mask_mov_epi8(same, 1ull << split[i].from, _mm512_set1_epi8(char(split[i].to)));
#pragma GCC unroll 8
    for (int32_t k = 0; k < kGroups; ++k) {
      const __mmask64 is_above = _mm512_cmplt_epi8_mask(rank, _mm512_load_si512(column + 64 * k));
      label[k] = _mm512_mask_permutexvar_epi8(label[k], is_above, label[k], moved);
    }
  }
  add_leaves_avx512<kGroups>(ranks, tree, label, sums);
}

#define PAIREC_ADD_TREE(LEVEL, TARGET)                                                                           \
  TARGET void add_tree_##LEVEL(const Ranks& ranks, const Ranks::Tree& tree, int32_t groups, uint8_t* columns,    \
                               double* sums) noexcept {                                                          \
    spread_memberships(ranks, tree, groups, columns);                                                            \
    const auto pass = [&]<int32_t kGroups>() TARGET {                                                            \
      add_groups_##LEVEL<kGroups>(ranks, tree, columns, sums);                                                   \
    };                                                                                                           \
    switch (groups) {                                                                                            \
      case 1: return pass.template operator()<1>();                                                              \
      case 2: return pass.template operator()<2>();                                                              \
      case 3: return pass.template operator()<3>();                                                              \
      case 4: return pass.template operator()<4>();                                                              \
      case 5: return pass.template operator()<5>();                                                              \
      case 6: return pass.template operator()<6>();                                                              \
      case 7: return pass.template operator()<7>();                                                              \
      default: return pass.template operator()<8>();                                                             \
    }                                                                                                            \
  }

PAIREC_ADD_TREE(avx512bw, PAIREC_TARGET_AVX512)
PAIREC_ADD_TREE(avx512vbmi, PAIREC_TARGET_VBMI)
static_assert(kBlockRows == 8 * kGroupRows);
#endif

template <typename Value>
void score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, FillColumns<Value> fill,
           void* scratch, const Value* x, ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step,
           ptrdiff_t class_step) noexcept {
  if (count < kernels.rows_min) return forest_score(forest, x, stride, count, out, row_step, class_step);
  auto* sums = static_cast<double*>(scratch);
  auto* columns = static_cast<uint8_t*>(scratch) + sizeof(double) * kBlockRows;
  for (ptrdiff_t begin = 0; begin < count; begin += kBlockRows) {
    const auto rows = static_cast<int32_t>(std::min<ptrdiff_t>(kBlockRows, count - begin));
    const int32_t groups = (rows + kGroupRows - 1) / kGroupRows;
    const Value* x_block = x + stride * begin;
    fill(ranks, x_block, stride, rows, columns);
    for (int32_t k = 0; k < forest.classes; ++k) {
      std::fill_n(sums, kBlockRows, 0.0);
      for (size_t tree = size_t(k); tree < ranks.trees.size(); tree += size_t(forest.classes)) {
        if (ranks.trees[tree].leaves > 0) {
          kernels.add_tree(ranks, ranks.trees[tree], groups, columns, sums);
        } else {
          forest_add_tree(forest, tree, x_block, stride, rows, sums, 1);
        }
      }
      double* to = out + row_step * begin + class_step * k;
      for (int32_t i = 0; i < rows; ++i) to[row_step * i] = sums[i];
    }
  }
}

}  // namespace

LabelKernels label_kernels() {
  const Isa level = isa_active();
  const ColumnKernels columns = column_kernels(level);
  switch (level) {
#if defined(__x86_64__)
    case Isa::avx512vbmi: return {columns, add_tree_avx512vbmi, 2};
    case Isa::avx512bw: return {columns, add_tree_avx512bw, 2};
    case Isa::avx2: return {columns, add_tree_avx2, 2};
#endif
    default: return {columns, add_tree_baseline, 9};
  }
}

size_t scratch_bytes(const Ranks& ranks) noexcept {
  return (sizeof(double) + size_t(ranks.columns_all)) * kBlockRows;
}

void forest_score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch, const float* x,
                  ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step, ptrdiff_t class_step) noexcept {
  score(forest, ranks, kernels, kernels.columns.fill32, scratch, x, stride, count, out, row_step, class_step);
}

void forest_score(const Forest& forest, const Ranks& ranks, const LabelKernels& kernels, void* scratch,
                  const double* x, ptrdiff_t stride, int32_t count, double* out, ptrdiff_t row_step,
                  ptrdiff_t class_step) noexcept {
  score(forest, ranks, kernels, kernels.columns.fill64, scratch, x, stride, count, out, row_step, class_step);
}

}  // namespace pairec
