#include "expand.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "go_json.hpp"

namespace pairec {
namespace {

using msgpack::Kind;
using msgpack::Value;

constexpr std::uint32_t nowhere = std::numeric_limits<std::uint32_t>::max();
constexpr std::string_view item_texts[] = {"raw_features", "generate_features", "context_features"};

std::string_view view(const Value& value) noexcept {
  return {reinterpret_cast<const char*>(value.data), value.size};
}

bool is_container(const Value& value) noexcept { return value.kind == Kind::list || value.kind == Kind::map; }

bool is_whole(const Value& value) noexcept { return value.kind == Kind::integer || value.kind == Kind::natural; }

void append_whole(std::string& out, const Value& value) {
  if (value.kind == Kind::natural) {
    go_json::append_natural(out, value.bits);
  } else {
    go_json::append_integer(out, static_cast<std::int64_t>(value.bits));
  }
}

void append_member(std::string& out, const char* name, std::string_view text) {
  out.append(name);
  go_json::append_text(out, text);
  out += '"';
}

}  // namespace

bool Expander::open(const unsigned char* data, std::size_t size) noexcept {
  rows_ = row_ = 0;
  uid_ = {};
  data_ = data;
  try {
    return parse(size);
  } catch (const std::exception&) {  // bad_alloc, length_error
    rows_ = 0;
    return false;
  }
}

bool Expander::next(std::string& text) noexcept {
  if (row_ == rows_) return false;
  const std::size_t before = text.size();
  entries_.clear();
  try {
    if (is_gap_)
      text.append(head_);
    else if (is_ready_)
      write_ready(text);
    else
      row_ == 0 ? write_user(text) : write_item(text);
  } catch (const std::exception&) {
    text.resize(before);
    return false;
  }
  ++row_;
  return true;
}

bool Expander::expand(const unsigned char* data, std::size_t size, std::string& text,
                      std::vector<std::size_t>& ends) noexcept {
  text.clear();
  ends.clear();
  if (!open(data, size)) return false;
  try {
    ends.reserve(rows_);
  } catch (const std::exception&) {
    return false;
  }
  while (next(text)) ends.push_back(text.size());
  return ends.size() == rows_;
}

bool Expander::parse(std::size_t size) {
  constexpr std::uint32_t needed = 7, fields = 10;
  if (size >= nowhere) return false;
  size_ = static_cast<std::uint32_t>(size);
  nodes_.clear();
  Value root, value[fields];
  if (!msgpack::read(data_, data_ + size_, root)) return false;
  is_gap_ = root.kind == Kind::map;
  if (is_gap_) return parse_gap(root);
  is_ready_ = root.kind == Kind::list && root.size == 2;
  if (is_ready_) return parse_ready(root);
  if (root.kind != Kind::list || root.size < needed) return false;
  Place place[fields];
  std::uint32_t at = static_cast<std::uint32_t>(root.next - data_);
  for (std::uint32_t field = 0; field < root.size; ++field) {
    const Place begin = {at, static_cast<std::uint32_t>(nodes_.size())};
    if (!scan(at, field < fields)) return false;  // fields that came later are for others
    if (field >= fields) continue;
    place[field] = begin;
    value[field] = value_at(begin.at);
  }
  if (at != size_) return false;
  for (std::uint32_t field = root.size; field < fields; ++field)  // what the record does not have is empty
    value[field].kind = field < 9 ? Kind::text : Kind::list;
  const auto& [scene, request_id, request_time, uid, features, request_info, items, experiment, fingerprint, positions] =
      value;
  for (const Value* text : {&scene, &request_id, &uid, &experiment, &fingerprint})
    if (text->kind != Kind::text) return false;
  if (positions.kind != Kind::list) return false;
  Value position;
  position_ = positions.size > 0 ? static_cast<std::uint32_t>(positions.next - data_) : 0;
  for (std::uint32_t left = positions.size, next = position_; left > 0; --left) {
    position = value_at(next);
    if (!is_whole(position)) return false;
    next = static_cast<std::uint32_t>(position.next - data_);
  }
  positions_left_ = positions.size;
  experiment_id_ = view(experiment);
  fingerprint_ = view(fingerprint);
  if (!is_whole(request_time) || items.kind != Kind::list) return false;
  features_ = place[4];
  request_info_ = place[5];
  item_ = {static_cast<std::uint32_t>(items.next - data_), place[6].node + 1};
  if (!check_keys(features_, false) || !check_keys(request_info_, false)) return false;
  Place item = item_;
  for (std::uint32_t left = items.size; left > 0; --left, skip(item))
    if (!check_keys(item, true)) return false;

  uid_ = view(uid);
  head_.clear();
  append_member(head_, "{\"request_id\":\"", view(request_id));
  append_member(head_, ",\"scene\":\"", view(scene));
  head_.append(",\"request_time\":");
  append_whole(head_, request_time);
  append_member(head_, ",\"user_id\":\"", uid_);
  if (head_.size() * (std::uint64_t{1} + items.size) > expand_repeated_bytes_max) return false;
  rows_ = std::size_t{1} + items.size;
  return true;
}

// A map of texts and whole numbers: its row is ready then.
bool Expander::parse_gap(Value map) {
  std::uint32_t at = static_cast<std::uint32_t>(map.next - data_);
  head_ = "{\"module\":\"gap\"";
  for (std::uint32_t left = map.size; left > 0; --left) {
    Value key, value;
    if (!msgpack::read(data_ + at, data_ + size_, key) || key.kind != Kind::text || !go_json::is_utf8(view(key)))
      return false;
    if (!msgpack::read(key.next, data_ + size_, value)) return false;
    at = static_cast<std::uint32_t>(value.next - data_);
    append_member(head_, ",\"", view(key));
    head_ += ':';
    if (is_whole(value)) {
      append_whole(head_, value);
    } else if (value.kind == Kind::text && go_json::is_utf8(view(value))) {
      append_member(head_, "\"", view(value));
    } else {
      return false;
    }
  }
  head_ += '}';
  if (at != size_ || map.size == 0) return false;
  rows_ = 1;
  return true;
}

// The key of its messages, and a list of rows that are JSON texts already.
bool Expander::parse_ready(Value root) {
  const unsigned char* const end = data_ + size_;
  Value key, rows, row;
  if (!msgpack::read(root.next, end, key) || key.kind != Kind::text || !go_json::is_utf8(view(key))) return false;
  if (!msgpack::read(key.next, end, rows) || rows.kind != Kind::list || rows.size == 0) return false;
  const unsigned char* next = rows.next;
  for (std::uint32_t left = rows.size; left > 0; --left, next = row.next) {
    if (!msgpack::read(next, end, row) || row.kind != Kind::text || !go_json::is_utf8(view(row))) return false;
    if (row.size < 2 || view(row).front() != '{' || view(row).back() != '}') return false;
  }
  if (next != end) return false;
  uid_ = view(key);
  item_ = {static_cast<std::uint32_t>(rows.next - data_), 0};
  rows_ = rows.size;
  return true;
}

void Expander::write_ready(std::string& out) {
  const Value row = value_at(item_.at);
  out.append(view(row));
  item_.at = static_cast<std::uint32_t>(row.next - data_);
}

// Moves `at` beyond one value and notes the containers in it. False if it is cut off, no msgpack, or (if `checked`)
// holds a text that is not UTF-8.
bool Expander::scan(std::uint32_t& at, bool checked) {
  std::uint32_t parent = nowhere;
  for (;;) {
    Value value;
    if (!msgpack::read(data_ + at, data_ + size_, value)) return false;
    at = static_cast<std::uint32_t>(value.next - data_);
    if (is_container(value)) {
      const std::uint64_t elements = std::uint64_t{value.size} * (value.kind == Kind::map ? 2 : 1);
      if (elements > size_ - at) return false;  // each takes a byte
      nodes_.push_back({at, static_cast<std::uint32_t>(nodes_.size() + 1), parent,
                        static_cast<std::uint32_t>(elements)});
      if (elements != 0) {
        parent = static_cast<std::uint32_t>(nodes_.size() - 1);
        continue;
      }
    } else if (checked && value.kind == Kind::text && !go_json::is_utf8(view(value))) {
      return false;
    }
    while (parent != nowhere && --nodes_[parent].left == 0) {
      nodes_[parent].end = at;
      nodes_[parent].after = static_cast<std::uint32_t>(nodes_.size());
      parent = nodes_[parent].parent;
    }
    if (parent == nowhere) return true;
  }
}

// Whether a map with texts for keys is there, and (if wanted) a text is its `item_id`.
bool Expander::check_keys(Place map, bool wants_item_id) const {
  const Value value = value_at(map.at);
  if (value.kind != Kind::map) return false;
  bool found = !wants_item_id;
  Place place = {static_cast<std::uint32_t>(value.next - data_), map.node + 1};
  for (std::uint32_t left = value.size; left > 0; --left) {
    const Value key = value_at(place.at);
    if (key.kind != Kind::text) return false;
    skip(place);
    if (wants_item_id && view(key) == "item_id") found = text_at(place).data() != nullptr;  // the last counts
    skip(place);
  }
  return found;
}

// Of a place that was scanned: the value is whole.
Value Expander::value_at(std::uint32_t at) const noexcept {
  Value value;
  msgpack::read(data_ + at, data_ + size_, value);
  return value;
}

void Expander::skip(Place& place) const noexcept {
  const Value value = value_at(place.at);
  if (is_container(value)) {
    const Node& node = nodes_[place.node];
    place = {node.end, node.after};
  } else {
    place.at = static_cast<std::uint32_t>(value.next - data_);
  }
}

// The text that is there; a view of nothing if it is something else.
std::string_view Expander::text_at(Place place) const noexcept {
  const Value value = value_at(place.at);
  return value.kind == Kind::text ? view(value) : std::string_view();
}

// Adds the entries of a map, steps over it, and puts them in order. False if a key is no text.
bool Expander::collect(Place& map, std::size_t base) {
  const Value value = value_at(map.at);
  Place place = {static_cast<std::uint32_t>(value.next - data_), map.node + 1};
  skip(map);
  for (std::uint32_t left = value.size; left > 0; --left) {
    const Value key = value_at(place.at);
    if (key.kind != Kind::text) return false;
    place.at = static_cast<std::uint32_t>(key.next - data_);
    entries_.push_back({view(key), place});
    skip(place);
  }
  order(base);
  return true;
}

// Sorts the entries from `base` on by key. Of a key given twice the last counts.
void Expander::order(std::size_t base) {
  const auto first = entries_.begin() + static_cast<std::ptrdiff_t>(base);
  const auto less = [](const Entry& a, const Entry& b) {
    const int order = a.key.compare(b.key);
    return order != 0 ? order < 0 : a.value.at > b.value.at;  // unique() keeps the first
  };
  if (!std::is_sorted(first, entries_.end(), less)) std::sort(first, entries_.end(), less);
  const auto same = [](const Entry& a, const Entry& b) { return a.key == b.key; };
  entries_.erase(std::unique(first, entries_.end(), same), entries_.end());
}

// Appends a value as a part of a JSON text in a JSON text, and steps over it. False if JSON lacks it.
bool Expander::write(std::string& out, Place& place, int depth) {
  const Value value = value_at(place.at);
  if (is_container(value) && depth == 0) return false;
  if (value.kind == Kind::map) return write_map(out, place, depth);
  if (value.kind == Kind::list) {
    place = {static_cast<std::uint32_t>(value.next - data_), place.node + 1};
    out += '[';
    for (std::uint32_t element = 0; element < value.size; ++element) {
      if (element != 0) out += ',';
      if (!write(out, place, depth - 1)) return false;
    }
    out += ']';
    return true;
  }
  place.at = static_cast<std::uint32_t>(value.next - data_);
  switch (value.kind) {
    case Kind::nil: out += "null"; return true;
    case Kind::boolean: out += value.bits != 0 ? "true" : "false"; return true;
    case Kind::integer:
    case Kind::natural: append_whole(out, value); return true;
    case Kind::real: return go_json::append_double(out, value.real);
    case Kind::text:
      out += "\\\"";
      go_json::append_nested_text(out, view(value));
      out += "\\\"";
      return true;
    default: return false;
  }
}

bool Expander::write_map(std::string& out, Place& place, int depth) {
  const std::size_t base = entries_.size();
  if (!collect(place, base)) return false;
  const std::size_t end = entries_.size();
  out += '{';
  for (std::size_t index = base; index < end; ++index) {
    out += index == base ? "\\\"" : ",\\\"";
    go_json::append_nested_text(out, entries_[index].key);
    out += "\\\":";
    Place value = entries_[index].value;  // a copy: deeper maps add entries, and these move
    if (!write(out, value, depth - 1)) return false;
  }
  out += '}';
  entries_.resize(base);
  return true;
}

// Appends what `write` does and a quote; the quote alone if JSON lacks something of it.
template <class Write>
void Expander::write_text(std::string& out, Write write) {
  const std::size_t before = out.size();
  if (!write()) out.resize(before);
  entries_.clear();
  out += '"';
}

// The user's features in numeric form: without `type` and empty texts, with `uid`, numbers instead of numeric texts.
// *Source*: PAIREC 0.4.
bool Expander::write_user_features(std::string& out) {
  constexpr Place of_uid = {nowhere, 0};  // behind all others, so that it counts
  Place place = features_;
  entries_.push_back({"uid", of_uid});
  if (!collect(place, 0)) return false;
  const std::size_t end = entries_.size();
  const char* before = "{\\\"";
  for (std::size_t index = 0; index < end; ++index) {
    const std::string_view key = entries_[index].key;
    Place value = entries_[index].value;
    const bool is_uid = value.at == nowhere;
    const std::string_view text = is_uid ? uid_ : text_at(value);
    const bool is_text = is_uid || text.data() != nullptr;
    if (key == "type" || (is_text && text.empty() && !is_uid)) continue;
    out += before;
    before = ",\\\"";
    go_json::append_nested_text(out, key);
    out += "\\\":";
    double number;
    if (is_text && go_json::number_of(text, scratch_, number)) {
      if (!go_json::append_double(out, number)) return false;
    } else if (is_uid) {
      out += "\\\"";
      go_json::append_nested_text(out, uid_);
      out += "\\\"";
    } else if (!write(out, value, expand_depth_max - 1)) {
      return false;
    }
  }
  out += '}';
  return true;
}

void Expander::write_user(std::string& out) {
  out.append(head_).append(",\"user_features\":\"");
  write_text(out, [&] { return write_user_features(out); });
  out.append(",\"request_info\":\"");
  write_text(out, [&] {
    Place place = request_info_;
    return write(out, place, expand_depth_max);
  });
  out.append(",\"module\":\"user\"");
  if (!experiment_id_.empty()) append_member(out, ",\"experiment_id\":\"", experiment_id_);
  if (!fingerprint_.empty()) append_member(out, ",\"fingerprint\":\"", fingerprint_);
  out += '}';
}

void Expander::write_item(std::string& out) {
  Place next = item_;
  collect(next, 0);  // the keys are texts: open() has looked
  const auto take = [&](std::string_view name) {
    const auto found = std::lower_bound(entries_.begin(), entries_.end(), name,
                                        [](const Entry& entry, std::string_view key) { return entry.key < key; });
    if (found == entries_.end() || found->key != name) return std::string_view();
    const std::string_view text = text_at(found->value);
    entries_.erase(found);
    return text;
  };
  out.append(head_);
  append_member(out, ",\"module\":\"item\",\"item_id\":\"", take("item_id"));
  append_member(out, ",\"raw_features\":\"", take(item_texts[0]));
  append_member(out, ",\"generate_features\":\"", take(item_texts[1]));
  append_member(out, ",\"context_features\":\"", take(item_texts[2]));
  out.append(",\"item_features\":\"");
  write_text(out, [&] {
    const std::size_t end = entries_.size();
    const char* before = "{\\\"";
    for (std::size_t index = 0; index < end; ++index, before = ",\\\"") {
      out += before;
      go_json::append_nested_text(out, entries_[index].key);
      out += "\\\":";
      Place value = entries_[index].value;
      if (!write(out, value, expand_depth_max - 1)) return false;
    }
    out += end == 0 ? "{}" : "}";
    return true;
  });
  if (positions_left_ > 0) {
    const Value position = value_at(position_);
    out.append(",\"position\":");
    append_whole(out, position);
    position_ = static_cast<std::uint32_t>(position.next - data_);
    --positions_left_;
  }
  out += '}';
  item_ = next;
}

}  // namespace pairec
