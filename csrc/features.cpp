#include "features.hpp"

#include <algorithm>
#include <limits>

namespace pairec {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

constexpr std::int32_t ahead = 8;   // slots: item rows lie anywhere in a large table, so their lines are asked for early
constexpr std::int32_t abreast = 4;  // inner products at once: one alone waits for each of its additions

void prefetch(const float* values, std::int32_t count) noexcept {
  for (std::int32_t i = 0; i < count; i += 16) __builtin_prefetch(values + i);
}

const float* right_vector(const Cross& cross, std::int32_t item) noexcept {
  return cross.right + static_cast<std::int64_t>(item) * cross.width;
}

// Each sum is in double and in order of dimension, whatever stands abreast.
void dots(const Cross& cross, const float* left, const std::int32_t* items, std::int32_t count, float* out) noexcept {
  for (std::int32_t begin = 0; begin < count; begin += abreast) {
    const float* right[abreast];
    double sum[abreast] = {};
    for (std::int32_t lane = 0; lane < abreast; ++lane) {
      right[lane] = right_vector(cross, items[std::min(begin + lane, count - 1)]);
      const std::int32_t later = begin + lane + ahead;
      if (later < count) prefetch(right_vector(cross, items[later]), cross.width);
    }
    for (std::int32_t i = 0; i < cross.width; ++i)
      for (std::int32_t lane = 0; lane < abreast; ++lane)
        sum[lane] += static_cast<double>(left[i]) * static_cast<double>(right[lane][i]);
    for (std::int32_t lane = 0; lane < std::min(abreast, count - begin); ++lane)
      out[begin + lane] = static_cast<float>(sum[lane]);
  }
}

float cell(const Cross& cross, std::int32_t user, std::int32_t item) noexcept {
  const std::int32_t group = cross.user_group ? cross.user_group[user] : user;
  const std::int32_t column = std::min(cross.item_group ? cross.item_group[item] : item, cross.width - 1);
  if (group < 0 || column < 0) return missing;
  return cross.left[static_cast<std::int64_t>(group) * cross.width + column];
}

// The feature of one user with `count` items. Dot and cell only.
void values(const Cross& cross, std::int32_t user, const std::int32_t* items, std::int32_t count, float* out) noexcept {
  if (user < 0) {
    for (std::int32_t i = 0; i < count; ++i) out[i] = missing;
  } else if (cross.kind == Cross::Kind::dot) {
    dots(cross, cross.left + static_cast<std::int64_t>(user) * cross.width, items, count, out);
  } else {
    for (std::int32_t i = 0; i < count; ++i) out[i] = cell(cross, user, items[i]);
  }
}

}  // namespace

void cross_features(Arena& arena, const Cross* crosses, std::int32_t cross_count, std::int32_t user,
                    const std::int32_t* history, std::int32_t history_count) noexcept {
  for (std::int32_t i = 0; i < cross_count; ++i) {
    const Cross& cross = crosses[i];
    float* column = arena.features + static_cast<std::int64_t>(cross.column) * arena.candidates_max;
    if (cross.kind != Cross::Kind::similarity) {
      values(cross, user, arena.row, arena.count, column);
      continue;
    }
    const std::int32_t count = used(cross, history_count);
    const double share = cross.newest > 0 ? static_cast<double>(count) : 1.0;
    accumulate(arena, cross.table, history + (history_count - count), count);
    for (std::int32_t slot = 0; slot < arena.count; ++slot) {
      const std::int32_t item = arena.overlay.item_of(arena.row[slot]);
      const double sum = arena.mark.contains(item) ? arena.sum[item] : 0.0;
      column[slot] = count ? static_cast<float>(sum / share) : missing;
    }
  }
}

void cross_pairs(const Cross& cross, const std::int32_t* users, const std::int32_t* items, std::int64_t count,
                 float* out) noexcept {
  for (std::int64_t i = 0; i < count; ++i) values(cross, users[i], items + i, 1, out + i);
}

}  // namespace pairec
