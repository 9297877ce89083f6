// In what order candidates are shown.
#pragma once
#include "arena.hpp"

namespace pairec {

// Writes to arena.order the slots of the `size` highest scores, best first; equal scores by lower row. NaN sorts last.
// Requires 0 < size <= count. O(count log size).
void top_k(Arena& arena, std::int32_t size) noexcept;

// One rule of PAI-Rec's DiversityRuleSort. A zero switches a check off.
struct DiversityRule {
  const std::int32_t* value;  // [items] equal numbers are equal values
  std::int32_t interval;      // not more than this many of one value in a row
  std::int32_t window;        // among `window` places in a row ...
  std::int32_t frequency;     // ... at most this many of one value
  double weight;              // what passing it is worth when nobody passes all
};

// Reorders arena.order [order_count]: `size` + 1 places filled greedily by the first candidate that passes all rules,
// else by the one with the largest sum of weights of passed rules (the earliest on ties); the rest keeps its order.
//   explore            look only at so many candidates for each place; 0: all
//   apart [256]        sources with a one are left out and appended at the end, in their order
// O(size * count * rules). Source: PAI-Rec, sort/diversity_rule_sort.go.
void diversify(Arena& arena, const DiversityRule* rules, std::int32_t rule_count, std::int32_t size,
               std::int32_t explore, const std::uint8_t* apart) noexcept;

}  // namespace pairec
