#include "fold.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "target.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::size_t;
using std::uint16_t;
using std::uint64_t;
using std::uint8_t;

constexpr size_t kInRegisters = 128;
constexpr size_t kSpare = 64;  // read, or written, as parts of whole registers

// The columns of shared features that most splits look at, up to `kInRegisters`.
std::vector<uint16_t> most_used(const Ranks& ranks, const std::vector<uint8_t>& is_shared) {
  std::vector<size_t> uses(ranks.columns);
  for (size_t i = 0; i + kSpare < ranks.column.size(); ++i) ++uses[ranks.column[i]];
  std::vector<uint16_t> out;
  for (size_t i = 0; i < ranks.columns; ++i) {
    if (is_shared[i] && uses[i] > 0) out.push_back(uint16_t(i));
  }
  std::stable_sort(out.begin(), out.end(), [&](uint16_t a, uint16_t b) { return uses[a] > uses[b]; });
  out.resize(std::min(out.size(), kInRegisters));
  return out;
}

// Walks a tree from its root. A label stands for a subtree that some candidate may reach: the left child takes over its
// parent's, the right one gets the next.
void fold_tree(const Ranks& ranks, const FoldPlan& plan, const Ranks::Tree& tree, const uint8_t* row, Folded& out,
               size_t& split, size_t& leaf, Labels& to) noexcept {
  int32_t label[kLabelsMax];  // of a step; -1: nobody comes by
  double* leaves = out.leaf.data() + leaf;
  const size_t begin = split;
  int32_t labels = 1;
  std::fill_n(label, tree.leaves, -1);
  label[0] = 0;
  if (tree.leaves == 1) leaves[0] = ranks.leaves[tree.leaf];
  for (int32_t i = 0; i + 1 < int32_t(tree.leaves); ++i) {
    if (label[i] < 0) continue;
    const Ranks::Step& step = ranks.steps[tree.step + size_t(i)];
    const auto reach = [&](int32_t next, int32_t with) {
      if (next < 0) leaves[with] = ranks.leaves[tree.leaf + size_t(~next)];
      else label[next] = with;
    };
    if (plan.is_shared[step.column]) {
      reach(step.next[int8_t(row[step.column] & step.mask) > step.rank], label[i]);
      continue;
    }
    out.column[split] = step.column;
    out.mask[split] = step.mask;
    out.rank[split] = step.rank;
    out.from[split] = uint8_t(label[i]);
    out.to[split++] = uint8_t(labels);
    reach(step.next[0], label[i]);
    reach(step.next[1], labels++);
  }
  leaf += size_t(labels);
  to.column = out.column.data() + begin;
  to.mask = out.mask.data() + begin;
  to.rank = out.rank.data() + begin;
  to.from = out.from.data() + begin;
  to.to = out.to.data() + begin;
  to.splits = int32_t(split - begin);
  to.labels = labels;
  to.leaf = leaves;
  to.planes = nullptr;
}

void fold_baseline(const Ranks& ranks, const FoldPlan& plan, const uint8_t* row, Folded& out) noexcept {
  size_t split = 0, leaf = 0;
  for (size_t i = 0; i < ranks.trees.size(); ++i) {
    if (ranks.trees[i].is_labelled) fold_tree(ranks, plan, ranks.trees[i], row, out, split, leaf, out.trees[i]);
  }
}

#if defined(__x86_64__)
struct Constants {
  alignas(64) uint8_t spread[8][64];  // byte 8g + i of a register to the lowest of its i-th eight
  alignas(64) uint64_t below[8];      // bits below the eight-th of each i
  alignas(64) uint8_t low_or_high[64], eighth[64], below_in_eight[64], same[64];
};
constexpr Constants kConstants = [] {
  Constants it{};
  for (size_t i = 0; i < 64; ++i) {
    for (size_t g = 0; g < 8; ++g) it.spread[g][i] = uint8_t(i % 8 == 0 ? 8 * g + i / 8 : 0);
    it.low_or_high[i] = i % 16 < 8 ? 0 : 8;
    it.eighth[i] = uint8_t(i / 8);
    it.below_in_eight[i] = uint8_t((1u << i % 8) - 1);
    it.same[i] = uint8_t(i);
  }
  for (size_t i = 0; i < 8; ++i) it.below[i] = (uint64_t(1) << 8 * i) - 1;
  return it;
}();

// Byte i: how many bits of `live` are set below bit i.
PAIREC_TARGET_VBMI inline __m512i counts_below(uint64_t live) noexcept {
  const __m512i all = _mm512_set1_epi64(int64_t(live));
  const __m512i eights = _mm512_popcnt_epi64(_mm512_and_si512(all, _mm512_load_si512(kConstants.below)));
  const __m512i eight = _mm512_permutexvar_epi8(_mm512_load_si512(kConstants.eighth), all);
  const __m512i within = _mm512_popcnt_epi8(_mm512_and_si512(eight, _mm512_load_si512(kConstants.below_in_eight)));
  return _mm512_add_epi8(_mm512_shuffle_epi8(eights, _mm512_load_si512(kConstants.low_or_high)), within);
}

// Bytes of a table of kWords registers.
template <int kWords>
PAIREC_TARGET_VBMI inline __m512i look_up(const __m512i* table, __m512i at) noexcept {
  if constexpr (kWords == 1) return _mm512_permutexvar_epi8(at, table[0]);
  if constexpr (kWords == 2) return _mm512_permutex2var_epi8(table[0], at, table[1]);
  if constexpr (kWords == 4) {
    return _mm512_mask_mov_epi8(_mm512_permutex2var_epi8(table[0], at, table[1]), _mm512_movepi8_mask(at),
                                _mm512_permutex2var_epi8(table[2], at, table[3]));
  }
}

// Marks the leaves that up to 64 splits send nobody to. Bit i of `rights`: split i goes right.
template <int kWords>
PAIREC_TARGET_VBMI inline void mark_dead(const FoldPlan& plan, size_t at, int32_t count, __mmask64 rights,
                                         __m512i* dead) noexcept {
  const __mmask64 some = count >= 64 ? ~0ull : (1ull << count) - 1;
  const __m512i from = _mm512_loadu_si512(plan.shared_from.data() + at);
  const __m512i to = _mm512_loadu_si512(plan.shared_to.data() + at);
  const __m512i last = _mm512_loadu_si512(plan.shared_last.data() + at);
  // Right: leaves from `from` to `to` - 1 are dead. Left: from `to` to `last`. Of no split: none, all shifted out.
  const __m512i begin = _mm512_mask_mov_epi8(to, rights, from);
  const __m512i end = _mm512_mask_sub_epi8(last, rights, to, _mm512_set1_epi8(1));
  const __m512i ones = _mm512_set1_epi64(-1);
  for (int word = 0; word < kWords; ++word) {
    const __m512i up = _mm512_subs_epu8(begin, _mm512_set1_epi8(char(64 * word)));
    const __m512i down = _mm512_mask_subs_epu8(_mm512_set1_epi8(64), some, _mm512_set1_epi8(char(64 * word + 63)), end);
    for (int32_t g = 0; 8 * g < count; ++g) {
      const __m512i spread = _mm512_load_si512(kConstants.spread[g]);
      constexpr __mmask64 lowest = 0x0101010101010101;
      const __m512i not_before = _mm512_sllv_epi64(ones, _mm512_maskz_permutexvar_epi8(lowest, spread, up));
      const __m512i not_after = _mm512_srlv_epi64(ones, _mm512_maskz_permutexvar_epi8(lowest, spread, down));
      dead[word] = _mm512_ternarylogic_epi64(dead[word], not_before, not_after, 0xF8);  // a | (b & c)
    }
  }
}

struct Output {  // where the next tree's splits go, and its table of live leaves
  uint16_t* column;
  uint8_t *mask, *from, *to, *live;
  int8_t* rank;
};

template <int kWords>
PAIREC_TARGET_VBMI inline void fold_words(const Ranks& ranks, const FoldPlan& plan, const FoldPlan::Tree& tree,
                                          int32_t leaves, __m512i low, __m512i high, const uint8_t* row, Output& out,
                                          Labels& to) noexcept {
  __m512i dead[kWords];
  for (__m512i& it : dead) it = _mm512_setzero_si512();
  size_t at = tree.shared;
  for (int32_t begin = 0; begin < tree.in_registers; begin += 64) {
    const int32_t count = std::min(64, tree.in_registers - begin);
    const __m512i place = _mm512_loadu_si512(plan.shared_place.data() + at);
    const __m512i byte = _mm512_and_si512(_mm512_permutex2var_epi8(low, place, high),
                                          _mm512_loadu_si512(plan.shared_mask.data() + at));
    const __mmask64 rights = _mm512_cmpgt_epi8_mask(byte, _mm512_loadu_si512(plan.shared_rank.data() + at));
    mark_dead<kWords>(plan, at, count, rights, dead);
    at += size_t(count);
  }
  for (int32_t begin = 0; begin < tree.looked_up; begin += 64) {
    const int32_t count = std::min(64, tree.looked_up - begin);
    uint64_t rights = 0;
    for (size_t i = 0; i < size_t(count); ++i) {
      const auto byte = int8_t(row[plan.shared_column[at + i]] & plan.shared_mask[at + i]);
      rights |= uint64_t(byte > plan.shared_rank[at + i]) << i;
    }
    mark_dead<kWords>(plan, at, count, rights, dead);
    at += size_t(count);
  }

  uint64_t live[kWords];
  int32_t count = 0;  // of live leaves
  __m512i below[kWords], places[1];
  for (int word = 0; word < kWords; ++word) {
    const int32_t here = std::clamp(leaves - 64 * word, 0, 64);
    const uint64_t some = here == 64 ? ~0ull : (1ull << here) - 1;
    live[word] = ~uint64_t(_mm512_reduce_or_epi64(dead[word])) & some;
    below[word] = _mm512_add_epi8(counts_below(live[word]), _mm512_set1_epi8(char(count)));
    const __m512i same = _mm512_add_epi8(_mm512_load_si512(kConstants.same), _mm512_set1_epi8(char(64 * word)));
    places[0] = _mm512_maskz_compress_epi8(live[word], same);
    if constexpr (kWords > 1) _mm512_storeu_si512(out.live + count, places[0]);
    count += std::popcount(live[word]);
  }
  to.column = out.column;
  to.mask = out.mask;
  to.rank = out.rank;
  to.from = out.from;
  to.to = out.to;
  to.is_masked = tree.is_masked;
  if constexpr (kWords == 1) {  // labels stay leaves
    to.first = uint8_t(std::countr_zero(live[0]));
  } else {  // labels are counted anew, and looked up in `live` at last
    to.live = out.live;
    to.labels = count;
    out.live += 64 * kWords;
  }

  int32_t splits = 0;
  for (int32_t begin = 0; begin < tree.owns; begin += 64) {
    const int32_t here = std::min(64, tree.owns - begin);
    const __mmask64 some = here == 64 ? ~0ull : (1ull << here) - 1;
    const size_t own = tree.own + size_t(begin);
    __m512i from = look_up<kWords>(below, _mm512_loadu_si512(plan.from.data() + own));
    __m512i right = look_up<kWords>(below, _mm512_loadu_si512(plan.to.data() + own));
    // A subtree that the splits above it leave alive has live leaves on both sides: each split below it keeps one side.
    const __mmask64 kept = _mm512_mask_cmplt_epu8_mask(some, from, right);
    if constexpr (kWords == 1) {
      from = _mm512_permutexvar_epi8(from, places[0]);
      right = _mm512_permutexvar_epi8(right, places[0]);
    }
    const __m512i column0 = _mm512_loadu_si512(plan.column.data() + own);
    const __m512i column1 = _mm512_loadu_si512(plan.column.data() + own + 32);
    const auto half = std::popcount(uint64_t(kept) & 0xFFFFFFFF);
    _mm512_storeu_si512(out.column, _mm512_maskz_compress_epi16(__mmask32(kept), column0));
    _mm512_storeu_si512(out.column + half, _mm512_maskz_compress_epi16(__mmask32(kept >> 32), column1));
    const auto put = [&](void* to, __m512i bytes) PAIREC_TARGET_VBMI {
      _mm512_storeu_si512(to, _mm512_maskz_compress_epi8(kept, bytes));
    };
    put(out.from, from);
    put(out.to, right);
    put(out.rank, _mm512_loadu_si512(plan.rank.data() + own));
    put(out.mask, _mm512_loadu_si512(plan.mask.data() + own));
    const auto kept_count = std::popcount(uint64_t(kept));
    out.column += kept_count;
    out.from += kept_count;
    out.to += kept_count;
    out.rank += kept_count;
    out.mask += kept_count;
    splits += kept_count;
  }
  to.splits = splits;
}

PAIREC_TARGET_VBMI void fold_avx512vbmi(const Ranks& ranks, const FoldPlan& plan, const uint8_t* row,
                                        Folded& out) noexcept {
  alignas(64) uint8_t bytes[kInRegisters] = {};
  for (size_t i = 0; i < plan.in_registers.size(); ++i) bytes[i] = row[plan.in_registers[i]];
  const __m512i low = _mm512_load_si512(bytes), high = _mm512_load_si512(bytes + 64);
  Output to{out.column.data(), out.mask.data(), out.from.data(), out.to.data(), out.live.data(), out.rank.data()};
  for (size_t i = 0; i < plan.trees.size(); ++i) {
    Labels& labels = out.trees[i];
    if (labels.from == nullptr) continue;
    const auto leaves = int32_t(ranks.trees[i].leaves);
    const FoldPlan::Tree& tree = plan.trees[i];
    if (leaves <= 64) fold_words<1>(ranks, plan, tree, leaves, low, high, row, to, labels);
    else if (leaves <= 128) fold_words<2>(ranks, plan, tree, leaves, low, high, row, to, labels);
    else fold_words<4>(ranks, plan, tree, leaves, low, high, row, to, labels);
  }
}
#endif

}  // namespace

FoldPlan fold_plan(const Ranks& ranks, const uint8_t* is_shared) {
  FoldPlan plan;
  for (const int32_t feature : ranks.feature) plan.is_shared.push_back(is_shared[feature]);
  plan.in_registers = most_used(ranks, plan.is_shared);
  std::vector<int32_t> place(ranks.columns, -1);
  for (size_t i = 0; i < plan.in_registers.size(); ++i) place[plan.in_registers[i]] = int32_t(i);
  const auto add_shared = [&](size_t i) {
    plan.shared_column.push_back(ranks.column[i]);
    plan.shared_place.push_back(uint8_t(std::max(place[ranks.column[i]], 0)));
    plan.shared_mask.push_back(ranks.mask[i]);
    plan.shared_rank.push_back(ranks.rank[i]);
    plan.shared_from.push_back(ranks.from[i]);
    plan.shared_to.push_back(ranks.to[i]);
    plan.shared_last.push_back(ranks.last[i]);
  };
  for (const Ranks::Tree& from : ranks.trees) {
    FoldPlan::Tree tree{uint32_t(plan.shared_column.size()), uint32_t(plan.column.size()), 0, 0, 0, false};
    const size_t begin = from.split, end = from.is_labelled ? begin + from.leaves - 1 : begin;
    for (size_t i = begin; i < end; ++i) {
      if (!plan.is_shared[ranks.column[i]] || place[ranks.column[i]] < 0) continue;
      add_shared(i);
      ++tree.in_registers;
    }
    for (size_t i = begin; i < end; ++i) {
      if (!plan.is_shared[ranks.column[i]] || place[ranks.column[i]] >= 0) continue;
      add_shared(i);
      ++tree.looked_up;
    }
    for (size_t i = begin; i < end; ++i) {
      if (plan.is_shared[ranks.column[i]]) continue;
      plan.column.push_back(ranks.column[i]);
      plan.mask.push_back(ranks.mask[i]);
      plan.rank.push_back(ranks.rank[i]);
      plan.from.push_back(ranks.from[i]);
      plan.to.push_back(ranks.to[i]);
      tree.is_masked |= ranks.mask[i] != 0xFF;
      ++tree.owns;
    }
    plan.trees.push_back(tree);
  }
  const auto spare = [](auto&... arrays) { (arrays.resize(arrays.size() + kSpare), ...); };
  spare(plan.shared_column, plan.shared_place, plan.shared_mask, plan.shared_rank, plan.shared_from, plan.shared_to,
        plan.shared_last, plan.column, plan.mask, plan.rank, plan.from, plan.to);
  return plan;
}

Folded folded_for(const Ranks& ranks, const FoldPlan& plan) {
  Folded out;
  const size_t splits = plan.column.size() + kSpare;
  out.column.resize(splits);
  out.mask.resize(splits);
  out.from.resize(splits);
  out.to.resize(splits);
  out.rank.resize(splits);
  out.leaf.resize(ranks.leaves.size());
  size_t live = kSpare;
  for (const Ranks::Tree& tree : ranks.trees) {
    if (tree.is_labelled) live += tree.leaves > 128 ? 256 : tree.leaves > 64 ? 128 : 0;
    out.trees.push_back(tree.is_labelled ? labels_of(ranks, tree) : Labels{});
  }
  out.live.resize(live);
  return out;
}

Fold fold_kernel(Isa level) noexcept {
#if defined(__x86_64__)
  if (level == Isa::avx512vbmi) return fold_avx512vbmi;
#endif
  return fold_baseline;
}

}  // namespace pairec
