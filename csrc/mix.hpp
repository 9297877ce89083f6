// Candidates of certain recalls, or of certain properties, at certain places.
#pragma once
#include "arena.hpp"

namespace pairec {

struct MixRule {
  const std::uint8_t* match;       // [count] by slot: whom the rule is for
  std::int32_t capacity;           // how many it takes
  bool random;                     // spread over the page, else at `place`
  const std::int32_t* place;       // [place_count] from 1 on; places beyond the page are passed over
  std::int32_t place_count;
  const std::int32_t* own_place;   // [count] by slot, or null: where candidates say their places; below 1: it does not
};

struct Mix {
  const MixRule* rules;
  std::int32_t rule_count;
  std::int32_t size;    // of the page: positive
  bool remain;          // whether those that got no place follow
  std::uint64_t seed;   // of what is drawn
};

// Reorders arena.order [order_count]. Each candidate, in order, belongs to the first rule with room that matches it. Fixed
// rules put theirs at their places, in order, one over the other where places meet; then random ones into `capacity` equal
// parts of the page, one each, at a place drawn within the part or the next that is free; then those of no rule fill the
// gaps, then any. With fewer candidates than `size` nothing moves.
//   scratch [2 * order_count + max(order_count, rule_count)]
// O(count * rules). Allocates nothing. Source: PAI-Rec, sort/multi_recall_mix_sort.go, sort/mix_sort_strategy.go.
void mix(Arena& arena, const Mix& conf, std::int32_t* scratch) noexcept;

}  // namespace pairec
