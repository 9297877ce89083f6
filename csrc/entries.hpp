// Lists of items as PAI-Rec stores them in one text: `id,id:label,id:label:score`.
#pragma once
#include <cstdint>

namespace pairec {

// Where an entry's parts lie in the text, bytes. `first` and `last` are the parts behind the first and the second colon
// as numbers, NaN where there is none. Odd: a part that the plain decimal grammar cannot read, though another might.
struct Entry {
  std::uint32_t id, id_size;
  std::uint32_t label, label_size;  // behind the first colon, up to the second
  std::uint32_t tail, tail_size;    // behind the second colon
  double first, last;
  std::uint8_t colons;  // 255: more
  bool odd_first, odd_last;
};

// Splits `text` [size] at `separator` into at most `most` `entries`; entries without an id are left out, of an id of
// the text `null` too if `skip_null`. Returns how many were found.
std::int32_t split_entries(const char* text, std::uint32_t size, char separator, bool skip_null, Entry* entries,
                           std::int32_t most) noexcept;

// Numbers the distinct labels that are not empty by first appearance: `code` [count], -1 for an empty one; `found` [most]
// takes an entry of each. Labels beyond `most` distinct ones count as empty. Returns how many are distinct.
std::int32_t number_labels(const char* text, const Entry* entries, std::int32_t count, std::int32_t* code,
                           std::int32_t* found, std::int32_t most) noexcept;

}  // namespace pairec
