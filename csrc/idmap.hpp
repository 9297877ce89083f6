// Item id (text) -> row, by open addressing over mapped memory.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pairec {

// Borrowed, immutable. `slots` has a power of two entries, at most half of them used:
// 0 is empty, else (high half of the hash << 32) | (row + 1).
struct IdMap {
  const char* text;            // all ids, one after the other
  const std::uint64_t* offset; // [count + 1] into text
  const std::uint64_t* slots;  // [mask + 1]
  std::uint64_t mask;
  std::int32_t count;
};

// Row of `id` [size] bytes, or -1.
std::int32_t find(const IdMap& map, const char* id, std::size_t size) noexcept;

// True when `offset` [count + 1] does not decrease and ends within `text_bytes`.
bool offsets_fit(const std::uint64_t* offset, std::int32_t count, std::uint64_t text_bytes) noexcept;

// True when a search must end in `slots` [mask + 1]: one is empty, and none names a row that is not below `count`.
bool slots_fit(const std::uint64_t* slots, std::uint64_t mask, std::int32_t count) noexcept;

// Fills `slots` [mask + 1] (zeroed by the caller) for `count` ids. Returns -1, or the later row of a duplicate pair.
std::int32_t build_slots(const char* text, const std::uint64_t* offset, std::int32_t count, std::uint64_t* slots,
                         std::uint64_t mask) noexcept;

}  // namespace pairec
