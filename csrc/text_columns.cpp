#include "text_columns.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <locale.h>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <utility>

#include "json_text.hpp"

namespace pairec {
namespace {

constexpr int depth_max = 32;              // of lists and objects within a value
constexpr std::ptrdiff_t digits_max = 100;  // of an integer
constexpr std::int64_t exact = std::int64_t{1} << 53;  // beyond it not every integer is a double
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

bool is_digit(char character) noexcept { return character >= '0' && character <= '9'; }
bool is_hex(char character) noexcept {
  const char small = character | 0x20;
  return is_digit(character) || (small >= 'a' && small <= 'f');
}

// A text without regard to capitals; `small` has none.
bool is_named(std::string_view text, std::string_view small) noexcept {
  return std::ranges::equal(text, small, [](char one, char other) { return (one | 0x20) == other && one > 0x40; });
}

// Moves on over digits, with single underscores between them. How many digits there were, and into `plain` they go.
template <class Digit>
std::ptrdiff_t take_digits(const char*& at, const char* end, std::string& plain, Digit digit) {
  std::ptrdiff_t count = 0;
  while (at != end && (digit(*at) || (*at == '_' && count > 0 && end - at > 1 && digit(at[1])))) {
    if (*at != '_') plain += *at, ++count;
    ++at;
  }
  return count;
}

// The rest of Go's grammar of doubles: underscores, hex, and what is too small or too large for `from_chars`.
bool unusual_double(std::string_view text, double& value) {
  const char *at = text.data(), *const end = at + text.size();
  std::string plain;
  if (at != end && (*at == '+' || *at == '-')) plain += *at++;
  const bool hex = end - at > 1 && *at == '0' && (at[1] | 0x20) == 'x';
  std::ptrdiff_t digits = 0;
  if (hex) {
    plain += "0x";
    at += 2;
    if (end - at > 1 && *at == '_' && is_hex(at[1])) ++at;
    digits += take_digits(at, end, plain, is_hex);
  } else {
    digits += take_digits(at, end, plain, is_digit);
  }
  if (at != end && *at == '.') {
    plain += *at++;
    digits += hex ? take_digits(at, end, plain, is_hex) : take_digits(at, end, plain, is_digit);
  }
  if (digits == 0) return false;
  if (at != end && (*at | 0x20) == (hex ? 'p' : 'e')) {
    plain += *at++;
    if (at != end && (*at == '+' || *at == '-')) plain += *at++;
    if (take_digits(at, end, plain, is_digit) == 0) return false;
  } else if (hex) {
    return false;
  }
  if (at != end) return false;
  static const locale_t plain_locale = newlocale(LC_ALL_MASK, "C", nullptr);
  value = strtod_l(plain.c_str(), nullptr, plain_locale);
  return std::isfinite(value);  // Go refuses what is too large
}

// The double that Go's ParseFloat takes `text` for.
bool parse_double(std::string_view text, double& value) {
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const char* at = begin;
  if (at != end && (*at == '+' || *at == '-')) ++at;
  if (at == end) return false;
  const char first = *at;
  if (!is_digit(first) && first != '.') {
    const std::string_view name(at, static_cast<std::size_t>(end - at));
    if (is_named(name, "inf") || is_named(name, "infinity")) {
      value = *begin == '-' ? -HUGE_VAL : HUGE_VAL;
      return true;
    }
    value = nan;
    return at == begin && is_named(name, "nan");
  }
  const auto read = std::from_chars(at, end, value);
  if (read.ec != std::errc() || read.ptr != end) {
    const bool may_be = read.ec == std::errc::result_out_of_range ||
                        (read.ptr != end && (*read.ptr == '_' || (*read.ptr | 0x20) == 'x'));
    return may_be && unusual_double(text, value);
  }
  if (*begin == '-') value = -value;
  return true;
}

}  // namespace

bool Word::operator==(const Word& other) const noexcept {
  return kind == other.kind && bytes == other.bytes &&
         std::bit_cast<std::uint64_t>(value) == std::bit_cast<std::uint64_t>(other.value);
}

std::size_t WordHash::operator()(const Word& word) const noexcept {
  if (word.kind == Word::number) return std::hash<std::uint64_t>()(std::bit_cast<std::uint64_t>(word.value)) * 31 + 1;
  return std::hash<std::string_view>()(word.bytes) + word.kind;
}

// `guess` is where it is, if texts name the same in the same order, as they do. None beyond the most there may be.
TextColumn* TextColumns::column(std::string_view name, std::size_t guess) {
  if (guess < columns_.size() && columns_[guess].name == name) return &columns_[guess];
  const auto [known, is_new] = places_.try_emplace(name, columns_.size());
  if (is_new && columns_.size() < most_) {
    TextColumn& made = columns_.emplace_back();
    made.name = name;
    made.numbers.assign(static_cast<std::size_t>(rows_), nan);
    made.codes.assign(static_cast<std::size_t>(rows_), TextColumn::missing);
  } else if (is_new) {
    known->second = most_;
  }
  return known->second < columns_.size() ? &columns_[known->second] : nullptr;
}

void TextColumns::put_number(TextColumn* column, std::int32_t row, double value) {
  if (column == nullptr) return;
  if (value != value) return put_word(column, row, {Word::number, {}, value});  // in `numbers` it would be none
  column->numbers[static_cast<std::size_t>(row)] = value;
  column->codes[static_cast<std::size_t>(row)] = TextColumn::a_number;
}

void TextColumns::put_word(TextColumn* column, std::int32_t row, Word word, bool repeats) {
  if (column == nullptr) return;
  auto code = static_cast<std::int32_t>(column->words.size());
  if (repeats) {
    const auto [known, is_new] = column->known.try_emplace(word, code);
    code = known->second;
    if (is_new) column->words.push_back(word);
  } else {
    column->words.push_back(word);
  }
  column->codes[static_cast<std::size_t>(row)] = code;
}

void TextColumns::put_value(TextColumn* column, std::int32_t row, std::string_view value) {
  double number;
  if (parse_double(value, number)) {
    put_number(column, row, number);
  } else {
    put_word(column, row, {Word::text, value, 0});
  }
}

void TextColumns::read_pairs(std::int32_t row, std::string_view text, std::string_view delimiter) {
  std::size_t begin = 0, guess = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find(delimiter, begin), text.size());
    const std::string_view pair = text.substr(begin, end - begin);
    begin = end + delimiter.size();
    const std::size_t colon = pair.find(':');
    if (colon == std::string_view::npos || pair.find(':', colon + 1) != std::string_view::npos) continue;
    put_value(column(pair.substr(0, colon), guess++), row, pair.substr(colon + 1));
  }
}

bool TextColumns::read_object(std::int32_t row, std::string_view text) {
  at_ = text.data();
  end_ = at_ + text.size();
  if (read_members(row) && (next(), at_ == end_)) return true;
  for (TextColumn& one : columns_) {
    one.codes[static_cast<std::size_t>(row)] = TextColumn::missing;
    one.numbers[static_cast<std::size_t>(row)] = nan;
  }
  return false;
}

// The next character that is no blank; 0 at the end.
char TextColumns::next() noexcept {
  while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) ++at_;
  return at_ != end_ ? *at_ : '\0';
}

bool TextColumns::take(std::string_view word) noexcept {
  next();
  if (!std::string_view(at_, static_cast<std::size_t>(end_ - at_)).starts_with(word)) return false;
  at_ += word.size();
  return true;
}

bool TextColumns::read_members(std::int32_t row) {
  if (take("null")) return true;
  if (!take("{")) return false;
  if (take("}")) return true;
  for (std::size_t guess = 0;; ++guess) {
    if (!read_member(row, guess)) return false;
    if (take("}")) return true;
    if (!take(",")) return false;
  }
}

bool TextColumns::read_member(std::int32_t row, std::size_t guess) {
  std::string_view name, bytes;
  if (next() != '"' || !read_text(name) || !take(":")) return false;
  TextColumn* const to = column(name, guess);
  const char kind = next();
  const char* const begin = at_;
  if (kind == '"') {
    if (!read_text(bytes)) return false;
    put_word(to, row, {Word::text, bytes, 0});
  } else if (kind == '{' || kind == '[') {
    std::string copy;
    if (!copy_nested(copy, depth_max)) return false;
    put_word(to, row, {Word::json, own_.emplace_back(std::move(copy)), 0}, false);
  } else if (take("true") || take("false") || take("null")) {
    put_word(to, row, {Word::json, {begin, static_cast<std::size_t>(at_ - begin)}, 0});
  } else {
    double value;
    bool is_double;
    if (!read_number(bytes, value, is_double)) return false;
    if (is_double) {
      put_number(to, row, value);
    } else {
      put_word(to, row, {Word::json, bytes, 0});
    }
  }
  return true;
}

bool TextColumns::read_text(std::string_view& text) {
  const char* const begin = ++at_;
  at_ = json_text::plain_end(at_, end_);
  if (at_ == end_) return false;
  if (*at_ == '"') {
    text = {begin, static_cast<std::size_t>(at_ - begin)};
  } else if (*at_ == '\\') {
    std::string plain;
    if (!json_text::unescape(begin, at_, end_, plain)) return false;
    text = own_.emplace_back(std::move(plain));
  } else {
    return false;
  }
  ++at_;
  return true;
}

// A number as JSON has it. Not `is_double`: an integer that no double holds, and `digits` are all there is of it.
bool TextColumns::read_number(std::string_view& digits, double& value, bool& is_double) {
  const char* const begin = at_;
  if (at_ != end_ && *at_ == '-') ++at_;
  const auto some_digits = [&] {
    const char* const first = at_;
    while (at_ != end_ && is_digit(*at_)) ++at_;
    return at_ - first;
  };
  const char* const whole = at_;
  const std::ptrdiff_t count = some_digits();
  if (count == 0 || (*whole == '0' && count > 1)) return false;
  is_double = true;
  if (at_ == end_ || (*at_ != '.' && (*at_ | 0x20) != 'e')) {
    if (count > digits_max) return false;
    digits = {begin, static_cast<std::size_t>(at_ - begin)};
    std::int64_t integer;
    is_double = std::from_chars(begin, at_, integer).ec == std::errc() && integer >= -exact && integer <= exact;
    if (is_double) value = static_cast<double>(integer);
    return true;
  }
  if (*at_ == '.' && (++at_, some_digits() == 0)) return false;
  if (at_ != end_ && (*at_ | 0x20) == 'e') {
    if (++at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (some_digits() == 0) return false;
  }
  digits = {begin, static_cast<std::size_t>(at_ - begin)};
  return std::from_chars(begin, at_, value).ec == std::errc() || unusual_double(digits, value);  // 1e-999 is 0
}

// A value, checked, with a fraction behind integers that become doubles.
bool TextColumns::copy_nested(std::string& out, int depth) {
  const char kind = next();
  const char* const begin = at_;
  const bool is_object = kind == '{';
  if (is_object || kind == '[') {
    const std::string_view close = is_object ? "}" : "]";
    if (depth == 0) return false;
    out += *at_++;
    for (bool first = true; !(first && take(close)); first = false) {
      if (is_object) {
        std::string_view name;
        if (next() != '"') return false;
        const char* const key = at_;
        if (!read_text(name)) return false;
        out.append(key, at_);
        if (!take(":")) return false;
        out += ':';
      }
      if (!copy_nested(out, depth - 1)) return false;
      if (take(close)) break;
      if (!take(",")) return false;
      out += ',';
    }
    out += close;
    return true;
  }
  std::string_view bytes;
  if (kind == '"') {
    if (!read_text(bytes)) return false;
    out.append(begin, at_);
  } else if (take("true") || take("false") || take("null")) {
    out.append(begin, at_);
  } else {
    double value;
    bool is_double;
    if (!read_number(bytes, value, is_double)) return false;
    const bool is_integer = bytes.find_first_of(".eE") == std::string_view::npos;
    if (is_double && is_integer && value == 0) bytes = "0";  // JSON's integers know no -0
    out += bytes;
    if (is_double && is_integer) out += ".0";
  }
  return true;
}

void TextColumns::settle() {
  std::erase_if(columns_, [](const TextColumn& one) {
    return std::ranges::all_of(one.codes, [](std::int32_t code) { return code == TextColumn::missing; });
  });
  for (TextColumn& one : columns_) {
    if (std::ranges::none_of(one.codes, [](std::int32_t code) { return code >= 0; })) {
      one.words.clear();
      continue;
    }
    std::vector<std::int32_t> ordered(one.words.size(), TextColumn::missing);
    std::unordered_map<Word, std::int32_t, WordHash> numbers;
    std::vector<Word> words;
    for (std::size_t row = 0; row < one.codes.size(); ++row) {
      std::int32_t& code = one.codes[row];
      if (code == TextColumn::missing) continue;
      const auto next_code = static_cast<std::int32_t>(words.size());
      if (code == TextColumn::a_number) {
        const Word word{Word::number, {}, one.numbers[row]};
        const auto [known, is_new] = numbers.try_emplace(word, next_code);
        if (is_new) words.push_back(word);
        code = known->second;
      } else {
        std::int32_t& place = ordered[static_cast<std::size_t>(code)];
        if (place == TextColumn::missing) {
          place = next_code;
          words.push_back(one.words[static_cast<std::size_t>(code)]);
        }
        code = place;
      }
    }
    one.words = std::move(words);
  }
}

void read_vector(std::string_view text, std::string_view separator, std::vector<float>& numbers) {
  while (!text.empty() && (text.front() == '{' || text.front() == '}')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == '{' || text.back() == '}')) text.remove_suffix(1);
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    double value;
    const bool is_number = parse_double(text.substr(begin, end - begin), value);
    numbers.push_back(is_number ? static_cast<float>(value) : 0.0f);
    begin = end + separator.size();
  }
}

}  // namespace pairec
