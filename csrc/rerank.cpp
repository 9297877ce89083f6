#include "rerank.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

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

// Below this std::sort is faster: the counts of all digits are emptied and summed up whatever the count is.
constexpr std::int32_t radix_from = 128;

// An integer that is ordered as the doubles are, for who is not NaN; -0 is 0.
template <bool descending>
std::uint64_t ordered(double key) noexcept {
  key += 0.0;
  std::uint64_t bits;
  std::memcpy(&bits, &key, sizeof(bits));
  bits ^= bits >> 63 ? ~std::uint64_t{0} : std::uint64_t{1} << 63;
  return descending ? ~bits : bits;
}

// Sorts slots by the bytes of `bits` from `first` on, the lowest first, and leaves them in `order`. Nothing is guessed, where
// comparisons miss every other branch. Stable.
template <int first>
void order_digits(const std::uint64_t* bits, std::int32_t* order, std::int32_t* spare, std::int32_t count) noexcept {
  std::int32_t counts[8 - first][256] = {};
  for (std::int32_t i = 0; i < count; ++i) {
    const std::uint64_t value = bits[order[i]];
    for (int digit = first; digit < 8; ++digit) ++counts[digit - first][value >> 8 * digit & 255];
  }
  std::int32_t *from = order, *to = spare;
  for (int digit = first; digit < 8; ++digit) {
    std::int32_t* next = counts[digit - first];
    if (next[bits[from[0]] >> 8 * digit & 255] == count) continue;  // the same in all
    std::int32_t before = 0;
    for (int value = 0; value < 256; ++value) {
      const std::int32_t here = next[value];
      next[value] = before;
      before += here;
    }
    for (std::int32_t i = 0; i < count; ++i) to[next[bits[from[i]] >> 8 * digit & 255]++] = from[i];
    std::swap(from, to);
  }
  if (from != order) std::copy(from, from + count, order);
}

// Moves each slot before those of larger bits, unless that takes more than `count` moves. True when all are in order.
bool settle(const std::uint64_t* bits, std::int32_t* order, std::int32_t count) noexcept {
  std::int32_t moves = 0;
  std::uint64_t largest = bits[order[0]];
  for (std::int32_t i = 1; i < count; ++i) {
    const std::int32_t slot = order[i];
    if (bits[slot] >= largest) {
      largest = bits[slot];
      continue;
    }
    std::int32_t at = i;
    for (; at > 0 && bits[order[at - 1]] > bits[slot]; --at) order[at] = order[at - 1];
    order[at] = slot;
    if ((moves += i - at) > count) return false;
  }
  return true;
}

// Half of the bytes tell nearly all scores apart; where they do not, the order is settled, or all bytes are looked at.
template <bool descending>
void order_many(const double* key, std::int32_t* order, std::int32_t* spare, std::int32_t count,
                std::uint64_t* bits) noexcept {
  for (std::int32_t i = 0; i < count; ++i) bits[order[i]] = ordered<descending>(key[order[i]]);
  order_digits<4>(bits, order, spare, count);
  if (!settle(bits, order, count)) order_digits<0>(bits, order, spare, count);
}

}  // namespace

void order_by(Arena& arena, const double* key, bool descending, std::int32_t size) noexcept {
  const std::int32_t count = arena.order_count;
  arena.order_count = size;
  if (size == 0) return;
  if (size == count && count >= radix_from) {
    auto* bits = reinterpret_cast<std::uint64_t*>(arena.scratch);
    (descending ? order_many<true> : order_many<false>)(key, arena.order, arena.spare, count, bits);
    return;
  }
  std::copy(arena.order, arena.order + count, arena.spare);
  (descending ? order_places<true> : order_places<false>)(key, arena.spare, arena.order, count, size);
  for (std::int32_t i = 0; i < size; ++i) arena.order[i] = arena.spare[arena.order[i]];
}

}  // namespace pairec
