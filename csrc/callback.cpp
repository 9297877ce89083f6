#include "callback.hpp"

#include <charconv>
#include <cstring>
#include <exception>
#include <limits>

#include "go_json.hpp"
#include "json_text.hpp"
#include "msgpack_write.hpp"

namespace pairec {

using msgpack::append_double;
using msgpack::append_integer;
using msgpack::append_list_head;
using msgpack::append_natural;
using msgpack::append_text;
using msgpack::append_text_head;

namespace {

constexpr int depth_max = 32;
constexpr std::size_t keys_max = 64, texts_max = 1u << 20;

bool is_digit(char character) noexcept { return character >= '0' && character <= '9'; }

}  // namespace

bool CallbackBody::read(const char* data, std::size_t size) noexcept {
  at_ = data;
  end_ = data + size;
  ends_.clear();
  keys_.clear();
  try {
    packed_.begin(3 * size + 8);  // at worst: doubles of 9 bytes, of three characters each
    return parse();
  } catch (const std::exception&) {  // bad_alloc, length_error
    return false;
  }
}

bool CallbackBody::record(std::int64_t time, std::string_view fingerprint, std::size_t kept,
                          std::string& record) const noexcept {
  const auto append = [&](Piece piece) { record.append(packed_.data() + piece.begin, piece.end - piece.begin); };
  const std::size_t first = fields_[items_at].begin;
  try {
    record.clear();
    record.reserve(packed_.size() + 3 * kept + fingerprint.size() + 64);
    append_list_head(record, 10);
    append(fields_[scene_at]);
    append(fields_[request_id_at]);
    append_integer(record, time);
    append(fields_[uid_at]);
    append(fields_[features_at]);
    append(fields_[request_info_at]);
    append_list_head(record, kept);
    append({first, kept == 0 ? first : ends_[kept - 1]});
    append_text(record, {});
    append_text(record, fingerprint);
    append_list_head(record, kept);
    for (std::size_t position = 0; position < kept; ++position) append_natural(record, position);
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

bool CallbackBody::parse() {
  static constexpr std::string_view names[fields] = {"uid",          "request_id", "scene_id",
                                                     "features",     "request_info", "item_list",
                                                     "complex_type_features", "debug"};
  unsigned seen = 0;
  if (!take('{')) return false;
  const bool whole = parse_entries('}', [&] {
    Key key;
    const std::size_t before = packed_.size();
    if (!parse_text(key) || !take(':')) return false;
    const std::string_view name(packed_.data() + key.begin, key.size);
    int field = 0;
    while (field < fields && name != names[field]) ++field;
    packed_.cut(before);
    if (field == fields || (seen >> field & 1) != 0) return false;
    seen |= 1u << field;
    return parse_field(static_cast<Field>(field));
  });
  constexpr unsigned needed = 1u << uid_at | 1u << request_id_at | 1u << scene_at | 1u << items_at;
  if (!whole || next() != '\0' || at_ != end_ || (seen & needed) != needed) return false;
  for (const Field field : {features_at, request_info_at}) {
    if ((seen >> field & 1) != 0) continue;
    fields_[field] = {packed_.size(), packed_.size() + 1};
    packed_ += '\x80';
  }
  return !uid().empty() && !request_id().empty() && !scene().empty() && !ends_.empty();
}

bool CallbackBody::parse_field(Field field) {
  const std::size_t begin = packed_.size();
  Key text;
  bool good = false;
  next();
  switch (field) {
    case uid_at:
    case request_id_at:
    case scene_at: good = parse_text(text); break;
    case features_at: good = parse_features(); break;
    case request_info_at: good = at_ != end_ && *at_ == '{' && parse_value(depth_max); break;
    case items_at: good = parse_items(); break;
    case complex_at: good = take('[') && take(']'); break;
    default: good = parse_word("true", '\xc3') || parse_word("false", '\xc2');
  }
  fields_[field] = {begin, packed_.size()};
  return good;
}

bool CallbackBody::parse_items() {
  return take('[') && parse_entries(']', [&] {
           if (!take('{') || !parse_item()) return false;
           ends_.push_back(packed_.size());
           return true;
         });
}

bool CallbackBody::parse_item() {
  const std::size_t head = packed_.size(), first = keys_.size();
  std::uint64_t seen = 0;
  bool has_id = false;
  packed_ += '\0';
  const bool whole = parse_entries('}', [&] {
    Key key;
    if (!parse_key(seen, first, key)) return false;
    if (std::string_view(packed_.data() + key.begin, key.size) != "item_id") return parse_value(depth_max - 2);
    has_id = true;
    return parse_id();
  });
  const std::size_t count = keys_.size() - first;
  keys_.resize(first);
  return whole && has_id && write_count(head, count, true);
}

// A text that is not empty; a whole number becomes its digits.
bool CallbackBody::parse_id() {
  if (next() == '"') {
    Key text;
    return parse_text(text) && text.size != 0;
  }
  const char* const begin = at_;
  const std::size_t before = packed_.size();
  if (!parse_number() || static_cast<unsigned char>(packed_[before]) == 0xcb) return false;
  packed_.cut(before);
  append_text(packed_, {begin, static_cast<std::size_t>(at_ - begin)});
  return true;
}

// As callback.without_empty leaves them: no empty texts.
bool CallbackBody::parse_features() {
  if (!take('{')) return false;
  const std::size_t head = packed_.size(), first = keys_.size();
  std::uint64_t seen = 0;
  empty_.clear();
  packed_ += '\0';
  const bool whole = parse_entries('}', [&] {
    Key key;
    const std::size_t before = packed_.size();
    if (!parse_key(seen, first, key)) return false;
    const std::size_t begin = packed_.size();
    const char kind = next();
    if (kind == '[') return parse_texts();
    if (kind == '{' || !parse_value(0)) return false;
    if (packed_[begin] == '\xa0') empty_.push_back({before, packed_.size()});
    return true;
  });
  const std::size_t count = keys_.size() - first - empty_.size();
  keys_.resize(first);
  // Not before all keys were compared.
  for (auto piece = empty_.rbegin(); piece != empty_.rend(); ++piece)
    packed_.erase(piece->begin, piece->end - piece->begin);
  return whole && write_count(head, count, true);
}

// A list of texts, which stays as it is; any other is for callback.with_texts.
bool CallbackBody::parse_texts() {
  if (!take('[')) return false;
  const std::size_t head = packed_.size();
  std::size_t count = 0;
  packed_ += '\0';
  const bool whole = parse_entries(']', [&] {
    Key text;
    ++count;
    return next() == '"' && parse_text(text);
  });
  return whole && write_count(head, count, false);
}

bool CallbackBody::parse_value(int depth) {
  switch (next()) {
    case '"': {
      Key text;
      return parse_text(text);
    }
    case '{': return depth > 0 && parse_map(depth - 1);
    case '[': return depth > 0 && parse_list(depth - 1);
    case 't': return parse_word("true", '\xc3');
    case 'f': return parse_word("false", '\xc2');
    case 'n': return parse_word("null", '\xc0');
    default: return parse_number();
  }
}

bool CallbackBody::parse_map(int depth) {
  ++at_;
  const std::size_t head = packed_.size(), first = keys_.size();
  std::uint64_t seen = 0;
  packed_ += '\0';
  const bool whole = parse_entries('}', [&] {
    Key key;
    return parse_key(seen, first, key) && parse_value(depth);
  });
  const std::size_t count = keys_.size() - first;
  keys_.resize(first);
  return whole && write_count(head, count, true);
}

bool CallbackBody::parse_list(int depth) {
  ++at_;
  const std::size_t head = packed_.size();
  std::size_t count = 0;
  packed_ += '\0';
  const bool whole = parse_entries(']', [&] {
    ++count;
    return parse_value(depth);
  });
  return whole && write_count(head, count, false);
}

// An integer within int64, or a double.
bool CallbackBody::parse_number() {
  const char* const begin = at_;
  const bool negative = at_ != end_ && *at_ == '-';
  if (negative) ++at_;
  const char* const digits = at_;
  while (at_ != end_ && is_digit(*at_)) ++at_;
  const auto count = at_ - digits;
  if (count == 0 || (*digits == '0' && count > 1)) return false;
  if (at_ == end_ || (*at_ != '.' && *at_ != 'e' && *at_ != 'E')) {
    if (negative) {
      std::int64_t value;
      if (*digits == '0' || std::from_chars(begin, at_, value).ec != std::errc()) return false;
      append_integer(packed_, value);
    } else {
      std::uint64_t value;
      if (std::from_chars(begin, at_, value).ec != std::errc()) return false;
      if (value > std::numeric_limits<std::int64_t>::max()) return false;  // a double in features: for the slow way
      append_natural(packed_, value);
    }
    return true;
  }
  const auto some_digits = [&] {
    const char* const first = at_;
    while (at_ != end_ && is_digit(*at_)) ++at_;
    return at_ != first;
  };
  if (*at_ == '.' && (++at_, !some_digits())) return false;
  if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
    if (++at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!some_digits()) return false;
  }
  double value;
  const auto [stop, error] = std::from_chars(begin, at_, value);
  if (error != std::errc() || stop != at_) return false;
  append_double(packed_, value);
  return true;
}

// Appends a text; `text` is where its bytes are.
bool CallbackBody::parse_text(Key& text) {
  if (!take('"')) return false;
  const char* const begin = at_;
  std::uint64_t high = 0;
  at_ = json_text::plain_end(at_, end_, high);
  if (at_ == end_) return false;
  std::string_view plain(begin, static_cast<std::size_t>(at_ - begin));
  const bool is_plain = *at_ == '"';
  if (!is_plain) {
    if (*at_ != '\\' || !json_text::unescape(begin, at_, end_, plain_)) return false;
    plain = plain_;
    high = 1;
  }
  ++at_;
  if (plain.size() > texts_max || (high != 0 && !go_json::is_utf8(plain))) return false;
  append_text_head(packed_, plain.size());
  if (is_plain && end_ - begin >= static_cast<std::ptrdiff_t>(msgpack::Bytes::slack)) {
    packed_.append_loosely(plain);
  } else {
    packed_.append(plain);
  }
  text = {packed_.size() - plain.size(), plain.size()};
  return true;
}

// A key and its colon. False also if the map, whose keys begin at `first` of `keys_`, has it already: which counts is
// for the slow way. `seen` has a bit for each hash, so that keys are compared only where two fall together.
bool CallbackBody::parse_key(std::uint64_t& seen, std::size_t first, Key& key) {
  if (!parse_text(key) || !take(':') || keys_.size() - first == keys_max) return false;
  const char* const text = packed_.data() + key.begin;
  const unsigned ends = key.size == 0 ? 0 : static_cast<unsigned char>(text[0]) * 5u +
                                                static_cast<unsigned char>(text[key.size - 1]);
  const std::uint64_t bit = std::uint64_t{1} << ((ends + key.size * 11) & 63);
  if ((seen & bit) != 0) {
    for (std::size_t index = first; index < keys_.size(); ++index) {
      const Key& other = keys_[index];
      if (other.size == key.size && std::memcmp(packed_.data() + other.begin, text, key.size) == 0) return false;
    }
  }
  seen |= bit;
  keys_.push_back(key);
  return true;
}

bool CallbackBody::parse_word(std::string_view word, char packed) {
  if (static_cast<std::size_t>(end_ - at_) < word.size() || std::memcmp(at_, word.data(), word.size()) != 0) return false;
  at_ += word.size();
  packed_ += packed;
  return true;
}

// Steps over blanks; the character that follows, '\0' at the end.
char CallbackBody::next() noexcept {
  while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  return at_ == end_ ? '\0' : *at_;
}

bool CallbackBody::take(char character) noexcept {
  if (next() != character) return false;
  ++at_;
  return true;
}

// What stands between the bracket just read and `close`, with commas between.
template <class Entry>
bool CallbackBody::parse_entries(char close, Entry entry) {
  if (take(close)) return true;
  for (;;) {
    if (!entry()) return false;
    if (take(close)) return true;
    if (!take(',')) return false;
  }
}

// Writes the head of a list or map into the byte kept for it at `at`; a longer one moves what follows.
bool CallbackBody::write_count(std::size_t at, std::size_t count, bool is_map) {
  if (count < 16) {
    packed_[at] = static_cast<char>((is_map ? 0x80 : 0x90) | count);
    return true;
  }
  if (count >= 1u << 16) return false;
  packed_[at] = static_cast<char>(is_map ? 0xde : 0xdc);
  packed_.open(at + 1, 2);
  packed_[at + 1] = static_cast<char>(count >> 8);
  packed_[at + 2] = static_cast<char>(count);
  return true;
}

// The bytes of a text that was packed.
std::string_view CallbackBody::text(Piece piece) const noexcept {
  const auto tag = static_cast<unsigned char>(packed_[piece.begin]);
  const std::size_t head = tag < 0xc0 ? 1 : tag == 0xd9 ? 2 : tag == 0xda ? 3 : 5;
  return {packed_.data() + piece.begin + head, piece.end - piece.begin - head};
}

}  // namespace pairec
