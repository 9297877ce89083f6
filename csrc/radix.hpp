// Sorting places by doubles without comparing them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

namespace pairec {

// Below this std::sort is faster: the counts of all digits are emptied and summed up whatever the count is.
inline constexpr std::int32_t radix_from = 128;

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
inline bool settle(const std::uint64_t* bits, std::int32_t* order, std::int32_t count) noexcept {
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

// Sorts places in `order` [count] by their `bits`, the lowest first; stable. Half of the bytes tell nearly all scores
// apart; where they do not, the order is settled, or all bytes are looked at.
inline void order_bits(const std::uint64_t* bits, std::int32_t* order, std::int32_t* spare,
                       std::int32_t count) noexcept {
  order_digits<4>(bits, order, spare, count);
  if (!settle(bits, order, count)) order_digits<0>(bits, order, spare, count);
}

}  // namespace pairec
