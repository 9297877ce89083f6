// Reading msgpack, one head at a time. Never reads beyond `end`; the bytes may be anybody's.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

namespace pairec::msgpack {

enum class Kind : std::uint8_t { nil, boolean, integer, natural, real, text, bytes, extension, list, map };

struct Value {
  Kind kind = Kind::nil;
  std::uint32_t size = 0;               // bytes of a text, elements of a list, pairs of a map
  std::uint64_t bits = 0;               // boolean and natural: the value; integer: its two's complement
  double real = 0;
  const unsigned char* data = nullptr;  // of a text
  const unsigned char* next = nullptr;  // behind the value; of a list or map, its first element
};

inline std::uint64_t big_endian(const unsigned char* at, std::size_t width) noexcept {
  std::uint64_t number = 0;
  for (std::size_t place = 0; place < width; ++place) number = number << 8 | at[place];
  return number;
}

// Reads the value that begins at `at`. False if it is cut off, or no msgpack.
inline bool read(const unsigned char* at, const unsigned char* end, Value& value) noexcept {
  // How many bytes of a number or a length follow the tags 0xc0 to 0xdf.
  static constexpr std::uint8_t widths[32] = {0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8,
                                              1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
  if (at >= end) return false;
  const unsigned tag = *at++;
  value.next = at;
  if (tag < 0x80 || tag >= 0xe0) {
    value.kind = Kind::integer;
    value.bits = static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int8_t>(tag)));
    return true;
  }
  if (tag < 0xa0) {
    value.kind = tag < 0x90 ? Kind::map : Kind::list;
    value.size = tag & 15;
    return true;
  }
  std::uint64_t number = tag & 31;  // of 0xa0 to 0xbf, the length of a text
  if (tag >= 0xc0) {
    const std::size_t width = widths[tag - 0xc0];
    if (static_cast<std::size_t>(end - at) < width) return false;
    number = big_endian(at, width);
    at += width;
  }
  std::uint64_t skip = 0;
  if (tag < 0xc0 || (tag >= 0xd9 && tag <= 0xdb)) {
    value.kind = Kind::text;
    skip = number;
  } else if (tag >= 0xdc) {
    value.kind = tag <= 0xdd ? Kind::list : Kind::map;
  } else if (tag >= 0xd4) {
    value.kind = Kind::extension;
    skip = 1 + (std::uint64_t{1} << (tag - 0xd4));
  } else if (tag >= 0xd0) {
    value.kind = Kind::integer;
    const unsigned unused = 64 - 8 * widths[tag - 0xc0];
    number = static_cast<std::uint64_t>(static_cast<std::int64_t>(number << unused) >> unused);
  } else if (tag >= 0xcc) {
    value.kind = Kind::natural;
  } else if (tag >= 0xca) {
    value.kind = Kind::real;
    value.real = tag == 0xca ? static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(number)))
                             : std::bit_cast<double>(number);
  } else if (tag >= 0xc7) {
    value.kind = Kind::extension;
    skip = 1 + number;
  } else if (tag >= 0xc4) {
    value.kind = Kind::bytes;
    skip = number;
  } else {
    if (tag == 0xc1) return false;
    value.kind = tag == 0xc0 ? Kind::nil : Kind::boolean;
    number = tag & 1;
  }
  if (static_cast<std::uint64_t>(end - at) < skip) return false;
  value.data = at;
  value.size = static_cast<std::uint32_t>(number);
  value.bits = number;
  value.next = at + skip;
  return true;
}

}  // namespace pairec::msgpack
