#include "partition.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace pairec {
namespace {

using std::int32_t;
using std::int64_t;
using std::size_t;

constexpr int32_t lists_ahead = 2;  // whose codes are asked for; 1 was slower, 4 no faster

// A query against a partition, and what the passes share.
struct Search {
  const Partition& p;
  const float* query;
  const Codes codes;
  const float twice;   // 2 for squared distances
  const float square;  // of the query's length
  const Places& places;
  Scratch& s;
  Pool pool;
  const int32_t keep;
  int32_t floor = INT32_MIN;

  void score_lists(float reach) noexcept;
  int32_t choose(Pool& lists, int64_t vectors, int64_t soon) const noexcept;
  int32_t choose_more(int32_t chosen, int32_t k, int64_t vectors) noexcept;
  void scan(int32_t chosen) noexcept;
  void look_up(const int32_t* listed, int32_t count) noexcept;
  void bases(int32_t chosen) noexcept;
  void bases_of_pool() noexcept;
  void narrow(int32_t rows) noexcept;
  void score8(int32_t first) noexcept;
  int32_t finish(int32_t k, int32_t* rows, float* scores) noexcept;
};

// Of every list: in s.base its score by codes, in s.list_key that plus `reach` deviations.
void Search::score_lists(float reach) noexcept {
  p.blocks.dot8(codes, p.centroid_codes, (p.lists + block_lanes - 1) / block_lanes, s.list);
  const float unit = twice * codes.unit * p.centroid_scale, deviations = reach * twice * std::sqrt(square);
  for (int32_t i = 0; i < p.lists; ++i) {
    s.base[i] = static_cast<float>(s.list[i]) * unit;
    s.list_key[i] = ordered(s.base[i] + (deviations * p.spread[i] - p.square[i]));
    s.list[i] = i;
  }
}

// Lists to scan, in s.order[0 .. return): those of the highest keys that hold `vectors` rows. Those that hold the first
// `soon` come first, for they raise the floor; the others follow as they lie in memory, which is a quarter faster than
// in order of keys.
int32_t Search::choose(Pool& lists, int64_t vectors, int64_t soon) const noexcept {
  const int64_t all = p.block[p.lists];
  const auto wanted = static_cast<int32_t>(std::min(vectors / block_lanes + 1, all));
  p.blocks.narrow(lists, p.blocks.floor_of(lists, p.size, wanted, wanted / 32));
  // Sizes lie by list number, the lists that are left do not: they count as if all were alike.
  const int64_t first = (soon / block_lanes + 1) * lists.count / wanted + 1;
  const auto least = static_cast<int32_t>(std::min<int64_t>(first, lists.count));
  const int32_t high = p.blocks.floor_of(lists, nullptr, least, least / 4);
  int32_t chosen = 0;
  for (const bool is_first : {true, false})
    for (int32_t i = 0; i < lists.count; ++i) {
      s.order[chosen] = lists.places[i];
      chosen += (lists.keys[i] >= high) == is_first;
    }
  return chosen;
}

// More lists, after `chosen` were scanned: those that may hold one of the k best, at most so many `vectors`.
int32_t Search::choose_more(int32_t chosen, int32_t k, int64_t vectors) noexcept {
  score_lists(p.stop);
  for (int32_t i = 0; i < chosen; ++i) s.list_key[s.order[i]] = INT32_MIN;
  Pool lists{s.list_key, s.list, p.lists, p.lists};
  const auto wanted = static_cast<int32_t>(std::min<int64_t>(vectors / block_lanes + 1, p.block[p.lists]));
  int32_t least = std::max(p.blocks.floor_of(lists, p.size, wanted, wanted / 32), INT32_MIN + 1);
  if (pool.count >= k) least = std::max(least, p.blocks.floor_of(pool, nullptr, k, 0));
  p.blocks.narrow(lists, least);
  std::copy(lists.places, lists.places + lists.count, s.order);
  return lists.count;
}

// Scores of the chosen lists, in float, to s.base.
void Search::bases(int32_t chosen) noexcept {
  auto* dots = reinterpret_cast<float*>(s.sums);
  for (int32_t first = 0; first < chosen; first += s.room) {
    const int32_t some = std::min(s.room, chosen - first);
    p.scorer.rows(query, p.centroids, p.width, s.order + first, some, dots);
    for (int32_t i = 0; i < some; ++i) s.base[s.order[first + i]] = twice * dots[i];
  }
}

// The same for the lists of the pool's rows, those of a list side by side.
void Search::bases_of_pool() noexcept {
  int32_t lists = 0;
  for (int32_t i = 0; i < pool.count; ++i) {
    const int32_t list = p.list[pool.places[i] / block_lanes];
    if (lists == 0 || s.order[lists - 1] != list) s.order[lists++] = list;
  }
  bases(lists);
}

void Search::narrow(int32_t rows) noexcept {
  if (pool.count <= rows) return;
  floor = p.blocks.floor_of(pool, nullptr, rows, rows / 16);
  p.blocks.narrow(pool, floor);
  // More than `rows` only if their scores are equal; the smaller places are as good as the others.
  pool.count = std::min(pool.count, rows + rows / 16);
}

// 4 bits: the rows of the chosen lists.
void Search::scan(int32_t chosen) noexcept {
  const size_t bytes = static_cast<size_t>(p.quads) * 32;
  std::uint16_t room[run_blocks];
  for (int32_t i = 0; i < chosen; ++i) {
    const int32_t list = s.order[i], end = p.block[list + 1];
    const std::uint8_t* ahead = p.codes + p.block[s.order[std::min(i + lists_ahead, chosen - 1)]] * bytes;
    Run run{};
    run.scale = twice * codes.unit * p.scale4[list];
    run.base = s.base[list] - 7.5f * run.scale * static_cast<float>(codes.sum);
    for (int32_t block = p.block[list]; block < end; block += run_blocks) {
      run.blocks = std::min(run_blocks, end - block);
      run.codes = p.codes + block * bytes;
      run.lanes = places.lanes(block, run.blocks, room);
      run.place = block * block_lanes;
      run.bias = p.bias != nullptr ? p.bias + block * block_lanes : nullptr;
      run.floor = floor;
      run.ahead = ahead;
      ahead += run.blocks * bytes;
      p.blocks.scan4(codes, run, pool);
      if (pool.count > pool.capacity - run_room) narrow(keep);
    }
  }
  narrow(keep);
}

// 8 bits, of the pool's rows from `first` on.
void Search::score8(int32_t first) noexcept {
  const int32_t stride = 2 * p.row_bytes;
  p.kernels.high(codes.query, p.rows, stride, p.row_bytes, pool.places + first, pool.count - first, s.sums);
  for (int32_t i = first; i < pool.count; ++i) {
    const int32_t list = p.list[pool.places[i] / block_lanes];
    float score = static_cast<float>(s.sums[i - first]) * (twice * codes.unit * p.scale8[list]) + s.base[list];
    if (p.bias != nullptr) score += p.bias[pool.places[i]];
    pool.keys[i] = ordered(score);
  }
}

// 8 bits, of the listed places.
void Search::look_up(const int32_t* listed, int32_t count) noexcept {
  for (int32_t i = 0; i < count;) {
    const int32_t first = pool.count, end = std::min(count, i + run_room);
    for (; i < end; ++i) {
      pool.places[pool.count] = listed[i];
      pool.count += places.has(listed[i]);
    }
    score8(first);
    if (pool.count > pool.capacity - run_room) narrow(keep);
  }
  narrow(keep);
}

// 16 bits: of what may still be among the k best, the k best.
int32_t Search::finish(int32_t k, int32_t* rows, float* scores) noexcept {
  narrow(static_cast<int32_t>(std::min<int64_t>(k + int64_t{k} / 8 + 16, keep)));
  for (int32_t i = 0; i < pool.count; ++i) __builtin_prefetch(p.row + pool.places[i]);
  auto* dots = reinterpret_cast<float*>(s.sums);
  p.kernels.both(query, p.rows, p.rows + p.row_bytes, 2 * p.row_bytes, p.row_bytes, pool.places, pool.count, dots);
  for (int32_t i = 0; i < pool.count; ++i) {
    const int32_t place = pool.places[i], list = p.list[place / block_lanes];
    float score = dots[i] * (twice * p.scale8[list] * 0x1p-8f) + s.base[list];
    if (p.bias != nullptr) score = std::min(score + p.bias[place] - square, 0.0f);
    s.best[i] = best_of(score, p.row[place]);
  }
  return write_best(s.best, s.spare, pool.count, k, rows, scores);
}

}  // namespace

std::int32_t partition_search(const Partition& p, const float* query, std::int32_t k, std::int64_t vectors,
                              bool adaptive, const Places& places, const std::int32_t* listed,
                              std::int32_t listed_count, Scratch& s, std::int32_t* rows, float* scores) noexcept {
  float square = 0.0f;
  for (int32_t lane = 0; lane < p.width; ++lane) square += query[lane] * query[lane];
  const auto keep = static_cast<int32_t>(std::min(partition_keep(p, k), int64_t{block_lanes} * p.block[p.lists]));
  const auto capacity = static_cast<int32_t>(std::min<int64_t>(pool_room(keep), s.room));
  Search search{p, query, quantise(query, p.width, p.quads, p.row_bytes, s.query), p.l2 ? 2.0f : 1.0f, square, places,
                s, Pool{s.keys, s.places, capacity, 0}, keep};
  if (listed != nullptr) {
    search.score_lists(0.0f);
    search.look_up(listed, listed_count);
    search.bases_of_pool();
    search.score8(0);
    return search.finish(k, rows, scores);
  }
  search.score_lists(adaptive ? p.stop : p.reach);
  Pool lists{s.list_key, s.list, p.lists, p.lists};
  int32_t chosen = search.choose(lists, adaptive ? vectors / 2 : vectors, 2 * keep);
  search.bases(chosen);
  search.scan(chosen);
  if (adaptive) {
    chosen = search.choose_more(chosen, k, 4 * vectors);
    search.bases(chosen);
    search.scan(chosen);
  }
  search.bases_of_pool();
  search.score8(0);
  return search.finish(k, rows, scores);
}

}  // namespace pairec
