#include "best.hpp"

#include <algorithm>
#include <functional>
#include <utility>

namespace pairec {

// By the bytes of the score, from the lowest, then by row where scores are equal. A sort by comparison takes three times
// as long: of its branches every other one is mispredicted.
void sort_best(Best* best, Best* spare, std::int32_t count) noexcept {
  constexpr int passes = 4;
  std::int32_t counts[passes][256] = {};
  const auto byte = [](Best key, int pass) { return ~(key >> (32 + 8 * pass)) & 255; };
  for (std::int32_t i = 0; i < count; ++i)
    for (int pass = 0; pass < passes; ++pass) ++counts[pass][byte(best[i], pass)];
  Best *from = best, *to = spare;
  for (int pass = 0; pass < passes && count > 0; ++pass) {
    if (counts[pass][byte(from[0], pass)] == count) continue;  // the same in all
    std::int32_t start = 0;
    for (std::int32_t& number : counts[pass]) start += std::exchange(number, start);
    for (std::int32_t i = 0; i < count; ++i) to[counts[pass][byte(from[i], pass)]++] = from[i];
    std::swap(from, to);
  }
  if (from != best) std::copy(from, from + count, best);
  for (std::int32_t first = 0, end; first < count; first = end) {
    for (end = first + 1; end < count && best[end] >> 32 == best[first] >> 32; ++end) {
    }
    if (end - first > 1) std::sort(best + first, best + end, std::greater<>());
  }
}

std::int32_t write_best(Best* best, Best* spare, std::int32_t count, std::int32_t k, std::int32_t* rows,
                        float* scores) noexcept {
  sort_best(best, spare, count);
  const std::int32_t found = std::min(k, count);
  for (std::int32_t i = 0; i < found; ++i) {
    rows[i] = row_of(best[i]);
    scores[i] = score_of(best[i]);
  }
  return found;
}

}  // namespace pairec
