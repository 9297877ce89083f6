// A record of the log (msgpack of callback.Record: an array) into the rows that its readers get: JSON texts, first the
// user's, then one an item. *Source*: PAIREC 9.4. Behind PAI-Rec's columns the user's row has `experiment_id` and
// `fingerprint` where they are not empty, and an item's its `position` where there is one. Of a gap (ring.hpp), where the
// log refused some: one row, `module` "gap".
//
// A list of two is a record whose rows are ready: the key of its messages, and the rows, each the text of a JSON object.
//
// The bytes may be anybody's: nothing is believed that was not checked, any depth is stepped over without recursion.
// What a JSON text cannot hold (NaN, infinities, bytes, keys that are no texts, nesting beyond expand_depth_max) makes
// that text "", as it does in PAI-Rec; only what is no record at all is refused.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "msgpack.hpp"

namespace pairec {

// A level takes some 320 bytes of the stack when it is written, so all of them fit a small thread's.
inline constexpr int expand_depth_max = 1000;
// Every row repeats the request's ids. Ids of half a megabyte beside ten thousand items would fill the memory.
inline constexpr std::uint64_t expand_repeated_bytes_max = 1u << 28;

// Keeps its buffers: once it has seen a record of some size, it allocates nothing for others that are not larger.
class Expander {
 public:
  // Reads and checks a record. `data` must live while its rows and views are asked for. False if it is no record (or
  // memory ran out): then there are no rows.
  bool open(const unsigned char* data, std::size_t size) noexcept;

  // Of the record opened: how many rows, and the key of its messages.
  std::size_t rows() const noexcept { return rows_; }
  std::string_view uid() const noexcept { return uid_; }

  // Appends the next row to `text`. False after the last; before it only if memory ran out, `text` is as it was then.
  bool next(std::string& text) noexcept;

  // All of a record at once: replaces `text` by its rows, one behind the other, and `ends` by where each ends.
  bool expand(const unsigned char* data, std::size_t size, std::string& text, std::vector<std::size_t>& ends) noexcept;

 private:
  // Of each list and map, in the order of their heads.
  struct Node {
    std::uint32_t end;     // where in the record it ends
    std::uint32_t after;   // the first node behind all that are inside it
    std::uint32_t parent;  // while it is scanned
    std::uint32_t left;    // likewise: elements yet to come
  };
  // A value, and the first node at or behind it.
  struct Place {
    std::uint32_t at, node;
  };
  struct Entry {
    std::string_view key;
    Place value;
  };

  bool parse(std::size_t size);
  bool parse_gap(msgpack::Value map);
  bool parse_ready(msgpack::Value root);
  bool scan(std::uint32_t& at, bool checked);
  bool check_keys(Place map, bool wants_item_id) const;
  msgpack::Value value_at(std::uint32_t at) const noexcept;
  void skip(Place& place) const noexcept;
  bool collect(Place& map, std::size_t base);
  void order(std::size_t base);
  std::string_view text_at(Place place) const noexcept;
  bool write(std::string& out, Place& place, int depth);
  bool write_map(std::string& out, Place& place, int depth);
  template <class Write>
  void write_text(std::string& out, Write write);
  bool write_user_features(std::string& out);
  void write_user(std::string& out);
  void write_ready(std::string& out);
  void write_item(std::string& out);

  const unsigned char* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::size_t rows_ = 0, row_ = 0;
  bool is_gap_ = false, is_ready_ = false;
  std::string_view uid_;
  Place features_ = {}, request_info_ = {}, item_ = {};
  std::string_view experiment_id_, fingerprint_;
  std::uint32_t position_ = 0, positions_left_ = 0;  // where the next item's is, and how many there are
  std::vector<Node> nodes_;
  std::vector<Entry> entries_;  // of the maps that are being written, the innermost last
  std::string head_;            // what all rows begin with
  std::string scratch_;
};

}  // namespace pairec
