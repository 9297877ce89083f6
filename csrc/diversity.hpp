// Not too much of one kind in a row: PAI-Rec's rules over what is placed already.
#pragma once
#include "arena.hpp"

namespace pairec {

// A dimension of which a candidate has several values: two are alike when they share one.
struct Values {
  const std::int32_t* code;    // [count] which list of values a slot has
  const std::int32_t* offset;  // [codes + 1] list c is value[offset[c] .. offset[c + 1])
  const std::int32_t* value;   // ascending within a list, and never none
};

// One rule of PAI-Rec's DiversityRuleSort. A zero switches a check off.
struct DiversityRule {
  const std::int32_t* value;  // [count] by slot: equal numbers are equal values; null: only `values` count
  const std::int32_t* row;    // [count] unless null: `value` is by the row of a slot, [items]
  const Values* values;       // dimensions that must all be alike as well
  std::int32_t values_count;
  std::int32_t interval;      // not more than this many of one value in a row
  std::int32_t window;        // among `window` places in a row ...
  std::int32_t frequency;     // ... at most this many of one value
  double weight;              // what passing it is worth when nobody passes all
};

// Candidates with a one in `match` [count] may not stand at places with a one in `at` [at_count]; places count from 0.
struct Exclusion {
  const std::uint8_t* match;
  const std::uint8_t* at;
  std::int32_t at_count;
};

struct Diversity {
  const DiversityRule* rules;
  std::int32_t rule_count;
  const Exclusion* exclusions;
  std::int32_t exclusion_count;
  std::int32_t size;          // `size` + 1 places are filled greedily
  std::int32_t explore;       // of the candidates that may stand at a place, see those within so many of the first; 0: all
  const std::uint8_t* apart;  // [256] sources with a one are left out and appended at the end, in their order; null: none
};

// Reorders arena.order [order_count]: greedily the first candidate that is not excluded and passes all rules, else the
// one with the largest sum of weights of passed rules (the earliest on ties; without a weight above zero the first); where
// all are excluded it ends. The rest keeps its order. Without rules nothing moves.
//   link [order_count] scratch
// O(size * count * rules). Source: PAI-Rec, sort/diversity_rule_sort.go.
void diversify(Arena& arena, const Diversity& conf, std::int32_t* link) noexcept;

}  // namespace pairec
