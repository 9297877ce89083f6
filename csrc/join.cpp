#include "join.hpp"

#include <algorithm>

namespace pairec {

std::int32_t join(Arena& into, const Arena& from, std::int32_t* target) noexcept {
  const std::int32_t before = into.count, shared = std::min(into.algos, from.algos);
  std::int32_t* slot_of = into.touched;  // by item, valid where `mark` holds
  std::uint8_t* taken = into.keep;       // by place
  into.mark.clear();
  std::memset(taken, 0, static_cast<std::size_t>(into.candidates_max));
  for (std::int32_t slot = 0; slot < before; ++slot) {
    const std::int32_t item = into.overlay.item_of(into.row[slot]);
    if (into.mark.insert(item)) slot_of[item] = slot;  // an item that is there twice is its first candidate
    taken[into.place[slot]] = 1;
  }
  std::int32_t place = 0;
  for (std::int32_t i = 0; i < from.order_count; ++i) {
    const std::int32_t slot = from.order[i], item = into.overlay.item_of(from.row[slot]);
    if (into.mark.contains(item)) {
      target[i] = slot_of[item];
      continue;
    }
    if (into.count == into.candidates_max) {
      target[i] = -1;
      continue;
    }
    while (taken[place]) ++place;  // ends: there are as many places as slots
    const std::int32_t added = into.count++;
    into.mark.insert(item);
    slot_of[item] = target[i] = added;
    into.row[added] = from.row[slot];
    into.place[added] = place++;
    into.source[added] = from.source[slot];
    into.recall_score[added] = from.recall_score[slot];
    into.score[added] = from.score[slot];
    for (std::int32_t algo = 0; algo < into.algos; ++algo) {
      const auto column = static_cast<std::int64_t>(algo);
      into.algo_score[column * into.candidates_max + added] =
          algo < shared ? from.algo_score[column * from.candidates_max + slot] : 0.0;
    }
  }
  return into.count - before;
}

}  // namespace pairec
