#include "diversity.hpp"

#include <algorithm>
#include <limits>

namespace pairec {
namespace {

bool share(const Values& values, std::int32_t a, std::int32_t b) noexcept {
  const std::int32_t left = values.code[a], right = values.code[b];
  if (left == right) return true;  // a list is never empty
  std::int32_t i = values.offset[left], j = values.offset[right];
  const std::int32_t i_end = values.offset[left + 1], j_end = values.offset[right + 1];
  while (i < i_end && j < j_end) {
    if (values.value[i] == values.value[j]) return true;
    values.value[i] < values.value[j] ? ++i : ++j;
  }
  return false;
}

bool alike(const DiversityRule& rule, std::int32_t a, std::int32_t b) noexcept {
  if (rule.row != nullptr) {
    if (rule.value[rule.row[a]] != rule.value[rule.row[b]]) return false;
  } else if (rule.value != nullptr && rule.value[a] != rule.value[b]) {
    return false;
  }
  for (std::int32_t i = 0; i < rule.values_count; ++i)
    if (!share(rule.values[i], a, b)) return false;
  return true;
}

// May `slot` follow the slots placed [0 .. count)?
bool passes(const DiversityRule& rule, std::int32_t slot, const std::int32_t* placed, std::int32_t count) noexcept {
  if (rule.interval > 0 && count >= rule.interval) {
    std::int32_t same = 0;
    while (same < rule.interval && alike(rule, slot, placed[count - 1 - same])) ++same;
    if (same == rule.interval) return false;
  }
  if (rule.frequency > 0 && rule.window > rule.frequency) {
    std::int32_t same = 0;
    for (std::int32_t place = std::max(0, count - rule.window + 1); place < count; ++place)
      same += alike(rule, slot, placed[place]);
    if (same >= rule.frequency) return false;
  }
  return true;
}

bool excluded(const Diversity& conf, std::int32_t slot, std::int32_t place) noexcept {
  for (std::int32_t i = 0; i < conf.exclusion_count; ++i) {
    const Exclusion& one = conf.exclusions[i];
    if (place < one.at_count && one.at[place] && one.match[slot]) return true;
  }
  return false;
}

}  // namespace

void diversify(Arena& arena, const Diversity& conf, std::int32_t* link) noexcept {
  if (conf.rule_count == 0) return;
  std::int32_t* placed = arena.order;
  std::int32_t* input = arena.spare;
  std::int32_t count = 0, aside = 0;
  if (conf.apart == nullptr) {
    count = arena.order_count;
    std::copy(placed, placed + count, input);
  }
  for (std::int32_t place = 0; conf.apart != nullptr && place < arena.order_count; ++place)
    if (!conf.apart[arena.source[placed[place]]]) input[count++] = placed[place];
  // Those apart keep their order at the end; written there at once, because `order` is free behind what is read.
  for (std::int32_t place = arena.order_count - 1; conf.apart != nullptr && place >= 0; --place)
    if (conf.apart[arena.source[placed[place]]]) link[aside++] = placed[place];
  for (std::int32_t i = 0; i < aside; ++i) placed[arena.order_count - 1 - i] = link[i];
  if (count == 0) return;

  bool weighs = false;
  for (std::int32_t i = 0; i < conf.rule_count; ++i) weighs |= conf.rules[i].weight > 0.0;

  // The candidates that remain are a list: link[i] is the next after i, `count` the end, `first` its head. Places in
  // `input` stay what they were: what `explore` counts are they, those taken included.
  for (std::int32_t i = 0; i < count; ++i) link[i] = i + 1;
  std::int32_t first = 0, done = 0, last = 0;  // none behind `last` was taken
  const auto take = [&](std::int32_t before, std::int32_t i) {
    placed[done++] = input[i];
    last = std::max(last, i);
    (before < 0 ? first : link[before]) = link[i];
  };

  std::int32_t before = -1, at = 0;
  while (at < count && excluded(conf, input[at], 0)) before = at++;
  if (at == count) before = -1, at = 0;  // when nobody may stand first, the first does
  take(before, at);

  // `<= size`, because size + 1 overflows where a client asks for everything.
  while (done < count && done <= conf.size) {
    std::int32_t nearest = -1, chosen = -1, chosen_before = -1;
    double best = -std::numeric_limits<double>::infinity();
    before = -1;
    for (std::int32_t i = first; i < count; before = i, i = link[i]) {
      if (conf.exclusion_count > 0 && excluded(conf, input[i], done)) continue;
      if (nearest < 0) nearest = i;
      if (conf.explore > 0 && i - nearest >= conf.explore) break;
      double worth = 0.0;
      std::int32_t passed = 0;
      for (std::int32_t r = 0; r < conf.rule_count; ++r) {
        if (passes(conf.rules[r], input[i], placed, done)) {
          worth += conf.rules[r].weight;
          ++passed;
        } else if (!weighs) {
          break;  // nothing is compared but whether all pass
        }
      }
      if (passed == conf.rule_count) {
        chosen = i, chosen_before = before;
        break;
      }
      if (!weighs) worth = 0.0;
      if (worth > best) {
        best = worth;
        chosen = i, chosen_before = before;
      }
    }
    if (chosen < 0) break;
    take(chosen_before, chosen);
  }
  for (std::int32_t i = first; i < last; i = link[i]) placed[done++] = input[i];
  std::copy(input + last + 1, input + count, placed + done);
}

}  // namespace pairec
