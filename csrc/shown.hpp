// What a recommendation has shown, as the record that the log keeps of it: what callback.encode makes of the items'
// properties, without an object for each value.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "arena.hpp"
#include "idmap.hpp"

namespace pairec {

// What is said of a recommendation as a whole. `features` is a map in msgpack.
struct ShownHead {
  std::string_view scene, request_id, uid, features, experiment_id, fingerprint;
  std::int64_t time;
};

// Items of an answer, taken out of an arena: row i is at positions[i] of the answer.
struct ShownItems {
  std::vector<std::int32_t> positions, rows;
  std::vector<double> scores, algo_scores;  // algo_scores [outputs, items]
};

class Shown {
 public:
  enum Type : std::uint8_t { int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64, boolean, text };

  // Borrows all but the names. `values` has a value for each row of `ids`: NaN is missing; of type text they are int32
  // codes into `texts` texts, text[offset[code] .. offset[code + 1]), -1 missing.
  void add_column(std::string_view name, Type type, const void* values, const char* text = nullptr,
                  const std::uint64_t* offset = nullptr, std::int32_t texts = 0);
  void add_output(std::string_view name);

  // What is to be told of the candidates at `positions` [count] of arena.order. Throws std::bad_alloc.
  //   Requires positions in [0, arena.order_count), and arena.algos >= the outputs.
  ShownItems items(const Arena& arena, const std::int32_t* positions, std::int32_t count) const;

  // Replaces `record` by the msgpack of callback.Record. Each item has the columns that are not missing, in their order,
  // its `item_id`, `score`, and of each output the `algo_scores`. False if one is not among the rows of `ids`, a code not
  // among the texts, or memory ran out.
  bool record(const ShownHead& head, const IdMap& ids, const ShownItems& items, std::string& record) const noexcept;

  std::size_t outputs() const noexcept { return outputs_.size(); }

 private:
  struct Column {
    std::string key;  // the name in msgpack
    Type type;
    const void* values;
    const char* text;
    const std::uint64_t* offset;
    std::int32_t texts;
  };

  bool append_item(const IdMap& ids, const ShownItems& items, std::size_t item, std::string& record) const;

  std::vector<Column> columns_;
  std::vector<std::string> outputs_;  // names in msgpack
};

}  // namespace pairec
