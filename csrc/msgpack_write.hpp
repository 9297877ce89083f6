// Writing msgpack as msgspec does: every head in its shortest form.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pairec::msgpack {

inline void append_big_endian(std::string& out, std::uint64_t value, int bytes) {
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

// A head whose short form `tag` holds up to `most`, else one of the tags behind it. `tag8` 0: there is none of a byte.
inline void append_head(std::string& out, std::size_t size, int tag, std::size_t most, int tag8, int tag16) {
  if (size <= most) {
    out += static_cast<char>(tag | size);
  } else if (tag8 != 0 && size < 1u << 8) {
    out += static_cast<char>(tag8);
    append_big_endian(out, size, 1);
  } else if (size < 1u << 16) {
    out += static_cast<char>(tag16);
    append_big_endian(out, size, 2);
  } else {
    out += static_cast<char>(tag16 + 1);
    append_big_endian(out, size, 4);
  }
}

inline void append_text(std::string& out, std::string_view text) {
  append_head(out, text.size(), 0xa0, 31, 0xd9, 0xda);
  out.append(text);
}

inline void append_list_head(std::string& out, std::size_t size) { append_head(out, size, 0x90, 15, 0, 0xdc); }

inline void append_map_head(std::string& out, std::size_t size) { append_head(out, size, 0x80, 15, 0, 0xde); }

inline void append_natural(std::string& out, std::uint64_t value) {
  if (value < 1u << 7) {
    out += static_cast<char>(value);
    return;
  }
  const int power = value < 1u << 8 ? 0 : value < 1u << 16 ? 1 : value < std::uint64_t{1} << 32 ? 2 : 3;
  out += static_cast<char>(0xcc + power);
  append_big_endian(out, value, 1 << power);
}

inline void append_integer(std::string& out, std::int64_t value) {
  if (value >= 0) return append_natural(out, static_cast<std::uint64_t>(value));
  if (value >= -32) {
    out += static_cast<char>(value);
    return;
  }
  const int power = value >= -(1 << 7) ? 0 : value >= -(1 << 15) ? 1 : value >= -(std::int64_t{1} << 31) ? 2 : 3;
  out += static_cast<char>(0xd0 + power);
  append_big_endian(out, static_cast<std::uint64_t>(value), 1 << power);
}

inline void append_double(std::string& out, double value) {
  out += '\xcb';
  append_big_endian(out, std::bit_cast<std::uint64_t>(value), 8);
}

}  // namespace pairec::msgpack
