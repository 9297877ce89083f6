// The body of an ordinary callback into the record that the log keeps, without an object for each value.
//
// Ordinary is what most callbacks are: exact keys, each once; items with an `item_id`; features that are scalars or lists
// of texts; no complex features. Everything else, and everything that is wrong, is for the slow way, which is
// messages.decode and callback.encode: the bytes of the record are the same (test_callback_body.py).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "msgpack_write.hpp"

namespace pairec {

class CallbackBody {
 public:
  // Reads a body. False if it is not ordinary, or memory ran out: then nothing else may be asked for.
  bool read(const char* data, std::size_t size) noexcept;

  // Texts in UTF-8, none of them empty.
  std::string_view uid() const noexcept { return text(fields_[uid_at]); }
  std::string_view request_id() const noexcept { return text(fields_[request_id_at]); }
  std::string_view scene() const noexcept { return text(fields_[scene_at]); }
  std::size_t items() const noexcept { return ends_.size(); }

  // Replaces `record` by the msgpack of callback.Record with the first `kept` items, at positions 0, 1, ...
  // Requires kept <= items(). False if memory ran out.
  bool record(std::int64_t time, std::string_view fingerprint, std::size_t kept, std::string& record) const noexcept;

 private:
  enum Field { uid_at, request_id_at, scene_at, features_at, request_info_at, items_at, complex_at, debug_at, fields };
  struct Piece {
    std::size_t begin = 0, end = 0;  // in packed_
  };
  struct Key {
    std::size_t begin, size;  // in packed_, without its head
  };

  bool parse();
  bool parse_field(Field field);
  bool parse_items();
  bool parse_item();
  bool parse_id();
  bool parse_features();
  bool parse_value(int depth);
  bool parse_map(int depth);
  bool parse_list(int depth);
  bool parse_texts();
  bool parse_number();
  bool parse_text(Key& text);
  bool parse_key(std::uint64_t& seen, std::size_t first, Key& key);
  bool parse_word(std::string_view word, char packed);
  char next() noexcept;
  bool take(char character) noexcept;
  template <class Entry>
  bool parse_entries(char close, Entry entry);
  bool write_count(std::size_t at, std::size_t count, bool is_map);
  std::string_view text(Piece piece) const noexcept;

  const char* at_ = nullptr;
  const char* end_ = nullptr;
  msgpack::Bytes packed_;  // the msgpack of what was read, in the order of the body
  std::string plain_;      // a text without its escapes
  Piece fields_[fields];
  std::vector<std::size_t> ends_;  // of each item in packed_
  std::vector<Piece> empty_;       // features that are empty texts
  std::vector<Key> keys_;          // of the maps that are being read, the innermost last
};

}  // namespace pairec
