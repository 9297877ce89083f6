// The walk over a graph of neighbours (built offline by hnswlib) to the rows nearest to a query.
//
// It goes by codes of 8 bits; the rows it ends with are scored once more by 16 (rows.hpp). Best first: of the rows
// seen, the nearest not yet expanded is expanded, that is, the rows it links to are scored. A score is larger for a
// nearer row: the inner product (for cosine, of vectors of length 1), or the negated squared distance.
//
// The same rows and bits at every level of SIMD.
#pragma once
#include <algorithm>
#include <cstdint>

#include "blocks.hpp"
#include "rows.hpp"

namespace pairec {

inline constexpr std::int32_t degree_max = 64;
inline constexpr std::int32_t entries_max = 4096;  // scanned at the start of every walk, for 1.5 ns each
inline constexpr std::int32_t buckets = 512;       // of scores; 256 and 1024 are slower

struct Graph {
  RowKernels kernels;
  const std::int8_t* high;          // [count, width], on a 64-byte line; width a multiple of 32
  const std::int8_t* low;           // [count, width]
  const std::int32_t* links;        // [count, degree] rows, then -1; on a 64-byte line
  const std::int32_t* entry_rows;   // [entries] where a walk may begin; see below
  const std::int8_t* entry_high;    // [entries, width] their codes once more, side by side
  const float* square;              // l2: [count] the square of the length of a row; otherwise null
  const float* entry_square;        // l2: [entries]
  float square_max;                 // l2: at least every square; all of them finite, none negative
  float scale;                      // value = scale * (high + low / 256); positive, finite
  std::int32_t count, width, degree, entries;  // at least 1; width to 65,536; the others to their maxima
};

// Which rows should be entries: those of the graph's level 2 and above; under inner product, if lengths are uneven, the
// longest rows, which are near to most queries and which the graph alone is slow to lead to.

struct Effort {
  std::int32_t expansions;  // the walk ends after so many, at least 1; fewer than k will do
  std::int32_t nearest;     // or when no row left is nearer than the worst of so many best; 0: it does not end so
};

// A row seen when it was near enough to be kept or expanded.
struct Seen {
  std::int32_t row, score;
  std::int32_t next;  // in its bucket, or -1
};

// The most rows a walk of so many expansions keeps.
inline std::int64_t seen_max(const Graph& graph, std::int64_t expansions) noexcept {
  return std::min<std::int64_t>(graph.count, expansions * graph.degree + graph.entries);
}

inline constexpr std::int64_t visited_words(std::int64_t count) noexcept { return count / 64 + 1; }

// All memory a walk needs, borrowed. What it holds before or after does not matter.
struct WalkScratch {
  std::int64_t seen_max;
  Seen* seen;              // [seen_max]
  std::uint64_t* keys;     // [seen_max]
  std::int32_t* rows;      // [max(seen_max, entries_max)]
  float* dots;             // [seen_max]
  std::int32_t* scores;    // [entries_max]
  std::uint64_t* visited;  // [visited_words(count)]
  std::int8_t* codes;      // [width]
};

// Writes the k nearest of the rows found, best first, equal scores by smaller row. Returns how many: k, or fewer if the
// walk came by fewer (that are allowed).
//   query [width]    finite, zeros beyond dim
//   allow            rows that may be returned, places being rows; or null
//   rows, scores [k] out
// Requires k > 0, scratch.seen_max >= seen_max(graph, effort.expansions). Under a filter the walk passes through rows
// that are not allowed; among the `nearest` best they do not count. Allocates nothing.
std::int32_t walk(const Graph& graph, const float* query, std::int32_t k, Effort effort,
                  const Places* allow, WalkScratch& scratch, std::int32_t* rows, float* scores) noexcept;

}  // namespace pairec
