// Search over a graph of neighbours (built offline by hnswlib), and the choice between it and the exact scan.
//
// Upper levels hold ever fewer nodes; from the entry at the top each is descended greedily. Then the bottom level,
// which holds every row, is walked best first. `effort` is how many nodes that walk expands, whatever k is.
#pragma once
#include <cstdint>

#include "flat.hpp"

namespace pairec {

inline constexpr std::int32_t levels_max = 16;
inline constexpr std::int32_t nodes_abreast = 4;  // expanded together; effort is rounded up to a multiple
inline constexpr std::int32_t degree_max = block_rows / nodes_abreast;  // so that their neighbours fit one batch

// One node of an upper level is `2 + upper_degree` int32: its row, its slot one level below (at level 1: its row
// again), and the slots of its neighbours in the same level, then -1.
struct Graph {
  Vectors vectors;
  const std::int32_t* links;  // [count, degree] rows, then -1; null: there is no graph, every search is exact
  std::int32_t degree;        // at most degree_max
  std::int32_t upper_degree;  // at most degree_max
  std::int32_t levels;        // upper ones
  std::int32_t entry;         // slot in the topmost level; a row if there are none
  const std::int32_t* upper[levels_max];  // [node count, 2 + upper_degree], level 1 first
};

// From this effort on every search is a scan: what a scratch needs as pool_max, if k does not need more.
inline std::int64_t effort_max(const Graph& graph) noexcept {
  return graph.links == nullptr ? 1 : graph.vectors.count / (graph.degree / 2 + 1) + 1;
}

// Writes the k rows nearest to the query, best first, equal scores by smaller row. Returns how many: min(k, allowed).
//   query [width]    prepared
//   allow [count]    only rows with a value other than 0 are returned; or null
//   allowed          how many of them there are (read only if allow is not null)
//   rows, scores [k] out
// Requires k > 0, effort > 0. k is cut to scratch.pool_max and to the rows there are. The walk keeps the
// scratch.pool_max best rows it has seen: with fewer than `effort`, it may end early, with less recall.
//
// The walk is taken where it costs less than the scan: `effort` expansions, at least 4 k / degree, times
// count / allowed under a filter (it passes through rows that are not allowed, but does not return them). A walk that
// does not find k rows gives way to the scan.
std::int32_t search(const Graph& graph, const float* query, std::int32_t k, std::int64_t effort,
                    const std::uint8_t* allow, std::int32_t allowed, Scratch& scratch, std::int32_t* rows,
                    float* scores) noexcept;

}  // namespace pairec
