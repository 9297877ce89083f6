#include "shown.hpp"

#include <cmath>
#include <exception>

#include "msgpack_write.hpp"

namespace pairec {

using msgpack::append_double;
using msgpack::append_integer;
using msgpack::append_list_head;
using msgpack::append_map_head;
using msgpack::append_natural;
using msgpack::append_text;

namespace {

constexpr double score_max = 1.7e308;  // as in the answer: what is beyond, or NaN, is 0

// The string in msgpack.
std::string packed(std::string_view text) {
  std::string out;
  append_text(out, text);
  return out;
}

template <class Value>
Value at(const void* values, std::int32_t row) noexcept {
  return static_cast<const Value*>(values)[row];
}

}  // namespace

void Shown::add_column(std::string_view name, Type type, const void* values, const char* text,
                       const std::uint64_t* offset, std::int32_t texts) {
  columns_.push_back({packed(name), type, values, text, offset, texts});
}

void Shown::add_output(std::string_view name) { outputs_.push_back(packed(name)); }

ShownItems Shown::items(const Arena& arena, const std::int32_t* positions, std::int32_t count) const {
  ShownItems items;
  items.positions.assign(positions, positions + count);
  for (const std::int32_t position : items.positions) {
    items.rows.push_back(arena.row[arena.order[position]]);
    items.scores.push_back(arena.score[arena.order[position]]);
  }
  for (std::size_t algo = 0; algo < outputs_.size(); ++algo) {
    const double* const column = arena.algo_score + algo * static_cast<std::size_t>(arena.candidates_max);
    for (const std::int32_t position : items.positions) items.algo_scores.push_back(column[arena.order[position]]);
  }
  return items;
}

bool Shown::record(const ShownHead& head, const IdMap& ids, const ShownItems& items,
                   std::string& record) const noexcept {
  const std::size_t count = items.rows.size();
  try {
    record.clear();
    record.reserve(512 + head.features.size() + count * (96 + 24 * (columns_.size() + outputs_.size())));
    append_list_head(record, 10);
    append_text(record, head.scene);
    append_text(record, head.request_id);
    append_integer(record, head.time);
    append_text(record, head.uid);
    record.append(head.features);
    append_map_head(record, 0);
    append_list_head(record, count);
    for (std::size_t item = 0; item < count; ++item) {
      if (!append_item(ids, items, item, record)) return false;
    }
    append_text(record, head.experiment_id);
    append_text(record, head.fingerprint);
    append_list_head(record, count);
    for (const std::int32_t position : items.positions) append_natural(record, static_cast<std::uint64_t>(position));
    return true;
  } catch (const std::exception&) {  // bad_alloc, length_error
    return false;
  }
}

bool Shown::append_item(const IdMap& ids, const ShownItems& items, std::size_t item, std::string& record) const {
  const std::int32_t row = items.rows[item];
  if (row < 0 || row >= ids.count) return false;
  const std::size_t head = record.size();
  std::size_t entries = 3;
  const auto integer = [&](std::int64_t value) { append_integer(record, value); };
  const auto natural = [&](std::uint64_t value) { append_natural(record, value); };
  const bool wide = columns_.size() + entries > 15;  // then there may be too many for a head of one byte
  record.append(wide ? 3 : 1, '\0');
  for (const Column& column : columns_) {
    const void* const values = column.values;
    const auto missing = [&] {
      switch (column.type) {
        case float32: return std::isnan(at<float>(values, row));
        case float64: return std::isnan(at<double>(values, row));
        case text: return at<std::int32_t>(values, row) < 0;
        default: return false;
      }
    };
    if (missing()) continue;
    ++entries;
    record.append(column.key);
    switch (column.type) {
      case int8: integer(at<std::int8_t>(values, row)); break;
      case int16: integer(at<std::int16_t>(values, row)); break;
      case int32: integer(at<std::int32_t>(values, row)); break;
      case int64: integer(at<std::int64_t>(values, row)); break;
      case uint8: natural(at<std::uint8_t>(values, row)); break;
      case uint16: natural(at<std::uint16_t>(values, row)); break;
      case uint32: natural(at<std::uint32_t>(values, row)); break;
      case uint64: natural(at<std::uint64_t>(values, row)); break;
      case float32: append_double(record, static_cast<double>(at<float>(values, row))); break;
      case float64: append_double(record, at<double>(values, row)); break;
      case boolean: record += at<std::uint8_t>(values, row) != 0 ? '\xc3' : '\xc2'; break;
      case text: {
        const std::int32_t code = at<std::int32_t>(values, row);
        if (code >= column.texts) return false;
        const std::uint64_t begin = column.offset[code];
        append_text(record, {column.text + begin, column.offset[code + 1] - begin});
      }
    }
  }
  record.append("\xa7item_id");
  append_text(record, {ids.text + ids.offset[row], ids.offset[row + 1] - ids.offset[row]});
  record.append("\xa5score");
  const double score = items.scores[item];
  append_double(record, std::fabs(score) <= score_max ? score : 0.0);
  record.append("\xab" "algo_scores");
  append_map_head(record, outputs_.size());
  for (std::size_t algo = 0; algo < outputs_.size(); ++algo) {
    record.append(outputs_[algo]);
    append_double(record, items.algo_scores[algo * items.rows.size() + item]);
  }
  if (entries <= 15) {
    record[head] = static_cast<char>(0x80 | entries);
    if (wide) record.erase(head + 1, 2);
  } else {
    if (entries >= 1u << 16) return false;
    record[head] = '\xde';
    record[head + 1] = static_cast<char>(entries >> 8);
    record[head + 2] = static_cast<char>(entries);
  }
  return true;
}

}  // namespace pairec
