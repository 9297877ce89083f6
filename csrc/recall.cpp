#include "recall.hpp"

#include <algorithm>

#include "radix.hpp"

namespace pairec {

namespace {

template <typename Score>
std::int32_t add_scored(Arena& arena, const std::int32_t* rows, const Score* scores, std::int32_t count,
                        std::int32_t k, std::uint8_t source) noexcept {
  // A copy, that no column can overlap: of `arena` itself every byte written to `source` might be a pointer changed.
  Arena own = arena;
  constexpr std::int32_t ahead = 16;
  for (std::int32_t i = 0; i < count && k > 0 && own.count < own.candidates_max; ++i) {
    if (i + ahead < count) __builtin_prefetch(own.seen.stamp + rows[i + ahead], 1);
    const std::int32_t row = own.overlay.resolve(rows[i]);
    if (row < 0) continue;
    --k;
    // By item: one that changes while this request runs is a candidate once, by the row that came first.
    if (!own.repeats && !own.seen.insert(own.overlay.item_of(row))) continue;
    const std::int32_t slot = own.count++;
    own.row[slot] = row;
    own.place[slot] = slot;
    own.source[slot] = source;
    own.recall_score[slot] = static_cast<double>(scores[i]);
  }
  const std::int32_t added = own.count - arena.count;
  arena.count = own.count;
  return added;
}

}  // namespace

std::int32_t add(Arena& arena, const std::int32_t* rows, const float* scores, std::int32_t count, std::int32_t k,
                 std::uint8_t source) noexcept {
  return add_scored(arena, rows, scores, count, k, source);
}

std::int32_t add(Arena& arena, const std::int32_t* rows, const double* scores, std::int32_t count, std::int32_t k,
                 std::uint8_t source) noexcept {
  return add_scored(arena, rows, scores, count, k, source);
}

std::int32_t accumulate(Arena& arena, const Neighbours& table, const std::int32_t* history,
                        std::int32_t history_count) noexcept {
  arena.mark.clear();
  std::int32_t touched = 0;
  // Every list, and every sum, lies somewhere else: those of the lists to come are asked for two steps and one ahead.
  const auto ask_for_list = [&](std::int32_t i) {
    if (i >= history_count) return;
    const std::int64_t begin = table.offset[history[i]];
    __builtin_prefetch(table.neighbour + begin);
    __builtin_prefetch(table.weight + begin);
  };
  const auto ask_for_sums = [&](std::int32_t i) {
    if (i >= history_count) return;
    const std::int64_t end = table.offset[history[i] + 1];
    for (std::int64_t at = table.offset[history[i]]; at < end; ++at) {
      __builtin_prefetch(arena.mark.stamp + table.neighbour[at], 1);
      __builtin_prefetch(arena.sum + table.neighbour[at], 1);
    }
  };
  for (std::int32_t i = 0; i < std::min(history_count, 8); ++i) __builtin_prefetch(table.offset + history[i]);
  ask_for_list(0);
  ask_for_list(1);
  ask_for_sums(0);
  for (std::int32_t i = 0; i < history_count; ++i) {
    if (i + 8 < history_count) __builtin_prefetch(table.offset + history[i + 8]);
    ask_for_list(i + 2);
    ask_for_sums(i + 1);
    const std::int64_t end = table.offset[history[i] + 1];
    for (std::int64_t at = table.offset[history[i]]; at < end; ++at) {
      const std::int32_t row = table.neighbour[at];
      if (arena.mark.insert(row)) {
        arena.sum[row] = 0.0;
        arena.touched[touched++] = row;
      }
      arena.sum[row] += static_cast<double>(table.weight[at]);
    }
  }
  return touched;
}

namespace {

// Sorts arena.touched [count] by arena.sum, the largest first, equal ones by lower row. Requires room for as many again
// behind them, and count <= arena.candidates_max.
void order_touched(Arena& arena, std::int32_t count) noexcept {
  std::int32_t *const rows = arena.touched, *const copy = rows + count, *const order = arena.spare;
  auto* const bits = reinterpret_cast<std::uint64_t*>(arena.scratch);
  for (std::int32_t i = 0; i < count; ++i) {
    bits[i] = ordered<true>(arena.sum[rows[i]]);
    order[i] = i;
  }
  order_bits(bits, order, copy, count);
  std::copy(rows, rows + count, copy);
  for (std::int32_t begin = 0, end = 0; begin < count; begin = end) {
    for (; end < count && bits[order[end]] == bits[order[begin]]; ++end) rows[end] = copy[order[end]];
    if (end - begin > 1) std::sort(rows + begin, rows + end);
  }
}

// Orders the `k` best of the `marked` rows in arena.touched, by arena.sum, to its front. Returns how many there are.
std::int32_t best_of(Arena& arena, std::int32_t marked, std::int32_t k) noexcept {
  std::int32_t touched = 0;
  for (std::int32_t i = 0; i < marked; ++i) {  // those that are gone would take places of the k
    arena.touched[touched] = arena.touched[i];
    touched += arena.overlay.resolve(arena.touched[i]) >= 0;
  }
  k = std::min(k, touched);
  if (touched >= radix_from && touched <= arena.candidates_max && touched <= arena.items_max / 2) {
    order_touched(arena, touched);
    return k;
  }
  const double* sum = arena.sum;
  const auto better = [sum](std::int32_t a, std::int32_t b) {
    if (sum[a] != sum[b]) return sum[a] > sum[b];
    return a < b;
  };
  std::partial_sort(arena.touched, arena.touched + k, arena.touched + touched, better);
  return k;
}

}  // namespace

std::int32_t add_similar(Arena& arena, const Neighbours& table, const std::int32_t* history,
                         std::int32_t history_count, std::int32_t k, std::uint8_t source) noexcept {
  k = best_of(arena, accumulate(arena, table, history, history_count), k);
  const std::int32_t before = arena.count;
  for (std::int32_t begin = 0, count = 0; begin < k; begin += count) {
    const std::int32_t* rows = arena.touched + begin;
    count = std::min(k - begin, arena.candidates_max);
    for (std::int32_t i = 0; i < count; ++i) arena.scratch[i] = static_cast<double>(static_cast<float>(arena.sum[rows[i]]));
    add(arena, rows, arena.scratch, count, count, source);
  }
  return arena.count - before;
}

std::int32_t merge(Arena& arena, const std::int32_t* rows, const double* weights, std::int32_t count, bool largest,
                   std::int32_t k) noexcept {
  arena.mark.clear();
  std::int32_t touched = 0;
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t row = rows[i];
    if (row < 0) continue;
    if (arena.mark.insert(row)) {
      arena.sum[row] = weights[i];
      arena.touched[touched++] = row;
    } else {
      arena.sum[row] = largest ? std::max(arena.sum[row], weights[i]) : arena.sum[row] + weights[i];
    }
  }
  return best_of(arena, touched, k);
}

std::int32_t in_turn(Arena& arena, const std::int32_t* rows, const std::int64_t* offset, std::int64_t* next,
                     std::int32_t lists, std::int32_t k, std::int32_t* taken) noexcept {
  arena.mark.clear();
  std::int32_t count = 0;
  for (bool took = true; took && count < k;) {
    took = false;
    for (std::int32_t list = 0; list < lists && count < k; ++list) {
      while (next[list] < offset[list + 1]) {
        const std::int64_t at = next[list]++;
        if (rows[at] < 0 || arena.overlay.resolve(rows[at]) < 0 || !arena.mark.insert(rows[at])) continue;
        taken[count++] = static_cast<std::int32_t>(at);
        took = true;
        break;
      }
    }
  }
  return count;
}

}  // namespace pairec
