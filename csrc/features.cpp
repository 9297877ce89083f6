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
void dots(const Cross& cross, const float* left, const std::int32_t* items, std::int32_t count, float* out,
          std::int64_t step) noexcept {
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
      out[step * (begin + lane)] = static_cast<float>(sum[lane]);
  }
}

float cell(const Cross& cross, std::int32_t user, std::int32_t item) noexcept {
  const std::int32_t group = cross.user_group ? cross.user_group[user] : user;
  const std::int32_t column = cross.item_group ? cross.item_group[item] : item;
  if (group < 0 || column < 0) return missing;
  return cross.left[static_cast<std::int64_t>(group) * cross.width + column];
}

// The feature of one user with `count` items, to out[i * step]. Dot and cell only.
void values(const Cross& cross, std::int32_t user, const std::int32_t* items, std::int32_t count, float* out,
            std::int64_t step) noexcept {
  if (user < 0) {
    for (std::int32_t i = 0; i < count; ++i) out[step * i] = missing;
  } else if (cross.kind == Cross::Kind::dot) {
    dots(cross, cross.left + static_cast<std::int64_t>(user) * cross.width, items, count, out, step);
  } else {
    for (std::int32_t i = 0; i < count; ++i) out[step * i] = cell(cross, user, items[i]);
  }
}

}  // namespace

void assemble(Arena& arena, const Plan& plan, const float* same, std::int32_t user, const std::int32_t* history,
              std::int32_t history_count) noexcept {
  for (std::int32_t slot = 0; slot < arena.count; ++slot) {
    float* row = arena.features + static_cast<std::int64_t>(slot) * arena.width;
    if (slot + ahead < arena.count) {
      const std::int64_t later = arena.row[slot + ahead];
      prefetch(plan.item_values + later * plan.item_count, plan.item_count);
    }
    std::memcpy(row, same, sizeof(float) * static_cast<std::size_t>(plan.width));
    const float* item = plan.item_values + static_cast<std::int64_t>(arena.row[slot]) * plan.item_count;
    for (std::int32_t i = 0; i < plan.item_count; ++i) row[plan.item_column[i]] = item[i];
  }
  for (std::int32_t i = 0; i < plan.cross_count; ++i) {
    const Cross& cross = plan.cross[i];
    float* column = arena.features + cross.column;
    if (cross.kind == Cross::Kind::similarity) {
      const std::int32_t count = used(cross, history_count);
      const double share = cross.newest > 0 ? static_cast<double>(count) : 1.0;
      accumulate(arena, cross.table, history + (history_count - count), count);
      for (std::int32_t slot = 0; slot < arena.count; ++slot) {
        const std::int32_t item = arena.row[slot];
        const double sum = arena.mark.contains(item) ? arena.sum[item] : 0.0;
        column[static_cast<std::int64_t>(slot) * arena.width] = count ? static_cast<float>(sum / share) : missing;
      }
      continue;
    }
    values(cross, user, arena.row, arena.count, column, arena.width);
  }
}

void cross_pairs(const Cross& cross, const std::int32_t* users, const std::int32_t* items, std::int64_t count,
                 float* out) noexcept {
  for (std::int64_t i = 0; i < count; ++i) values(cross, users[i], items + i, 1, out + i, 1);
}

}  // namespace pairec
