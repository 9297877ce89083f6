// What was known of a key strictly before a time: counts, sums and the last event, for training rows and for serving.
#pragma once
#include <cstdint>

namespace pairec {

struct Events {  // sorted by key, then time
  const std::int64_t* key;
  const double* time;
  const double* value;
  std::int64_t count;
};

// For each question (key, time), sorted by key, then time: over the events of that key with an earlier time
//   number, sum   how many there are and the sum of their values; with a `window` only those not older than it;
//                 with a `half_life` each event weighs 2^(-age / half_life). 0 switches either off; not both at once.
//   last          time of the newest of them all, NaN if there is none
// Times, window and half-life in one unit. O(events + questions).
void aggregate(const Events& events, const std::int64_t* key, const double* time, std::int64_t count, double window,
               double half_life, double* number, double* sum, double* last) noexcept;

}  // namespace pairec
