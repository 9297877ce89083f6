#include "go_json.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace pairec::go_json {
namespace {

struct Escape {
  std::uint8_t size = 0;  // 0: the byte stands for itself
  char text[7] = {};
  constexpr void add(char letter) { text[size++] = letter; }
};
using Escapes = std::array<Escape, 256>;

constexpr void add_code(Escape& escape, const char* digits) {
  escape.add('\\');
  escape.add('u');
  for (int place = 0; place < 4; ++place) escape.add(digits[place]);
}

constexpr Escapes plain_escapes() {
  Escapes escapes = {};
  for (unsigned byte = 0; byte < 0x20; ++byte) {
    const char digits[] = {'0', '0', "01"[byte >> 4], "0123456789abcdef"[byte & 15]};
    add_code(escapes[byte], digits);
  }
  const auto shortly = [&](unsigned char byte, char letter) {
    escapes[byte] = {};
    escapes[byte].add('\\');
    escapes[byte].add(letter);
  };
  shortly('\b', 'b');
  shortly('\t', 't');
  shortly('\n', 'n');
  shortly('\f', 'f');
  shortly('\r', 'r');
  shortly('"', '"');
  shortly('\\', '\\');
  return escapes;
}

constexpr Escapes nested_escapes() {
  Escapes inner = plain_escapes();
  add_code(inner['<'], "003c");
  add_code(inner['>'], "003e");
  add_code(inner['&'], "0026");
  Escapes escapes = {};
  for (unsigned byte = 0; byte < 256; ++byte)
    for (int place = 0; place < inner[byte].size; ++place) {
      const char letter = inner[byte].text[place];
      if (letter == '"' || letter == '\\') escapes[byte].add('\\');
      escapes[byte].add(letter);
    }
  escapes[0xe2].size = 1;  // may begin U+2028 or U+2029
  escapes[0xe2].text[0] = static_cast<char>(0xe2);
  return escapes;
}

constexpr Escapes plain = plain_escapes(), nested = nested_escapes();

template <bool lines>
void append(std::string& out, std::string_view text, const Escapes& escapes) {
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const Escape& escape = escapes[static_cast<unsigned char>(text[at])];
    if (escape.size == 0) [[likely]]
      continue;
    if (lines && text[at] == static_cast<char>(0xe2)) {
      const std::string_view three = text.substr(at, 3);
      if (three != "\u2028" && three != "\u2029") continue;
      out.append(text, begin, at - begin).append(three == "\u2028" ? "\\\\u2028" : "\\\\u2029");
      at += 2;
    } else {
      out.append(text, begin, at - begin).append(escape.text, escape.size);
    }
    begin = at + 1;
  }
  out.append(text, begin);
}

template <class Integer>
void append_digits(std::string& out, Integer value) {
  char digits[24];
  out.append(digits, std::to_chars(digits, digits + sizeof(digits), value).ptr);
}

bool is_digit(char letter) noexcept { return letter >= '0' && letter <= '9'; }

// What the hex digit `letter` is worth, 16 if it is none.
unsigned worth(char letter) noexcept {
  if (is_digit(letter)) return static_cast<unsigned>(letter - '0');
  const char low = static_cast<char>(letter | 0x20);
  return low >= 'a' && low <= 'f' ? static_cast<unsigned>(low - 'a') + 10 : 16;
}

bool is_sign(char letter) noexcept { return letter == '+' || letter == '-'; }

// A walk over a text by a grammar. Each step answers whether it could be taken.
struct Scanner {
  const char* at;
  const char* end;

  bool done() const noexcept { return at == end; }
  bool take(char letter) noexcept { return !done() && *at == letter ? (++at, true) : false; }
  bool take_any_case(char low) noexcept { return !done() && (*at | 0x20) == low ? (++at, true) : false; }
  void take_sign() noexcept { at += !done() && is_sign(*at); }

  // At least one digit, single underscores between them.
  bool take_digits(unsigned base) noexcept {
    const char* const begin = at;
    while (!done() && worth(*at) < base) {
      ++at;
      if (end - at >= 2 && *at == '_' && worth(at[1]) < base) ++at;
    }
    return at != begin;
  }
  bool take_exponent(char low) noexcept {
    if (!take_any_case(low)) return false;
    take_sign();
    return take_digits(10);
  }
  bool take_mantissa(unsigned base) noexcept {
    if (take('.')) return take_digits(base);
    if (!take_digits(base)) return false;
    if (take('.')) take_digits(base);
    return true;
  }
};

bool is_decimal(std::string_view text) noexcept {
  Scanner scanner{text.data(), text.data() + text.size()};
  scanner.take_sign();
  return scanner.take_mantissa(10) && (scanner.done() || (scanner.take_exponent('e') && scanner.done()));
}

bool is_hex(std::string_view text) noexcept {
  Scanner scanner{text.data(), text.data() + text.size()};
  scanner.take_sign();
  if (!scanner.take('0') || !scanner.take_any_case('x')) return false;
  if (scanner.take('_') && (scanner.done() || *scanner.at == '.')) return false;
  return scanner.take_mantissa(16) && scanner.take_exponent('p') && scanner.done();
}

bool is_named(std::string_view text, double& number) noexcept {
  const bool negative = text.starts_with('-');
  const bool bare = negative || text.starts_with('+');
  const auto same = [name = text.substr(bare ? 1 : 0)](std::string_view low) {
    return std::equal(name.begin(), name.end(), low.begin(), low.end(), [](char a, char b) { return (a | 0x20) == b; });
  };
  if (same("inf") || same("infinity")) {
    number = negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
    return true;
  }
  if (bare || !same("nan")) return false;
  number = std::numeric_limits<double>::quiet_NaN();
  return true;
}

// The signed number that `digits` is, held within +-10^15.
std::int64_t saturated(std::string_view digits) noexcept {
  constexpr std::int64_t limit = 1'000'000'000'000'000;
  std::int64_t number = 0;
  for (const char letter : digits)
    if (is_digit(letter)) number = std::min(limit, number * 10 + (letter - '0'));
  return digits.starts_with('-') ? -number : number;
}

// A decimal of the grammar, without sign and underscores.
bool decimal_value(std::string_view text, double& number) noexcept {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec == std::errc()) return std::isfinite(number);
  // Out of range says not at which end. Where the first digit that counts stands does.
  const std::size_t e = std::min(text.find_first_of("eE"), text.size());
  std::int64_t magnitude = e < text.size() ? saturated(text.substr(e + 1)) : 0;
  bool point = false, counts = false;
  for (const char letter : text.substr(0, e)) {
    if (letter == '.') {
      point = true;
    } else if (counts || letter != '0') {
      counts = true;
      magnitude += !point;
    } else {
      magnitude -= point;
    }
  }
  number = 0.0;
  return !counts || magnitude <= 0;
}

// A hex float of the grammar, without sign and underscores: rounded once, to even.
bool hex_value(std::string_view text, double& number) noexcept {
  const std::size_t p = text.find_first_of("pP");
  std::int64_t exponent = saturated(text.substr(p + 1));
  std::uint64_t mantissa = 0;  // at most 60 bits; what falls off below lives on in the last
  bool point = false;
  for (const char letter : text.substr(2, p - 2)) {
    if (letter == '.') {
      point = true;
      continue;
    }
    const unsigned digit = worth(letter);
    if (mantissa >> 56 == 0) {
      mantissa = mantissa << 4 | digit;
      exponent -= point ? 4 : 0;
    } else {
      mantissa |= digit != 0;
      exponent += point ? 0 : 4;
    }
  }
  number = 0.0;
  if (mantissa == 0) return true;
  const int bits = std::bit_width(mantissa);
  if (exponent + bits > 1024) return false;
  // The exponent of the last bit that a double of this size has.
  const std::int64_t last = std::max<std::int64_t>(exponent + bits - 53, -1074);
  const std::int64_t drop = last - exponent;
  if (drop > 62) return true;
  if (drop > 0) {
    const std::uint64_t half = std::uint64_t{1} << (drop - 1), rest = mantissa & (2 * half - 1);
    mantissa >>= drop;
    mantissa += rest > half || (rest == half && (mantissa & 1) != 0);
    exponent = last;
  }
  number = std::ldexp(static_cast<double>(mantissa), static_cast<int>(exponent));
  return std::isfinite(number);
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  const auto* at = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = at + text.size();
  while (at != end) {
    if (end - at >= 8) {
      std::uint64_t eight;
      std::memcpy(&eight, at, 8);
      if ((eight & 0x8080808080808080) == 0) {
        at += 8;
        continue;
      }
    }
    const unsigned lead = *at++;
    if (lead < 0x80) continue;
    const int more = lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (lead < 0xc2 || lead > 0xf4 || end - at < more) return false;
    const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;   // against overlong forms
    const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;  // surrogates, beyond U+10FFFF
    if (*at < low || *at > high) return false;
    for (int place = 1; place < more; ++place)
      if ((at[place] & 0xc0) != 0x80) return false;
    at += more;
  }
  return true;
}

void append_text(std::string& out, std::string_view text) { append<false>(out, text, plain); }

void append_nested_text(std::string& out, std::string_view text) { append<true>(out, text, nested); }

void append_integer(std::string& out, std::int64_t value) { append_digits(out, value); }

void append_natural(std::string& out, std::uint64_t value) { append_digits(out, value); }

bool append_double(std::string& out, double value) {
  if (!std::isfinite(value)) return false;
  if (std::signbit(value)) out += '-';
  value = std::fabs(value);
  constexpr double exact = 9007199254740992.0;  // 2^53: below, a whole double has the digits of its integer
  if (value < exact && value == std::trunc(value)) {
    append_digits(out, static_cast<std::uint64_t>(value));
    return true;
  }
  char text[32];  // d.ddde-ddd
  const char* const end = std::to_chars(text, text + sizeof(text), value, std::chars_format::scientific).ptr;
  const char* const e = std::find(static_cast<const char*>(text), end, 'e');
  int exponent = 0;
  std::from_chars(e + 2, end, exponent);
  if (e[1] == '-') exponent = -exponent;
  if (value < 1e-6 || value >= 1e21) {
    out.append(text, static_cast<std::size_t>(e - text)).append(exponent < 0 ? "e" : "e+");
    append_digits(out, exponent);
    return true;
  }
  char digits[20];
  int count = 0;
  for (const char* at = text; at != e; ++at)
    if (*at != '.') digits[count++] = *at;
  if (exponent < 0) {
    out.append("0.").append(static_cast<std::size_t>(-exponent - 1), '0').append(digits, count);
  } else if (exponent >= count - 1) {
    out.append(digits, count).append(static_cast<std::size_t>(exponent - count + 1), '0');
  } else {
    out.append(digits, exponent + 1).append(1, '.').append(digits + exponent + 1, count - exponent - 1);
  }
  return true;
}

bool number_of(std::string_view text, std::string& scratch, double& number) {
  // Most texts are no numbers, and their first letter says so.
  const char first = text.empty() ? ' ' : text.front();
  if (!is_digit(first) && !is_sign(first) && first != '.')
    return (first | 0x20) == 'i' || (first | 0x20) == 'n' ? is_named(text, number) : false;
  const bool decimal = is_decimal(text);
  if (!decimal && !is_hex(text)) return is_named(text, number);
  const bool negative = first == '-';
  if (is_sign(first)) text.remove_prefix(1);
  if (text.find('_') != text.npos) {
    scratch.clear();
    for (const char letter : text)
      if (letter != '_') scratch += letter;
    text = scratch;
  }
  if (!(decimal ? decimal_value(text, number) : hex_value(text, number))) return false;
  if (negative) number = -number;
  return true;
}

}  // namespace pairec::go_json
