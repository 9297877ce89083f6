// A vector index of any kind: the choice of how to search it, and what was added and removed since it was built.
#pragma once
#include <cstdint>

#include "flat.hpp"
#include "hnsw.hpp"
#include "partition.hpp"

namespace pairec {

enum class Kind : std::int32_t { flat = 0, hnsw = 1, partition = 2 };

// How a search came by its rows.
enum class Strategy : std::int32_t {
  none = 0,        // nothing counts
  scan = 1,        // of all vectors
  list = 2,        // of the few that are allowed
  partitions = 3,  // of the lists that promise most
  walk = 4,        // over the graph
  excerpt = 5,     // of those lists, in an excerpt of what is allowed
};

// Vectors added since, as a flat index with room: written by one thread, read by all. A row is seen once its bit in
// `live` is set, after everything else of it.
struct Fresh {
  Flat flat;             // of `capacity` rows; flat.count: so many, to whole blocks, may be live
  std::int32_t first;    // the number of the first row
  std::int32_t capacity;
  std::uint16_t* live;   // [blocks]
};

struct Index {
  Kind kind;
  std::int32_t count, dim, width;
  bool normalise;                  // cosine
  Flat flat;
  Partition partition;
  Graph graph;
  const std::int32_t* place;       // [count] of each row; null: a place is its row
  bool is_whole;                   // nothing was removed
  const std::uint16_t* live;       // [blocks] places that hold a row that was not removed
  Fresh fresh;
};

// Which rows may be found, beside being live.
struct Allow {
  bool is_all;
  const std::uint16_t* lanes;      // [blocks of places]; null if all are allowed, or so few that they are always listed
  const std::int32_t* listed;      // the same places, ascending, where they are few; else null
  const Excerpt* excerpt;          // of the same places, where a partition index has one; else null
  std::int32_t count;              // how many are allowed
  const std::uint16_t* fresh;      // [blocks] of the rows added since; null: none, unless all are allowed
  const std::int32_t* deny;        // [deny_count] rows that may not be found, each that of a vector
  std::int32_t deny_count;
};

struct Work {
  std::int64_t effort;             // vectors to scan, or nodes to expand, for this k and all rows allowed
  float growth;                    // of the effort with k: 2^x k needs 2^(growth x) times as much
  bool adaptive;                   // recall mode
};

// How many nodes a search of a graph expands: of the rows it passes, as many are allowed as of all. 0 if it looks up
// what is allowed instead, or for another kind. In recall mode, at most so many.
std::int64_t expansions(const Index& index, const Work& work, const Allow& allow) noexcept;

// Of a graph, `walk.seen_max` is at least what seen_max says of those expansions.
struct SearchScratch {
  Scratch scratch;
  WalkScratch walk;
  std::uint16_t* deny;             // [blocks of places + blocks of fresh + 1] zero
  std::int32_t* rows;              // [k]
  float* scores;                   // [k]
};

// Writes the best k rows, best first, equal scores by smaller row. Returns how many: k, or all that are live and allowed.
//   query [width]    prepared
//   rows, scores [k] out
std::int32_t search(const Index& index, const float* query, std::int32_t k, const Work& work, const Allow& allow,
                    SearchScratch& scratch, std::int32_t* rows, float* scores, Strategy* strategy) noexcept;

// Adds a prepared vector [width]. One thread at a time; room is the caller's to check.
void append(Index& index, const float* vector) noexcept;

}  // namespace pairec
