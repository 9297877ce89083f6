// Reading protobuf, as much of it as answers of model servers have once an item. The bytes may be anybody's.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pairec::protobuf {

// What the fields numbered `field` hold when each is an entry of a map from texts to messages whose field 1 is doubles.
struct Sizes {
  std::int64_t entries = 0;
  std::int64_t doubles = 0;
  std::int64_t rest = 0;  // bytes of all other fields
};

// False when `message` [size] is no protobuf, or an entry is no such entry. Never reads beyond it.
bool measure(const unsigned char* message, std::size_t size, std::uint32_t field, Sizes& sizes) noexcept;

// Fills what `measure` has measured of the same bytes:
//   key  [2 * entries] where the text begins in `message`, and its bytes
//   value [doubles]    of all entries, one after the other
//   end  [entries]     how many values there are up to and with this entry
//   rest               every other field, as it is
void extract(const unsigned char* message, std::size_t size, std::uint32_t field, std::int64_t* key, double* value,
             std::int64_t* end, unsigned char* rest) noexcept;

}  // namespace pairec::protobuf
