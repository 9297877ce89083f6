#include "excerpt.hpp"

#include <cstddef>
#include <cstring>

#include "partition.hpp"

namespace pairec {

using std::int32_t;
using std::size_t;
using std::uint16_t;
using std::uint8_t;

void extract(const Partition& p, const int32_t* places, Excerpt& excerpt) noexcept {
  auto* first = const_cast<int32_t*>(excerpt.first);
  auto* size = const_cast<int32_t*>(excerpt.size);
  auto* place = const_cast<int32_t*>(excerpt.place);
  auto* codes = const_cast<uint8_t*>(excerpt.codes);
  auto* scale = const_cast<float*>(excerpt.scale);
  auto* list = const_cast<uint16_t*>(excerpt.list);
  auto* bias = const_cast<float*>(excerpt.bias);
  auto* lanes = const_cast<uint16_t*>(excerpt.lanes);
  const int32_t lines = p.quads / 2;  // of a block
  for (int32_t i = 0, last = -1; i < excerpt.count; ++i) {
    const int32_t block = places[i] / block_lanes, lane = places[i] % block_lanes;
    place[i] = places[i];
    lanes[i / block_lanes] |= static_cast<uint16_t>(1u << i % block_lanes);
    list[i] = p.list[block];
    scale[i] = p.scale4[list[i]];
    if (bias != nullptr) bias[i] = p.bias[places[i]];
    ++first[list[i] + 1];
    size[list[i]] += block != last;
    last = block;
    const uint8_t* from = p.codes + static_cast<size_t>(block) * lines * 64 + 4 * lane;
    uint8_t* to = codes + static_cast<size_t>(i / block_lanes) * lines * 64 + 4 * (i % block_lanes);
    for (int32_t line = 0; line < lines; ++line) std::memcpy(to + 64 * line, from + 64 * line, 4);
  }
  excerpt.blocks = 0;
  for (int32_t i = 0; i < p.lists; ++i) {
    first[i + 1] += first[i];
    excerpt.blocks += size[i];
  }
}

}  // namespace pairec
