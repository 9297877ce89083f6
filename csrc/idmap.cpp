#include "idmap.hpp"

#include <cstring>

namespace pairec {
namespace {

// Multiply and fold, eight bytes a step: ids are short and come from one's own catalogue, so speed and spread matter,
// resistance to an attacker who picks the stored ids does not.
std::uint64_t hash(const char* id, std::size_t size) noexcept {
  constexpr std::uint64_t factor = 0x9E3779B97F4A7C15u;
  std::uint64_t state = size * factor;
  const auto mix = [&](std::uint64_t word) {
    const auto product = static_cast<unsigned __int128>(state ^ word) * factor;
    state = static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  };
  for (; size >= 8; size -= 8, id += 8) {
    std::uint64_t word;
    std::memcpy(&word, id, 8);
    mix(word);
  }
  std::uint64_t tail = 0;
  std::memcpy(&tail, id, size);
  mix(tail);
  mix(0);
  return state;
}

bool same(const char* text, const std::uint64_t* offset, std::int32_t row, const char* id, std::size_t size) noexcept {
  const std::size_t length = offset[row + 1] - offset[row];
  return length == size && std::memcmp(text + offset[row], id, size) == 0;
}

}  // namespace

std::int32_t find(const IdMap& map, const char* id, std::size_t size) noexcept {
  const std::uint64_t key = hash(id, size);
  for (std::uint64_t at = key & map.mask;; at = (at + 1) & map.mask) {
    const std::uint64_t slot = map.slots[at];
    if (slot == 0) return -1;
    const auto row = static_cast<std::int32_t>((slot & 0xFFFFFFFFu) - 1);
    if (slot >> 32 == key >> 32 && same(map.text, map.offset, row, id, size)) return row;
  }
}

bool offsets_fit(const std::uint64_t* offset, std::int32_t count, std::uint64_t text_bytes) noexcept {
  bool fit = offset[count] <= text_bytes;
  for (std::int32_t row = 0; row < count; ++row) fit &= offset[row] <= offset[row + 1];
  return fit;
}

bool slots_fit(const std::uint64_t* slots, std::uint64_t mask, std::int32_t count) noexcept {
  bool empty = false, fit = true;
  for (std::uint64_t at = 0; at <= mask; ++at) {
    const std::uint64_t next = slots[at] & 0xFFFFFFFFu;  // row + 1
    empty |= slots[at] == 0;
    fit &= next <= static_cast<std::uint64_t>(count) && (next != 0 || slots[at] == 0);
  }
  return empty && fit;
}

std::int32_t build_slots(const char* text, const std::uint64_t* offset, std::int32_t count, std::uint64_t* slots,
                         std::uint64_t mask) noexcept {
  for (std::int32_t row = 0; row < count; ++row) {
    const char* id = text + offset[row];
    const std::size_t size = offset[row + 1] - offset[row];
    const std::uint64_t key = hash(id, size);
    std::uint64_t at = key & mask;
    for (; slots[at] != 0; at = (at + 1) & mask) {
      const auto other = static_cast<std::int32_t>((slots[at] & 0xFFFFFFFFu) - 1);
      if (slots[at] >> 32 == key >> 32 && same(text, offset, other, id, size)) return row;
    }
    slots[at] = (key >> 32 << 32) | static_cast<std::uint64_t>(row + 1);
  }
  return -1;
}

}  // namespace pairec
