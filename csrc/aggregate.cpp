#include "aggregate.hpp"

#include <cmath>
#include <limits>

namespace pairec {

void aggregate(const Events& events, const std::int64_t* key, const double* time, std::int64_t count, double window,
               double half_life, double* number, double* sum, double* last) noexcept {
  std::int64_t begin = 0, end = 0;  // events of the current key inside the window and before the question
  double n = 0.0, s = 0.0, newest = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (i == 0 || key[i] != key[i - 1]) {
      while (end < events.count && events.key[end] < key[i]) ++end;
      begin = end;
      n = s = 0.0;
      newest = std::numeric_limits<double>::quiet_NaN();
    }
    for (; end < events.count && events.key[end] == key[i] && events.time[end] < time[i]; ++end) {
      if (half_life > 0 && n > 0) {
        const double decay = std::exp2((newest - events.time[end]) / half_life);
        n *= decay;
        s *= decay;
      }
      n += 1.0;
      s += events.value[end];
      newest = events.time[end];
    }
    for (; window > 0 && begin < end && events.time[begin] < time[i] - window; ++begin) {
      n -= 1.0;
      s -= events.value[begin];
    }
    if (begin == end) s = 0.0;  // no rounding left over from what the window has lost
    const double decay = half_life > 0 && n > 0 ? std::exp2((newest - time[i]) / half_life) : 1.0;
    number[i] = n * decay;
    sum[i] = s * decay;
    last[i] = newest;
  }
}

}  // namespace pairec
