#include <algorithm>
#include <cmath>

#include "blocks.hpp"

namespace pairec {

Codes quantise(const float* query, std::int32_t width, std::int32_t quads, std::int32_t bytes,
               std::int8_t* room) noexcept {
  float most = 0.0f;
  for (std::int32_t lane = 0; lane < width; ++lane) most = std::max(most, std::fabs(query[lane]));
  const float unit = most / 127.0f;
  std::int32_t sum = 0;
  const std::int32_t size = std::max(4 * quads, bytes);
  for (std::int32_t lane = 0; lane < size; ++lane) {
    // Added and taken away, 1.5 * 2^23 leaves the nearest integer. Of a tiny unit, the quotient may pass 127.
    const float code = lane < width && unit > 0.0f ? (query[lane] / unit + 12582912.0f) - 12582912.0f : 0.0f;
    room[lane] = static_cast<std::int8_t>(std::min(std::max(code, -127.0f), 127.0f));
    sum += room[lane];
  }
  return {room, quads, sum, unit};
}

}  // namespace pairec
