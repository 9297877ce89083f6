#include "rerank.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pairec {

void top_k(Arena& arena, std::int32_t size) noexcept {
  double* score = arena.score;
  const std::int32_t* row = arena.row;
  std::int32_t* order = arena.order;
  for (std::int32_t slot = 0; slot < arena.count; ++slot)
    if (std::isnan(score[slot])) score[slot] = -std::numeric_limits<double>::infinity();
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

namespace {

// May `row` take place `placed`, after the slots order[0 .. placed)?
bool passes(const Arena& arena, const DiversityRule& rule, std::int32_t row, std::int32_t placed) noexcept {
  const std::int32_t value = rule.value[row];
  const auto value_at = [&](std::int32_t place) { return rule.value[arena.row[arena.order[place]]]; };
  if (rule.interval > 0 && placed >= rule.interval) {
    std::int32_t same = 0;
    while (same < rule.interval && value_at(placed - 1 - same) == value) ++same;
    if (same == rule.interval) return false;
  }
  if (rule.frequency > 0 && rule.window > rule.frequency) {
    std::int32_t same = 0;
    for (std::int32_t place = std::max(0, placed - rule.window + 1); place < placed; ++place)
      same += value_at(place) == value;
    if (same >= rule.frequency) return false;
  }
  return true;
}

}  // namespace

void diversify(Arena& arena, const DiversityRule* rules, std::int32_t rule_count, std::int32_t size,
               std::int32_t explore, const std::uint8_t* apart) noexcept {
  std::int32_t* order = arena.order;
  std::int32_t count = 0, set_aside = 0;
  for (std::int32_t place = 0; place < arena.order_count; ++place) {
    const std::int32_t slot = order[place];
    if (apart[arena.source[slot]])
      arena.spare[set_aside++] = slot;
    else
      order[count++] = slot;
  }
  std::copy(arena.spare, arena.spare + set_aside, order + count);

  // `<= size` and the subtraction, because size + 1 and placed + explore overflow where a client asks for everything.
  for (std::int32_t placed = 1; placed < count && placed <= size; ++placed) {
    const std::int32_t end = explore > 0 && explore < count - placed ? placed + explore : count;
    std::int32_t chosen = placed;
    double best = -std::numeric_limits<double>::infinity();
    for (std::int32_t place = placed; place < end; ++place) {
      double worth = 0.0;
      std::int32_t passed = 0;
      for (std::int32_t i = 0; i < rule_count; ++i) {
        if (!passes(arena, rules[i], arena.row[order[place]], placed)) continue;
        worth += rules[i].weight;
        ++passed;
      }
      if (passed == rule_count) {
        chosen = place;
        break;
      }
      if (worth > best) {
        best = worth;
        chosen = place;
      }
    }
    std::rotate(order + placed, order + chosen, order + chosen + 1);
  }
}

}  // namespace pairec
