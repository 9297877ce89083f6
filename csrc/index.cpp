#include "index.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <functional>

namespace pairec {
namespace {

using std::int32_t;
using std::int64_t;
using std::size_t;

// What looking a listed row up costs, in rows of a scan, and in expansions of a walk: measured, bench/recall.
constexpr int64_t scanned_for_a_listed = 12, listed_for_an_expansion = 12;

// The bit of a row, or of one added since, in the scratch's set of denied ones.
std::uint16_t* deny_bits(const Index& index, SearchScratch& scratch, int32_t row, int32_t* place) noexcept {
  const int32_t blocks = index.kind == Kind::partition ? index.partition.block[index.partition.lists]
                                                       : (index.count + block_lanes - 1) / block_lanes;
  if (row >= index.count) {
    *place = row - index.count;
    return scratch.deny + blocks;
  }
  *place = index.place != nullptr ? index.place[row] : row;
  return scratch.deny;
}

void deny(const Index& index, const Allow& allow, SearchScratch& scratch, bool is_denied) noexcept {
  for (int32_t i = 0; i < allow.deny_count; ++i) {
    int32_t place;
    std::uint16_t* bits = deny_bits(index, scratch, allow.deny[i], &place);
    const auto bit = static_cast<std::uint16_t>(1u << place % block_lanes);
    if (is_denied)
      bits[place / block_lanes] |= bit;
    else
      bits[place / block_lanes] = 0;
  }
}

// The k best of a graph's rows that count, all of them scored by 16 bits.
int32_t look_up(const Graph& graph, const float* query, int32_t k, const Places& places,
                const int32_t* listed, int32_t listed_count, Scratch& s, int32_t* rows, float* scores) noexcept {
  float square = 0.0f;
  for (int32_t lane = 0; graph.square != nullptr && lane < graph.width; ++lane) square += query[lane] * query[lane];
  const float twice = graph.square != nullptr ? 2.0f : 1.0f;
  const int32_t total = listed != nullptr ? listed_count : graph.count, room = best_room(k, s);
  auto* dots = reinterpret_cast<float*>(s.sums);
  int32_t kept = 0;
  for (int32_t i = 0; i < total;) {
    int32_t count = 0;
    for (; i < total && count < rows_abreast; ++i) {
      s.places[count] = listed != nullptr ? listed[i] : i;
      count += places.has(s.places[count]);
    }
    graph.kernels.both(query, graph.high, graph.low, graph.width, graph.width, s.places, count, dots);
    for (int32_t at = 0; at < count; ++at) {
      float score = dots[at] * (twice * graph.scale * 0x1p-8f);
      if (graph.square != nullptr) score = std::min(score - graph.square[s.places[at]] - square, 0.0f);
      s.best[kept++] = best_of(score, s.places[at]);
    }
    if (kept <= room - rows_abreast) continue;
    std::nth_element(s.best, s.best + k - 1, s.best + kept, std::greater<>());
    kept = k;
  }
  return write_best(s.best, s.spare, kept, k, rows, scores);
}

int32_t search_flat(const Index& index, const float* query, int32_t k, const Allow& allow, const Places& places,
                    Scratch& scratch, int32_t* rows, float* scores, Strategy* strategy) noexcept {
  // A row looked up costs what some five scanned ones do.
  const bool few = allow.listed != nullptr && (allow.lanes == nullptr || allow.count < index.count / 5);
  *strategy = few ? Strategy::list : Strategy::scan;
  return flat_search(index.flat, query, k, places, few ? allow.listed : nullptr, allow.count, scratch, rows, scores);
}

int32_t search_partition(const Index& index, const float* query, int32_t k, const Work& work, const Allow& allow,
                         const Places& places, Scratch& scratch, int32_t* rows, float* scores,
                         Strategy* strategy) noexcept {
  // The k best of a part are the best of more rows of all.
  const double share = allow.is_all ? 1.0 : static_cast<double>(allow.count) / index.count;
  auto effort = static_cast<int64_t>(static_cast<double>(work.effort) * std::pow(share, -work.growth));
  const Places left{index.is_whole ? nullptr : places.live, nullptr, places.deny};  // what is listed is allowed
  const bool cheaper = allow.excerpt != nullptr
                           ? allow.count <= partition_keep(index.partition, k)  // so that all would be kept
                           : allow.count * scanned_for_a_listed <= std::min<int64_t>(effort, index.count);
  if (allow.listed != nullptr && (allow.lanes == nullptr || cheaper)) {
    *strategy = Strategy::list;
    return partition_search(index.partition, query, k, 0, false, left, nullptr, allow.listed, allow.count, scratch,
                            rows, scores);
  }
  *strategy = allow.excerpt != nullptr ? Strategy::excerpt : Strategy::partitions;
  // Lists end with places that hold no row: all of them are more than all rows.
  const int64_t all = int64_t{block_lanes} * index.partition.block[index.partition.lists];
  // An excerpt is scanned whole where its rows would have been looked up one by one.
  const bool is_short = allow.excerpt != nullptr && allow.count * scanned_for_a_listed <= effort;
  if (effort >= index.count || is_short) effort = all;
  // Less than what k rows fill comes by fewer, and would be done again.
  effort = std::max(effort, static_cast<int64_t>(k / share * (static_cast<double>(all) / index.count)));
  for (;; effort = 8 * effort) {
    effort = std::min(effort, all);
    const int32_t found = partition_search(index.partition, query, k, effort, work.adaptive,
                                           allow.excerpt != nullptr ? left : places, allow.excerpt, nullptr, 0, scratch,
                                           rows, scores);
    if (found == k || effort == all) return found;
  }
}

int32_t search_graph(const Index& index, const float* query, int32_t k, const Work& work, const Allow& allow,
                     const Places& places, SearchScratch& scratch, int32_t* rows, float* scores,
                     Strategy* strategy) noexcept {
  const int64_t effort = expansions(index, work, allow);
  const bool all = index.is_whole && places.allow == nullptr && places.deny == nullptr;
  if (effort > 0) {
    const Effort of{static_cast<int32_t>(effort), work.adaptive ? k : 0};
    *strategy = Strategy::walk;
    const int32_t found = walk(index.graph, query, k, of, all ? nullptr : &places, scratch.walk, rows, scores);
    if (found == k) return found;
  }
  *strategy = allow.listed != nullptr ? Strategy::list : Strategy::scan;
  return look_up(index.graph, query, k, places, allow.listed, allow.count, scratch.scratch, rows, scores);
}

}  // namespace

std::int64_t expansions(const Index& index, const Work& work, const Allow& allow) noexcept {
  if (index.kind != Kind::hnsw || allow.count == 0) return 0;
  // Of the rows a walk passes, as many are allowed as of all.
  const int64_t count = index.count, looked_up = allow.is_all ? count : allow.count;
  const int64_t effort = std::min((work.effort * count + looked_up - 1) / looked_up, count);
  const bool few = looked_up <= listed_for_an_expansion * effort && (allow.is_all || allow.listed != nullptr);
  if (few || (!allow.is_all && allow.lanes == nullptr)) return 0;
  return work.adaptive ? std::min(4 * effort, count) : effort;
}

std::int32_t search(const Index& index, const float* query, std::int32_t k, const Work& work, const Allow& allow,
                    SearchScratch& scratch, std::int32_t* rows, float* scores, Strategy* strategy) noexcept {
  *strategy = Strategy::none;
  Scratch& s = scratch.scratch;
  const std::uint16_t* denied = allow.deny_count > 0 ? scratch.deny : nullptr;
  deny(index, allow, scratch, true);
  const Places places{index.live, allow.lanes, denied};
  int32_t found = 0;
  if (allow.count > 0) {
    switch (index.kind) {
      case Kind::flat:
        found = search_flat(index, query, k, allow, places, s, rows, scores, strategy);
        break;
      case Kind::partition:
        found = search_partition(index, query, k, work, allow, places, s, rows, scores, strategy);
        break;
      case Kind::hnsw:
        found = search_graph(index, query, k, work, allow, places, scratch, rows, scores, strategy);
        break;
    }
  }
  const int32_t added = __atomic_load_n(&index.fresh.flat.count, __ATOMIC_ACQUIRE);
  if (added > 0 && (allow.is_all || allow.fresh != nullptr)) {
    int32_t none;
    Flat flat = index.fresh.flat;
    flat.count = added;
    // Rows that come meanwhile do not count: they may be farther from their codes than was said of all before them.
    std::uint16_t* later = deny_bits(index, scratch, index.count, &none);
    later[added / block_lanes] |= static_cast<std::uint16_t>(0xFFFF << added % block_lanes);
    const Places fresh{index.fresh.live, allow.fresh, later};
    const int32_t more = flat_search(flat, query, k, fresh, nullptr, 0, s, scratch.rows, scratch.scores);
    for (int32_t i = 0; i < found; ++i) s.best[i] = best_of(scores[i], rows[i]);
    for (int32_t i = 0; i < more; ++i)
      s.best[found + i] = best_of(scratch.scores[i], index.fresh.first + scratch.rows[i]);
    found = write_best(s.best, s.spare, found + more, k, rows, scores);
    later[added / block_lanes] = 0;
  }
  deny(index, allow, scratch, false);
  return found;
}

void append(Index& index, const float* vector) noexcept {
  Flat& flat = index.fresh.flat;
  const int32_t row = flat.count, block = row / block_lanes, lane = row % block_lanes;
  auto* vectors = const_cast<float*>(flat.vectors);
  auto* codes = const_cast<std::uint8_t*>(flat.codes);
  double square = 0.0, missed = 0.0;
  float most = 0.0f;
  for (int32_t i = 0; i < flat.width; ++i) most = std::max(most, std::fabs(vector[i]));
  const float scale = most > 0.0f ? std::max(most / 127.0f, scale_min) : 0.0f;
  const_cast<float*>(flat.scale)[row] = scale;
  for (int32_t i = 0; i < flat.width; ++i) {
    const float value = vector[i];
    vectors[static_cast<size_t>(row) * flat.width + i] = value;
    const float code = std::min(std::max(scale > 0.0f ? std::nearbyint(value / scale) : 0.0f, -127.0f), 127.0f);
    if (i < 4 * flat.quads)
      codes[(static_cast<size_t>(block) * flat.quads + i / 4) * 64 + lane * 4 + i % 4] =
          static_cast<std::uint8_t>(static_cast<int32_t>(code) + 128);
    const double off = value - static_cast<double>(code) * scale;
    square += static_cast<double>(value) * value;
    missed += off * off;
  }
  if (flat.bias != nullptr) const_cast<float*>(flat.bias)[row] = static_cast<float>(-square);
  // Bounds first, then the row, then that there is one.
  if (scale > 0.0f) {
    flat.error = std::max(flat.error, std::nextafter(static_cast<float>(std::sqrt(missed) / scale), INFINITY));
    flat.span = std::max(flat.span, std::nextafter(static_cast<float>(std::sqrt(square) / scale), INFINITY));
  }
  flat.longest = std::max(flat.longest, std::nextafter(static_cast<float>(std::sqrt(square)), INFINITY));
  __atomic_fetch_or(index.fresh.live + block, static_cast<std::uint16_t>(1u << lane), __ATOMIC_RELEASE);
  __atomic_store_n(&flat.count, row + 1, __ATOMIC_RELEASE);
}

}  // namespace pairec
