#include "rerank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "radix.hpp"

namespace pairec {

void top_k(Arena& arena, std::int32_t size) noexcept {
  const double* score = arena.score;
  const std::int32_t* row = arena.row;
  std::int32_t* order = arena.order;
  settle_scores(arena);
  const auto better = [=](std::int32_t a, std::int32_t b) {
    if (score[a] != score[b]) return score[a] > score[b];
    return row[a] < row[b];  // a reply must not depend on which recall came first
  };
  for (std::int32_t slot = 0; slot < arena.count; ++slot) order[slot] = slot;
  arena.order_count = size;
  if (size == arena.count) {
    std::sort(order, order + size, better);
    return;
  }
  // A heap whose top is the worst slot kept: most candidates lose one comparison and are forgotten.
  std::make_heap(order, order + size, better);
  for (std::int32_t slot = size; slot < arena.count; ++slot) {
    if (!better(slot, order[0])) continue;
    std::pop_heap(order, order + size, better);
    order[size - 1] = slot;
    std::push_heap(order, order + size, better);
  }
  std::sort_heap(order, order + size, better);
}

void settle_scores(Arena& arena) noexcept {
  for (std::int32_t slot = 0; slot < arena.count; ++slot)
    arena.score[slot] = std::isnan(arena.score[slot]) ? -std::numeric_limits<double>::infinity() : arena.score[slot];
}

namespace {

// Sorts places of `slot`, so that a tie can be decided by who came first.
template <bool descending>
void order_places(const double* key, const std::int32_t* slot, std::int32_t* place, std::int32_t count,
                  std::int32_t size) noexcept {
  const auto better = [=](std::int32_t a, std::int32_t b) {
    const double left = key[slot[a]], right = key[slot[b]];
    if (left != right) return descending ? left > right : left < right;
    return a < b;
  };
  for (std::int32_t i = 0; i < count; ++i) place[i] = i;
  if (size < count) {
    std::make_heap(place, place + size, better);
    for (std::int32_t i = size; i < count; ++i) {
      if (!better(i, place[0])) continue;
      std::pop_heap(place, place + size, better);
      place[size - 1] = i;
      std::push_heap(place, place + size, better);
    }
    std::sort_heap(place, place + size, better);
  } else {
    std::sort(place, place + size, better);
  }
}

}  // namespace

void order_by(Arena& arena, const double* key, bool descending, std::int32_t size) noexcept {
  const std::int32_t count = arena.order_count;
  arena.order_count = size;
  if (size == 0) return;
  if (size == count && count >= radix_from) {
    auto* bits = reinterpret_cast<std::uint64_t*>(arena.scratch);
    for (std::int32_t i = 0; i < count; ++i) {
      const std::int32_t slot = arena.order[i];
      bits[slot] = descending ? ordered<true>(key[slot]) : ordered<false>(key[slot]);
    }
    order_bits(bits, arena.order, arena.spare, count);
    return;
  }
  std::copy(arena.order, arena.order + count, arena.spare);
  (descending ? order_places<true> : order_places<false>)(key, arena.spare, arena.order, count, size);
  for (std::int32_t i = 0; i < size; ++i) arena.order[i] = arena.spare[arena.order[i]];
}

}  // namespace pairec
