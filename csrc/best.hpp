// The best rows of a search: a score and its row in one integer, and their order.
#pragma once
#include <bit>
#include <cstdint>

namespace pairec {

// A score as an integer of the same order. -0 becomes 0: they are equal, so must tie.
inline std::int32_t ordered(float score) noexcept {
  const auto bits = std::bit_cast<std::int32_t>(score + 0.0f);
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}
inline float score_of(std::int32_t key) noexcept { return std::bit_cast<float>(key ^ ((key >> 31) & 0x7FFFFFFF)); }

// The larger is the higher score, and of equal scores the smaller row.
using Best = std::uint64_t;

inline Best best_of(float score, std::int32_t row) noexcept {
  return static_cast<Best>(static_cast<std::uint32_t>(ordered(score)) ^ 0x80000000u) << 32 |
         static_cast<std::uint32_t>(~row);
}
inline std::int32_t row_of(Best best) noexcept { return static_cast<std::int32_t>(~static_cast<std::uint32_t>(best)); }
inline float score_of(Best best) noexcept {
  return score_of(static_cast<std::int32_t>(static_cast<std::uint32_t>(best >> 32) ^ 0x80000000u));
}

// Sorts `best` [count], best first.  spare [count]
void sort_best(Best* best, Best* spare, std::int32_t count) noexcept;

// Sorts, and writes the first k. Returns how many: k, or all there are.
std::int32_t write_best(Best* best, Best* spare, std::int32_t count, std::int32_t k, std::int32_t* rows,
                        float* scores) noexcept;

}  // namespace pairec
