#include "flat.hpp"

#include <cstring>

namespace pairec {
namespace {

void scan_all(const Vectors& vectors, const float* query, float* scores, Best& best) noexcept {
  for (std::int32_t first = 0; first < vectors.count; first += block_rows) {
    const std::int32_t count = std::min(block_rows, vectors.count - first);
    vectors.scorer.range(query, vectors.data + static_cast<std::size_t>(first) * vectors.width, vectors.width, count,
                         scores);
    for (std::int32_t i = 0; i < count; ++i) best.push(key_of(scores[i], first + i));
  }
}

void scan_allowed(const Vectors& vectors, const float* query, const std::uint8_t* allow, Scratch& scratch,
                  Best& best) noexcept {
  std::int32_t count = 0;
  const auto score = [&] {
    vectors.scorer.rows(query, vectors.data, vectors.width, scratch.rows, count, scratch.scores);
    for (std::int32_t i = 0; i < count; ++i) best.push(key_of(scratch.scores[i], scratch.rows[i]));
    count = 0;
  };
  std::int32_t row = 0;
  while (row < vectors.count) {
    // A mask is mostly zeros where this function is worth calling: step over eight of them at once.
    std::uint64_t eight = 0;
    const std::int32_t step = std::min(8, vectors.count - row);
    std::memcpy(&eight, allow + row, static_cast<std::size_t>(step));
    if (eight != 0) {
      for (std::int32_t i = row; i < row + step; ++i) {
        scratch.rows[count] = i;
        count += allow[i] != 0;
      }
      if (count > block_rows - 9) score();  // eight more must fit, and the slot written before it is known to count
    }
    row += step;
  }
  score();
}

}  // namespace

std::int32_t write_best(Best& best, std::int32_t k, std::int32_t* rows, float* scores) noexcept {
  if (best.count > k) {
    std::nth_element(best.keys, best.keys + k - 1, best.keys + best.count, std::greater<>());
    best.count = k;
  }
  std::sort(best.keys, best.keys + best.count, std::greater<>());
  for (std::int32_t i = 0; i < best.count; ++i) {
    rows[i] = row_of(best.keys[i]);
    scores[i] = score_of(best.keys[i]);
  }
  return best.count;
}

std::int32_t flat_search(const Vectors& vectors, const float* query, std::int32_t k, const std::uint8_t* allow,
                         Scratch& scratch, std::int32_t* rows, float* scores) noexcept {
  Best best{scratch.pool, k, static_cast<std::int32_t>(best_capacity(k))};
  if (allow == nullptr)
    scan_all(vectors, query, scratch.scores, best);
  else
    scan_allowed(vectors, query, allow, scratch, best);
  return write_best(best, k, rows, scores);
}

}  // namespace pairec
