#include "features.hpp"

#include <limits>

namespace pairec {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

float value(const Cross& cross, std::int32_t user, std::int32_t item) noexcept {
  if (user < 0) return missing;
  if (cross.kind == Cross::Kind::dot) {
    const float* left = cross.left + static_cast<std::int64_t>(user) * cross.width;
    const float* right = cross.right + static_cast<std::int64_t>(item) * cross.width;
    double sum = 0.0;
    for (std::int32_t i = 0; i < cross.width; ++i) sum += static_cast<double>(left[i]) * static_cast<double>(right[i]);
    return static_cast<float>(sum);
  }
  const std::int32_t group = cross.user_group ? cross.user_group[user] : user;
  const std::int32_t column = cross.item_group ? cross.item_group[item] : item;
  if (group < 0 || column < 0) return missing;
  return cross.left[static_cast<std::int64_t>(group) * cross.width + column];
}

}  // namespace

void assemble(Arena& arena, const Plan& plan, const float* same, std::int32_t user, const std::int32_t* history,
              std::int32_t history_count) noexcept {
  for (std::int32_t slot = 0; slot < arena.count; ++slot) {
    float* row = arena.features + static_cast<std::int64_t>(slot) * arena.width;
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
    for (std::int32_t slot = 0; slot < arena.count; ++slot)
      column[static_cast<std::int64_t>(slot) * arena.width] = value(cross, user, arena.row[slot]);
  }
}

void cross_pairs(const Cross& cross, const std::int32_t* users, const std::int32_t* items, std::int64_t count,
                 float* out) noexcept {
  for (std::int64_t i = 0; i < count; ++i) out[i] = value(cross, users[i], items[i]);
}

}  // namespace pairec
