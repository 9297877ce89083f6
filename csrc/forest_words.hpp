// Lines and words of a model's text, and how they are shown in an error.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pairec {

template <typename Number>
std::string str(Number number) {
  return std::to_string(number);
}

// At most 40 characters of the file, printable whatever they are.
inline std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text.substr(0, 40)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (text.size() > 40 ? "...\"" : "\"");
}

inline std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> out;
  for (std::size_t begin = 0, end = 0; end <= text.size(); ++end) {
    if (end < text.size() && text[end] != ' ') continue;
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

struct Lines {
  std::string_view text;
  std::size_t begin = 0, end = 0, number = 0;  // the current line: [begin, end) in text, counted from 1

  bool advance() {
    if (end >= text.size()) return false;
    begin = number == 0 ? 0 : end + 1;
    if (begin >= text.size()) return false;
    end = std::min(text.find('\n', begin), text.size());
    ++number;
    return true;
  }
  std::string_view line() const {
    std::string_view found = text.substr(begin, end - begin);
    if (found.ends_with('\r')) found.remove_suffix(1);
    return found;
  }
};

// What Python decodes without an error: no byte out of place, no code spelled longer than need be, no surrogates.
inline bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || length > text.size() - i) return false;
    std::uint32_t code = length == 1 ? lead : lead & (0x7Fu >> length);
    for (std::size_t k = 1; k < length; ++k) {
      const auto byte = static_cast<unsigned char>(text[i + k]);
      if ((byte & 0xC0) != 0x80) return false;
      code = code << 6 | (byte & 0x3Fu);
    }
    if ((length == 3 && code < 0x800) || (length == 4 && (code < 0x10000 || code > 0x10FFFF))) return false;
    if (code >= 0xD800 && code < 0xE000) return false;
    i += length;
  }
  return true;
}

}  // namespace pairec
