#include "recall.hpp"

#include <algorithm>

namespace pairec {

namespace {

template <typename Score>
std::int32_t add_scored(Arena& arena, const std::int32_t* rows, const Score* scores, std::int32_t count,
                        std::int32_t k, std::uint8_t source) noexcept {
  // A copy, that no column can overlap: of `arena` itself every byte written to `source` might be a pointer changed.
  Arena own = arena;
  for (std::int32_t i = 0; i < count && k > 0 && own.count < own.candidates_max; ++i) {
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
  for (std::int32_t i = 0; i < history_count; ++i) {
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

// Orders the `k` best of the `marked` rows in arena.touched, by arena.sum, to its front. Returns how many there are.
std::int32_t best_of(Arena& arena, std::int32_t marked, std::int32_t k) noexcept {
  std::int32_t touched = 0;
  for (std::int32_t i = 0; i < marked; ++i) {  // those that are gone would take places of the k
    arena.touched[touched] = arena.touched[i];
    touched += arena.overlay.resolve(arena.touched[i]) >= 0;
  }
  const double* sum = arena.sum;
  const auto better = [sum](std::int32_t a, std::int32_t b) {
    if (sum[a] != sum[b]) return sum[a] > sum[b];
    return a < b;
  };
  k = std::min(k, touched);
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
