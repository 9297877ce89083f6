// Texts of JSON: where they end, and what their escapes stand for.
#pragma once
#include <bit>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace pairec::json_text {

// The first character of a text that is not copied as it is: a quote, a backslash or a control character. `high` is not
// 0 if one before it, or within seven behind it, is not ASCII.
inline const char* plain_end(const char* at, const char* end, std::uint64_t& high) noexcept {
  constexpr std::uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
  for (; end - at >= 8; at += 8) {
    std::uint64_t eight;
    std::memcpy(&eight, at, 8);
    high |= eight & highs;
    const std::uint64_t quote = eight ^ ones * '"', backslash = eight ^ ones * '\\';
    // A borrow may mark a byte too many, but only behind one that is marked rightly: the first is right.
    const std::uint64_t marked =
        (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((eight - ones * 0x20) & ~eight)) & highs;
    if (marked != 0) return at + std::countr_zero(marked) / 8;
  }
  for (; at != end && *at != '"' && *at != '\\' && static_cast<unsigned char>(*at) >= 0x20; ++at)
    high |= static_cast<unsigned char>(*at) & 0x80;
  return at;
}

inline const char* plain_end(const char* at, const char* end) noexcept {
  std::uint64_t high;
  return plain_end(at, end, high = 0);
}

// Four hex digits; -1 if they are not.
inline int hex4(const char* at, const char* end) noexcept {
  if (end - at < 4) return -1;
  unsigned value = 0;
  const auto [stop, error] = std::from_chars(at, at + 4, value, 16);
  return error == std::errc() && stop == at + 4 ? static_cast<int>(value) : -1;
}

inline void append_utf8(std::string& out, unsigned code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  out += static_cast<char>((0xff00u >> (more + 1)) | (code >> (6 * more)));
  for (int shift = 6 * (more - 1); shift >= 0; shift -= 6) out += static_cast<char>(0x80 | ((code >> shift) & 0x3f));
}

// Moves `at`, which stands at the first backslash of a text that begins at `begin`, on to its closing quote, and puts
// what stands before that into `plain`. False if an escape is none, or there is a lone half of a surrogate pair.
inline bool unescape(const char* begin, const char*& at, const char* end, std::string& plain) {
  constexpr std::string_view escapes = "\"\\/bfnrt", meant = "\"\\/\b\f\n\r\t";
  plain.assign(begin, at);
  while (*at == '\\') {
    if (end - at < 2) return false;
    const char kind = at[1];
    at += 2;
    if (kind == 'u') {
      int code = hex4(at, end);
      if (code < 0 || (code >= 0xdc00 && code < 0xe000)) return false;
      at += 4;
      if (code >= 0xd800 && code < 0xdc00) {
        const int low = end - at >= 6 && at[0] == '\\' && at[1] == 'u' ? hex4(at + 2, end) : -1;
        if (low < 0xdc00 || low >= 0xe000) return false;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        at += 6;
      }
      append_utf8(plain, static_cast<unsigned>(code));
    } else {
      const std::size_t place = escapes.find(kind);
      if (place == std::string_view::npos) return false;
      plain += meant[place];
    }
    const char* const run = at;
    at = plain_end(at, end);
    if (at == end) return false;
    plain.append(run, at);
  }
  return *at == '"';
}

}  // namespace pairec::json_text
