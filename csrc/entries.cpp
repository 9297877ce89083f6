#include "entries.hpp"

#include <charconv>
#include <cstring>
#include <limits>

namespace pairec {

namespace {

constexpr double NONE = std::numeric_limits<double>::quiet_NaN();

// `+-digits.digits e+-digits` and nothing else: what from_chars reads, without its names of infinities.
double number(const char* at, const char* end, bool& odd) noexcept {
  odd = false;
  if (at == end) return NONE;
  odd = true;
  if (*at == '+') {
    ++at;
    if (at == end || *at == '-' || *at == '+') return NONE;
  }
  const char* digits = at + (at != end && *at == '-');
  if (digits == end || (*digits != '.' && (*digits < '0' || *digits > '9'))) return NONE;
  double value = 0.0;
  const auto read = std::from_chars(at, end, value, std::chars_format::general);
  if (read.ec != std::errc() || read.ptr != end) return NONE;
  odd = false;
  return value;
}

Entry entry_of(const char* text, const char* begin, const char* end) noexcept {
  Entry entry{};
  const auto place = [text](const char* at) { return static_cast<std::uint32_t>(at - text); };
  const char* colon = nullptr;
  const char* second = nullptr;
  for (const char* at = begin; at != end; ++at) {
    if (*at != ':') continue;
    if (entry.colons == 0) colon = at;
    if (entry.colons == 1) second = at;
    entry.colons += entry.colons < 255;
  }
  const char* id_end = colon != nullptr ? colon : end;
  const char* label = colon != nullptr ? colon + 1 : end;
  const char* label_end = second != nullptr ? second : end;
  const char* tail = second != nullptr ? second + 1 : end;
  entry.id = place(begin), entry.id_size = place(id_end) - place(begin);
  entry.label = place(label), entry.label_size = place(label_end) - place(label);
  entry.tail = place(tail), entry.tail_size = place(end) - place(tail);
  entry.first = number(label, label_end, entry.odd_first);
  entry.last = number(tail, end, entry.odd_last);
  return entry;
}

}  // namespace

std::int32_t split_entries(const char* text, std::uint32_t size, char separator, bool skip_null, Entry* entries,
                           std::int32_t most) noexcept {
  const char* const end = text + size;
  std::int32_t count = 0;
  for (const char* begin = text; begin < end && count < most;) {
    const auto* found = static_cast<const char*>(std::memchr(begin, separator, static_cast<std::size_t>(end - begin)));
    const char* stop = found != nullptr ? found : end;
    const Entry entry = entry_of(text, begin, stop);
    const bool null = entry.id_size == 4 && std::memcmp(text + entry.id, "null", 4) == 0;
    if (entry.id_size != 0 && !(skip_null && null)) entries[count++] = entry;
    begin = stop + 1;
  }
  return count;
}

std::int32_t number_labels(const char* text, const Entry* entries, std::int32_t count, std::int32_t* code,
                           std::int32_t* found, std::int32_t most) noexcept {
  std::int32_t distinct = 0, last = -1;
  for (std::int32_t i = 0; i < count; ++i) {
    const Entry& entry = entries[i];
    const auto same = [&](std::int32_t other) {
      const Entry& known = entries[found[other]];
      return known.label_size == entry.label_size &&
             std::memcmp(text + known.label, text + entry.label, entry.label_size) == 0;
    };
    code[i] = -1;
    if (entry.label_size == 0) continue;
    if (last < 0 || !same(last)) {  // neighbours mostly share theirs
      for (last = 0; last < distinct && !same(last);) ++last;
      if (last == distinct) {
        if (distinct == most) {
          last = -1;
          continue;
        }
        found[distinct++] = i;
      }
    }
    code[i] = last;
  }
  return distinct;
}

}  // namespace pairec
