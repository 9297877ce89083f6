#include "forest_label.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "target.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::size_t;
using std::uint8_t;

// Bytes that compare as signed ones.
typedef signed char Bytes __attribute__((vector_size(16), may_alias));

Bytes all(int byte) noexcept { return Bytes{} + static_cast<signed char>(byte); }

void add_trees_baseline(const Labels* trees, int32_t count, int32_t step, int32_t groups, const uint8_t* columns,
                        double* sums) noexcept {
  constexpr int32_t kAtOnce = 8;  // what a split says is spread over a register once for so many
  constexpr int32_t kRows = kAtOnce * int32_t(sizeof(Bytes));
  for (const Labels* tree = trees; tree < trees + count * step; tree += step) {
    for (int32_t begin = 0; begin < groups * kGroupRows; begin += kRows) {
      alignas(64) Bytes label[kAtOnce];
      std::fill_n(label, kAtOnce, all(tree->first));
      for (int32_t i = 0; i < tree->splits; ++i) {
        const auto* column = reinterpret_cast<const Bytes*>(columns + size_t(tree->column[i]) * kBlockRows + begin);
        const Bytes mask = all(tree->mask[i]), rank = all(tree->rank[i]);
        const Bytes from = all(tree->from[i]), moves = all(tree->from[i] ^ tree->to[i]);
#pragma GCC unroll 8
        for (int32_t k = 0; k < kAtOnce; ++k) label[k] ^= ((column[k] & mask) > rank) & (label[k] == from) & moves;
      }
      uint8_t leaf[kRows];
      std::memcpy(leaf, label, sizeof label);
      const int32_t end = std::min(kRows, groups * kGroupRows - begin);
      for (int32_t i = 0; i < end; ++i) sums[begin + i] += tree->leaf[leaf[i]];
    }
  }
}

#if defined(__x86_64__)
// The tree for `kAtOnce` registers of 32 rows.
template <int32_t kAtOnce, bool kIsMasked>
PAIREC_TARGET_AVX2 inline void add_rows_avx2(const Labels& tree, const uint8_t* columns, double* sums) noexcept {
  __m256i label[kAtOnce];
#pragma GCC unroll 8
  for (int32_t k = 0; k < kAtOnce; ++k) label[k] = _mm256_set1_epi8(char(tree.first));
  for (int32_t i = 0; i < tree.splits; ++i) {
    const auto* column = reinterpret_cast<const __m256i*>(columns + size_t(tree.column[i]) * kBlockRows);
    const __m256i rank = _mm256_set1_epi8(tree.rank[i]), mask = _mm256_set1_epi8(char(tree.mask[i]));
    const __m256i from = _mm256_set1_epi8(char(tree.from[i])), to = _mm256_set1_epi8(char(tree.to[i]));
#pragma GCC unroll 8
    for (int32_t k = 0; k < kAtOnce; ++k) {
      __m256i byte = _mm256_load_si256(column + k);
      if constexpr (kIsMasked) byte = _mm256_and_si256(byte, mask);
      const __m256i is_above = _mm256_cmpgt_epi8(byte, rank);
      const __m256i moves = _mm256_and_si256(is_above, _mm256_cmpeq_epi8(label[k], from));
      label[k] = _mm256_blendv_epi8(label[k], to, moves);
    }
  }
  alignas(64) uint8_t labels[32 * kAtOnce];
#pragma GCC unroll 8
  for (int32_t k = 0; k < kAtOnce; ++k) _mm256_store_si256(reinterpret_cast<__m256i*>(labels) + k, label[k]);
  for (int32_t i = 0; i < 32 * kAtOnce; i += 8) {
    std::uint64_t at;  // one load for eight labels: loads are what this waits for
    std::memcpy(&at, labels + i, sizeof at);
    const auto leaf = [&](int32_t k) { return tree.leaf[at >> 8 * k & 0xFF]; };
    const __m256d low = _mm256_set_pd(leaf(3), leaf(2), leaf(1), leaf(0));
    const __m256d high = _mm256_set_pd(leaf(7), leaf(6), leaf(5), leaf(4));
    _mm256_store_pd(sums + i, _mm256_add_pd(_mm256_load_pd(sums + i), low));
    _mm256_store_pd(sums + i + 4, _mm256_add_pd(_mm256_load_pd(sums + i + 4), high));
  }
}

template <int32_t kAtOnce>
PAIREC_TARGET_AVX2 inline void add_rows_avx2(const Labels& tree, const uint8_t* columns, double* sums) noexcept {
  if (tree.is_masked) return add_rows_avx2<kAtOnce, true>(tree, columns, sums);
  add_rows_avx2<kAtOnce, false>(tree, columns, sums);
}

PAIREC_TARGET_AVX2 void add_trees_avx2(const Labels* trees, int32_t count, int32_t step, int32_t groups,
                                       const uint8_t* columns, double* sums) noexcept {
  for (const Labels* tree = trees; tree < trees + count * step; tree += step) {
    int32_t group = 0;
    for (; group + 4 <= groups; group += 4) {
      add_rows_avx2<8>(*tree, columns + group * kGroupRows, sums + group * kGroupRows);
    }
    if (group + 2 <= groups) {
      add_rows_avx2<4>(*tree, columns + group * kGroupRows, sums + group * kGroupRows);
      group += 2;
    }
    if (group < groups) {
      add_rows_avx2<2>(*tree, columns + group * kGroupRows, sums + group * kGroupRows);
    }
  }
}

struct Leaves {  // of a group
  __m512d row[8];
};

// Four quarters of 32 doubles, unpacked; in the order of the rows thanks to `place`.
PAIREC_TARGET_AVX512 inline void unpack(const __m512i* quarter, __m512d* row) noexcept {
  const __m512i low0 = _mm512_unpacklo_epi16(quarter[0], quarter[1]);
  const __m512i low1 = _mm512_unpackhi_epi16(quarter[0], quarter[1]);
  const __m512i high0 = _mm512_unpacklo_epi16(quarter[2], quarter[3]);
  const __m512i high1 = _mm512_unpackhi_epi16(quarter[2], quarter[3]);
  row[0] = _mm512_castsi512_pd(_mm512_unpacklo_epi32(low0, high0));
  row[1] = _mm512_castsi512_pd(_mm512_unpackhi_epi32(low0, high0));
  row[2] = _mm512_castsi512_pd(_mm512_unpacklo_epi32(low1, high1));
  row[3] = _mm512_castsi512_pd(_mm512_unpackhi_epi32(low1, high1));
}

// The leaves of a group's labels, for trees of up to kLeaves. Each quarter of a double is looked up in a register or
// two, and the quarters unpacked.
template <int32_t kLeaves>
PAIREC_TARGET_AVX512 inline Leaves leaves_of(const Labels& tree, const uint8_t* labels) noexcept {
  Leaves out;
#pragma GCC unroll 2
  for (int32_t half = 0; half < 2; ++half) {
    const auto* from = reinterpret_cast<const __m256i*>(labels + 32 * half);
    const __m512i at = _mm512_cvtepu8_epi16(_mm256_load_si256(from));
    __m512i quarter[4];
#pragma GCC unroll 4
    for (int32_t k = 0; k < 4; ++k) {
      const uint8_t* table = tree.planes + 2 * kLeaves * k;
      if constexpr (kLeaves == 32) {
        quarter[k] = _mm512_permutexvar_epi16(at, _mm512_load_si512(table));
      } else {
        quarter[k] = _mm512_permutex2var_epi16(_mm512_load_si512(table), at, _mm512_load_si512(table + 64));
      }
    }
    unpack(quarter, out.row + 4 * half);
  }
  return out;
}

// Which pair of labels each pair of rows has.
constexpr auto kInOrder = [] {
  std::array<std::uint16_t, kGroupRows / 2> word{};
  for (int32_t i = 0; i < kGroupRows / 2; ++i) word[size_t(i)] = std::uint16_t(place(Isa::avx512bw, 2 * i) / 2);
  return word;
}();

// Leaves of trees that have too many for look-ups in registers, at a level without those by bytes.
PAIREC_TARGET_AVX512 inline Leaves any_leaves(const Labels& tree, const uint8_t* labels) noexcept {
  alignas(64) uint8_t ordered[kGroupRows];
  const __m512i order = _mm512_loadu_si512(kInOrder.data());
  _mm512_store_si512(ordered, _mm512_permutexvar_epi16(order, _mm512_load_si512(labels)));
  Leaves out;
#pragma GCC unroll 8
  for (int32_t k = 0; k < 8; ++k) {
    std::uint64_t at;  // one load for eight labels
    std::memcpy(&at, ordered + 8 * k, sizeof at);
    const auto leaf = [&](int32_t i) { return tree.leaf[at >> 8 * i & 0xFF]; };
    const __m256d low = _mm256_set_pd(leaf(3), leaf(2), leaf(1), leaf(0));
    const __m256d high = _mm256_set_pd(leaf(7), leaf(6), leaf(5), leaf(4));
    out.row[k] = _mm512_insertf64x4(_mm512_castpd256_pd512(low), high, 1);
  }
  return out;
}

// One split of a tree.
template <int32_t kGroups, bool kIsMasked>
PAIREC_TARGET_AVX512 inline void split_avx512bw(const Labels& tree, int32_t i, const uint8_t* columns,
                                                __m512i* label) noexcept {
  const uint8_t* column = columns + size_t(tree.column[i]) * kBlockRows;
  const __m512i rank = _mm512_set1_epi8(tree.rank[i]), mask = _mm512_set1_epi8(char(tree.mask[i]));
  const __m512i from = _mm512_set1_epi8(char(tree.from[i])), to = _mm512_set1_epi8(char(tree.to[i]));
#pragma GCC unroll 8
  for (int32_t k = 0; k < kGroups; ++k) {
    __m512i byte = _mm512_load_si512(column + kGroupRows * k);
    if constexpr (kIsMasked) byte = _mm512_and_si512(byte, mask);
    const __mmask64 is_above = _mm512_cmpgt_epi8_mask(byte, rank);
    label[k] = _mm512_mask_mov_epi8(label[k], _mm512_mask_cmpeq_epi8_mask(is_above, label[k], from), to);
  }
}

constexpr auto kSame = [] {
  std::array<uint8_t, 128> same{};
  for (size_t i = 0; i < same.size(); ++i) same[i] = uint8_t(i);
  return same;
}();

// Up to 128 labels, a split is a table of labels, all mapped to themselves but one: a look-up under a mask does both
// the second comparison and the move.
template <int32_t kGroups, bool kIsMasked, bool kIsLong>
PAIREC_TARGET_VBMI inline void split_avx512vbmi(const Labels& tree, int32_t i, const uint8_t* columns,
                                                __m512i* label) noexcept {
  const __m512i same = _mm512_loadu_si512(kSame.data()), same_high = _mm512_loadu_si512(kSame.data() + 64);
  const uint8_t* column = columns + size_t(tree.column[i]) * kBlockRows;
  const __m512i rank = _mm512_set1_epi8(tree.rank[i]), mask = _mm512_set1_epi8(char(tree.mask[i]));
  const __m512i to = _mm512_set1_epi8(char(tree.to[i]));
  const __mmask64 bit = 1ull << tree.from[i] % 64, is_high = kIsLong ? -(std::uint64_t(tree.from[i]) / 64) : 0;
  const __m512i low = _mm512_mask_mov_epi8(same, bit & ~is_high, to);
  const __m512i high = _mm512_mask_mov_epi8(same_high, bit & is_high, to);
#pragma GCC unroll 8
  for (int32_t k = 0; k < kGroups; ++k) {
    __m512i byte = _mm512_load_si512(column + kGroupRows * k);
    if constexpr (kIsMasked) byte = _mm512_and_si512(byte, mask);
    const __mmask64 is_above = _mm512_cmpgt_epi8_mask(byte, rank);
    if constexpr (kIsLong) {
      label[k] = _mm512_mask2_permutex2var_epi8(low, label[k], is_above, high);
    } else {
      label[k] = _mm512_mask_permutexvar_epi8(label[k], is_above, label[k], low);
    }
  }
}

// The leaves that labels stand for.
template <int32_t kLeaves>
PAIREC_TARGET_VBMI inline __m512i live_leaves(const uint8_t* live, __m512i labels) noexcept {
  const auto of_128 = [&](const uint8_t* begin) PAIREC_TARGET_VBMI {
    return _mm512_permutex2var_epi8(_mm512_loadu_si512(begin), labels, _mm512_loadu_si512(begin + 64));
  };
  if constexpr (kLeaves == 128) return of_128(live);
  return _mm512_mask_mov_epi8(of_128(live), _mm512_movepi8_mask(labels), of_128(live + 128));
}

// Leaves of more than 64 are looked up by bytes: the eight of a double, unpacked to quarters.
template <int32_t kLeaves>
PAIREC_TARGET_VBMI inline Leaves leaves_by_bytes(const Labels& tree, const uint8_t* labels) noexcept {
  // Unpacking bytes takes eight rows of each sixteen to either half.
  __m512i at = _mm512_permutexvar_epi64(_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0), _mm512_load_si512(labels));
  if (tree.live != nullptr) at = live_leaves<kLeaves>(tree.live, at);
  const auto look_up = [&](int32_t plane) PAIREC_TARGET_VBMI {
    const uint8_t* table = tree.planes + kLeaves * plane;
    const auto of_128 = [&](const uint8_t* begin) PAIREC_TARGET_VBMI {
      return _mm512_permutex2var_epi8(_mm512_load_si512(begin), at, _mm512_load_si512(begin + 64));
    };
    if constexpr (kLeaves == 128) return of_128(table);
    return _mm512_mask_mov_epi8(of_128(table), _mm512_movepi8_mask(at), of_128(table + 128));
  };
  __m512i quarter[2][4];
#pragma GCC unroll 4
  for (int32_t k = 0; k < 4; ++k) {
    const __m512i low = look_up(2 * k), high = look_up(2 * k + 1);
    quarter[0][k] = _mm512_unpacklo_epi8(low, high);
    quarter[1][k] = _mm512_unpackhi_epi8(low, high);
  }
  Leaves out;
  unpack(quarter[0], out.row);
  unpack(quarter[1], out.row + 4);
  return out;
}

PAIREC_TARGET_AVX512 inline Leaves leaves_any_avx512bw(const Labels& tree, const uint8_t* labels) noexcept {
  if (tree.planes == nullptr) return any_leaves(tree, labels);
  if (tree.leaves <= 32) return leaves_of<32>(tree, labels);
  if (tree.leaves <= 64) return leaves_of<64>(tree, labels);
  return any_leaves(tree, labels);
}

PAIREC_TARGET_VBMI inline Leaves leaves_any_avx512vbmi(const Labels& tree, const uint8_t* labels) noexcept {
  if (tree.leaves <= 32) return leaves_of<32>(tree, labels);
  if (tree.leaves <= 64) return leaves_of<64>(tree, labels);
  if (tree.leaves <= 128) return leaves_by_bytes<128>(tree, labels);
  return leaves_by_bytes<256>(tree, labels);
}

// A split waits for the one before it. Many groups fill the time; of one, two trees are labelled together.
constexpr int32_t trees_at_once(int32_t groups) { return groups == 1 ? 2 : 1; }

// Labels kTrees trees for kGroups groups. Few splits are by category: a branch for those costs less than a mask for all.
#define PAIREC_LABEL(NAME, TARGET, SPLIT)                                                                             \
  template <int32_t kTrees, int32_t kGroups, bool kIsMasked, bool... kFlags>                                          \
  TARGET void label_##NAME(const Labels* trees, int32_t step, const uint8_t* columns, uint8_t* labels) noexcept {     \
    __m512i label[kTrees][kGroups];                                                                                   \
    int32_t common = trees[0].splits;                                                                                 \
    _Pragma("GCC unroll 4") for (int32_t j = 0; j < kTrees; ++j) {                                                    \
      common = std::min(common, trees[j * step].splits);                                                              \
      _Pragma("GCC unroll 8") for (int32_t k = 0; k < kGroups; ++k) {                                                 \
        label[j][k] = _mm512_set1_epi8(char(trees[j * step].first));                                                  \
      }                                                                                                               \
    }                                                                                                                 \
    const auto split = [&](int32_t j, int32_t i) TARGET {                                                             \
      const Labels& tree = trees[j * step];                                                                           \
      if (kIsMasked && tree.mask[i] != 0xFF) return SPLIT<kGroups, true, kFlags...>(tree, i, columns, label[j]);      \
      SPLIT<kGroups, false, kFlags...>(tree, i, columns, label[j]);                                                   \
    };                                                                                                                \
    for (int32_t i = 0; i < common; ++i) {                                                                            \
      _Pragma("GCC unroll 4") for (int32_t j = 0; j < kTrees; ++j) split(j, i);                                       \
    }                                                                                                                 \
    _Pragma("GCC unroll 4") for (int32_t j = 0; j < kTrees; ++j) {                                                    \
      for (int32_t i = common; kTrees > 1 && i < trees[j * step].splits; ++i) split(j, i);                            \
      _Pragma("GCC unroll 8") for (int32_t k = 0; k < kGroups; ++k, labels += kGroupRows) {                           \
        _mm512_store_si512(labels, label[j][k]);                                                                      \
      }                                                                                                               \
    }                                                                                                                 \
  }

PAIREC_LABEL(avx512bw, PAIREC_TARGET_AVX512, split_avx512bw)
PAIREC_LABEL(avx512vbmi, PAIREC_TARGET_VBMI, split_avx512vbmi)

// What a level does with any trees of up to `most` labels.
template <int32_t kTrees, int32_t kGroups, bool kIsMasked>
PAIREC_TARGET_AVX512 void label_any_avx512bw(const Labels* trees, int32_t step, int32_t, const uint8_t* columns,
                                             uint8_t* labels) noexcept {
  label_avx512bw<kTrees, kGroups, kIsMasked>(trees, step, columns, labels);
}

template <int32_t kTrees, int32_t kGroups, bool kIsMasked>
PAIREC_TARGET_VBMI void label_any_avx512vbmi(const Labels* trees, int32_t step, int32_t most, const uint8_t* columns,
                                             uint8_t* labels) noexcept {
  if (most <= 64) return label_avx512vbmi<kTrees, kGroups, kIsMasked, false>(trees, step, columns, labels);
  if (most <= 128) return label_avx512vbmi<kTrees, kGroups, kIsMasked, true>(trees, step, columns, labels);
  label_avx512bw<kTrees, kGroups, kIsMasked>(trees, step, columns, labels);
}

// kTrees trees for kGroups groups: labels them all, then adds their leaves, so that sums are read and written once.
#define PAIREC_ADD_TREES(LEVEL, TARGET)                                                                               \
  template <int32_t kTrees, int32_t kAtOnce, int32_t kGroups>                                                         \
  TARGET void add_some_##LEVEL(const Labels* trees, int32_t step, const uint8_t* columns, double* sums) noexcept {    \
    alignas(64) uint8_t labels[kTrees][kGroups * kGroupRows];                                                         \
    for (int32_t i = 0; i < kTrees; i += kAtOnce) {                                                                   \
      const Labels* first = trees + i * step;                                                                         \
      bool is_masked = false;                                                                                         \
      int32_t most = 0;                                                                                               \
      for (int32_t j = 0; j < kAtOnce; ++j) {                                                                         \
        is_masked |= first[j * step].is_masked;                                                                       \
        most = std::max(most, first[j * step].labels);                                                                \
      }                                                                                                               \
      if (is_masked) label_any_##LEVEL<kAtOnce, kGroups, true>(first, step, most, columns, labels[i]);                \
      else label_any_##LEVEL<kAtOnce, kGroups, false>(first, step, most, columns, labels[i]);                         \
    }                                                                                                                 \
    for (int32_t row = 0; row < kGroups * kGroupRows; row += kGroupRows) {                                            \
      __m512d sum[8];                                                                                                 \
      for (int32_t k = 0; k < 8; ++k) sum[k] = _mm512_load_pd(sums + row + 8 * k);                                    \
      _Pragma("GCC unroll 4") for (int32_t i = 0; i < kTrees; ++i) {                                                  \
        const Leaves leaf = leaves_any_##LEVEL(trees[i * step], labels[i] + row);                                     \
        for (int32_t k = 0; k < 8; ++k) sum[k] = _mm512_add_pd(sum[k], leaf.row[k]);                                  \
      }                                                                                                               \
      for (int32_t k = 0; k < 8; ++k) _mm512_store_pd(sums + row + 8 * k, sum[k]);                                    \
    }                                                                                                                 \
  }                                                                                                                   \
                                                                                                                      \
  template <int32_t kGroups>                                                                                          \
  TARGET void add_groups_##LEVEL(const Labels* trees, int32_t count, int32_t step, const uint8_t* columns,            \
                                 double* sums) noexcept {                                                             \
    constexpr int32_t kAtOnce = trees_at_once(kGroups), kTrees = std::max(kAtOnce, 2);                                \
    for (; count >= kTrees; count -= kTrees, trees += kTrees * step) {                                                \
      add_some_##LEVEL<kTrees, kAtOnce, kGroups>(trees, step, columns, sums);                                         \
    }                                                                                                                 \
    for (; count > 0; --count, trees += step) add_some_##LEVEL<1, 1, kGroups>(trees, step, columns, sums);            \
  }                                                                                                                   \
                                                                                                                      \
  TARGET void add_trees_##LEVEL(const Labels* trees, int32_t count, int32_t step, int32_t groups,                     \
                                const uint8_t* columns, double* sums) noexcept {                                      \
    switch (groups) {                                                                                                 \
      case 1: return add_groups_##LEVEL<1>(trees, count, step, columns, sums);                                        \
      case 2: return add_groups_##LEVEL<2>(trees, count, step, columns, sums);                                        \
      case 3: return add_groups_##LEVEL<3>(trees, count, step, columns, sums);                                        \
      case 4: return add_groups_##LEVEL<4>(trees, count, step, columns, sums);                                        \
      case 5: return add_groups_##LEVEL<5>(trees, count, step, columns, sums);                                        \
      case 6: return add_groups_##LEVEL<6>(trees, count, step, columns, sums);                                        \
      case 7: return add_groups_##LEVEL<7>(trees, count, step, columns, sums);                                        \
      default: return add_groups_##LEVEL<8>(trees, count, step, columns, sums);                                       \
    }                                                                                                                 \
  }

PAIREC_ADD_TREES(avx512bw, PAIREC_TARGET_AVX512)
PAIREC_ADD_TREES(avx512vbmi, PAIREC_TARGET_VBMI)
static_assert(kBlockRows == 8 * kGroupRows);
#endif

}  // namespace

AddTrees label_kernel(Isa level) noexcept {
  switch (level) {
#if defined(__x86_64__)
    case Isa::avx512vbmi: return add_trees_avx512vbmi;
    case Isa::avx512bw: return add_trees_avx512bw;
    case Isa::avx2: return add_trees_avx2;
#endif
    default: return add_trees_baseline;
  }
}

}  // namespace pairec
