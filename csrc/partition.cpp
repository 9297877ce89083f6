#include "partition.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace pairec {
namespace {

using std::int32_t;
using std::int64_t;
using std::size_t;

constexpr int32_t lists_ahead = 4;  // whose centres are asked for

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

  void score_lists() noexcept;
  int32_t choose_lists(int64_t vectors, const int32_t* size, int32_t blocks) noexcept;
  void soon_first(int32_t lists, int32_t soon) noexcept;
  void score_blocks(int32_t lists, Pool& blocks) noexcept;
  void choose_more(Pool& blocks, int32_t floor, int32_t k, int64_t vectors) noexcept;
  void scan_lists(int32_t lists) noexcept;
  void scan_excerpt(const Excerpt& excerpt, int32_t lists) noexcept;
  void scan_mixed(const Excerpt& excerpt, int32_t block, int32_t count) noexcept;
  void scan_blocks(const Pool& blocks, int32_t least, int32_t soon) noexcept;
  void ask_ahead(int32_t count) noexcept;
  void scan(Run& run, int32_t list, const int32_t* block, int32_t count) noexcept;
  void drop_from(int32_t first) noexcept;
  void look_up(const int32_t* listed, int32_t count) noexcept;
  void bases(int32_t chosen) noexcept;
  void bases_of_pool() noexcept;
  void narrow(int32_t rows) noexcept;
  void score8(int32_t first) noexcept;
  int32_t finish(int32_t k, int32_t* rows, float* scores) noexcept;
};

// Of every list: in s.base its score by codes, in s.list_key that plus `reach` deviations, in s.list its number.
void Search::score_lists() noexcept {
  Centres centres{};
  centres.codes = p.centroid_codes;
  centres.blocks = (p.lists + block_lanes - 1) / block_lanes;
  centres.scale = twice * codes.unit * p.centroid_scale;
  centres.deviations = p.reach * twice * std::sqrt(square);
  centres.spread = p.spread;
  centres.square = p.square;
  centres.scores = s.base;
  p.blocks.promise8(codes, centres, s.list_key, s.list);
}

// Lists whose blocks are looked at, in s.order[0 .. return), as they lie in memory: those of the highest keys that hold
// `vectors` rows in blocks that count: `blocks` of them, of each list `size`.
int32_t Search::choose_lists(int64_t vectors, const int32_t* size, int32_t blocks) noexcept {
  Pool lists{s.list_key, s.list, p.lists, p.lists};
  const int64_t wanted = vectors / block_lanes + 1;
  if (wanted < blocks) {
    const auto some = static_cast<int32_t>(wanted);
    p.blocks.narrow(lists, p.blocks.floor_of(lists, size, some, some / 32));
  }
  std::copy(lists.places, lists.places + lists.count, s.order);
  return lists.count;
}

// The chosen lists, in s.order: those of the highest keys that hold `soon` rows come first, for they raise the floor; the
// others follow as they lie in memory, which is faster than in order of keys.
void Search::soon_first(int32_t lists, int32_t soon) noexcept {
  // Sizes lie by list number, the lists that are left do not: they count as if all were alike.
  int32_t blocks = 0;
  for (int32_t i = 0; i < lists; ++i) blocks += p.size[s.order[i]];
  const auto few = static_cast<int32_t>(
      std::min((static_cast<int64_t>(soon) / block_lanes + 1) * lists / std::max(blocks, 1) + 1, int64_t{lists}));
  const int32_t high = p.blocks.floor_of({s.list_key, s.list, lists, lists}, nullptr, few, few / 4);
  int32_t first = 0, second = 0;
  for (int32_t i = 0; i < lists; ++i) second += s.list_key[i] >= high;
  for (int32_t i = 0; i < lists; ++i) {
    const bool is_high = s.list_key[i] >= high;
    s.order[is_high ? first : second] = s.list[i];
    first += is_high;
    second += !is_high;
  }
}

// The blocks of the chosen lists that hold a row that counts, by what their centres promise: their score, plus `reach`
// deviations of the block.
void Search::score_blocks(int32_t lists, Pool& blocks) noexcept {
  const size_t bytes = static_cast<size_t>(p.quads) * 32;
  Centres centres{};
  centres.deviations = p.reach * twice * std::sqrt(square);
  std::uint16_t room[1];
  for (int32_t i = 0; i < lists; ++i) {
    const int32_t list = s.order[i], next = s.order[std::min(i + lists_ahead, lists - 1)];
    const std::uint8_t *ahead = p.centre_codes + p.centre[next] * bytes, *end = p.centre_codes + p.centre[next + 1] * bytes;
    for (; ahead < end; ahead += 64) __builtin_prefetch(ahead);
    centres.codes = p.centre_codes + p.centre[list] * bytes;
    centres.blocks = p.centre[list + 1] - p.centre[list];
    centres.first = p.block[list];
    centres.scale = twice * codes.unit * p.centre_scale[list];
    centres.base = s.base[list] - 7.5f * centres.scale * static_cast<float>(codes.sum);
    centres.spread = p.block_spread + centres.first;
    centres.square = p.block_square + centres.first;
    int32_t *keys = blocks.keys + blocks.count, *numbers = blocks.places + blocks.count;
    p.blocks.promise4(codes, centres, keys, numbers);
    blocks.count += p.size[list];
    if (places.allow == nullptr) continue;
    blocks.count -= p.size[list];
    for (int32_t j = 0; j < p.size[list]; ++j) {
      blocks.keys[blocks.count] = keys[j];
      blocks.places[blocks.count] = numbers[j];
      blocks.count += *places.lanes(numbers[j], 1, room) != 0;
    }
  }
}

// Of the blocks whose keys are below `floor`, those that may hold one of the k best, at most so many `vectors`.
void Search::choose_more(Pool& blocks, int32_t floor, int32_t k, int64_t vectors) noexcept {
  const float deviations = (p.stop - p.reach) * twice * std::sqrt(square);
  int32_t kept = 0;
  for (int32_t i = 0; i < blocks.count; ++i) {
    const int32_t block = blocks.places[i];
    const bool is_new = blocks.keys[i] < floor;
    blocks.keys[kept] = ordered(score_of(blocks.keys[i]) + deviations * p.block_spread[block]);
    blocks.places[kept] = block;
    kept += is_new;
  }
  blocks.count = kept;
  if (pool.count >= k) p.blocks.narrow(blocks, p.blocks.floor_of(pool, nullptr, k, 0));
  const auto wanted = static_cast<int32_t>(std::min<int64_t>(vectors / block_lanes + 1, blocks.count));
  if (wanted > 0) p.blocks.narrow(blocks, p.blocks.floor_of(blocks, nullptr, wanted, wanted / 32));
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
  int32_t lists = 0, last = -1;
  for (int32_t i = 0, count = pool.count; i < count; ++i) {
    const int32_t list = p.list[static_cast<std::uint32_t>(pool.places[i]) / block_lanes];
    s.order[lists] = list;
    lists += list != last;
    last = list;
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

// 4 bits: the rows of all blocks of the lists in s.order[0 .. lists).
void Search::scan_lists(int32_t lists) noexcept {
  int32_t count = 0;
  for (int32_t i = 0; i < lists; ++i) {
    const int32_t first = p.block[s.order[i]], size = p.size[s.order[i]];
    int32_t* const order = s.block_order + count;
    for (int32_t j = 0; j < size; ++j) order[j] = first + j;
    count += size;
  }
  ask_ahead(count);
  std::uint16_t room[run_blocks];
  Run run{};
  const int32_t* block = s.block_order;
  for (int32_t i = 0; i < lists; ++i) {
    const int32_t* const end = block + p.size[s.order[i]];
    for (; block < end; block += run.count) {
      const auto some = static_cast<int32_t>(std::min<std::ptrdiff_t>(run_blocks, end - block));
      run.lanes = places.lanes(*block, some, room);
      scan(run, s.order[i], block, some);
    }
  }
  narrow(keep);
}

// 4 bits: the rows of the blocks whose keys reach `least`. Those of the highest keys that hold `soon` rows come first,
// for they raise the floor.
void Search::scan_blocks(const Pool& blocks, int32_t least, int32_t soon) noexcept {
  if (blocks.count == 0) return;
  const int32_t few = std::min(soon / block_lanes + 1, blocks.count);
  const int32_t high = std::max(least, p.blocks.floor_of(blocks, nullptr, few, few / 4));
  int32_t lists = 0, first = 0, second = 0, count = 0, last = -1;
  for (int32_t i = 0; i < blocks.count; ++i) {
    const int32_t list = p.list[blocks.places[i]];
    const bool is_in = blocks.keys[i] >= least;
    s.order[lists] = list;
    lists += is_in & (list != last);
    last = is_in ? list : last;
    second += blocks.keys[i] >= high;
    count += is_in;
  }
  bases(lists);
  for (int32_t i = 0; i < blocks.count; ++i) {
    const bool is_high = blocks.keys[i] >= high;
    s.block_order[is_high ? first : second] = blocks.places[i];
    first += is_high;
    second += !is_high & (blocks.keys[i] >= least);
  }
  ask_ahead(count);
  const int32_t* const block = s.block_order;
  std::uint16_t lanes[run_blocks], room[1];
  Run run{};
  run.lanes = lanes;
  for (int32_t i = 0; i < count; i += run.count) {
    const int32_t list = p.list[block[i]], most = std::min(run_blocks, count - i);
    int32_t some = 0;
    for (; some < most && p.list[block[i + some]] == list; ++some)
      lanes[some] = *places.lanes(block[i + some], 1, room);
    scan(run, list, block + i, some);
  }
  narrow(keep);
}

// The first `count` of s.block_order are followed by what those at the end ask for.
void Search::ask_ahead(int32_t count) noexcept {
  for (int32_t i = 0; i < blocks_ahead; ++i) s.block_order[count + i] = s.block_order[std::max(count - 1, 0)];
}

// Some blocks of a list, within s.block_order; run.lanes says which of their lanes count.
void Search::scan(Run& run, int32_t list, const int32_t* block, int32_t count) noexcept {
  run.codes = p.codes;
  run.bias = p.bias;
  run.block = block;
  run.ahead = block + blocks_ahead;
  run.count = count;
  run.scale = twice * codes.unit * p.scale4[list];
  run.base = s.base[list] - 7.5f * run.scale * static_cast<float>(codes.sum);
  run.floor = floor;
  p.blocks.scan4(codes, run, pool);
  if (pool.count > pool.capacity - run_room) narrow(keep);
}

// 4 bits: the rows of an excerpt in the lists in s.order[0 .. lists), which ascend, and what shares a block with them.
void Search::scan_excerpt(const Excerpt& excerpt, int32_t lists) noexcept {
  const int32_t* const row = excerpt.first;
  for (int32_t i = 0; i < lists;) {
    const int32_t begin = row[s.order[i]] / block_lanes;
    int32_t end = begin;
    for (; i < lists && row[s.order[i]] / block_lanes <= end; ++i)
      end = std::max(end, (row[s.order[i] + 1] + block_lanes - 1) / block_lanes);
    for (int32_t block = begin; block < end; block += run_blocks)
      scan_mixed(excerpt, block, std::min(run_blocks, end - block));
  }
  narrow(keep);
}

void Search::scan_mixed(const Excerpt& excerpt, int32_t block, int32_t count) noexcept {
  const int32_t first = pool.count, row = block * block_lanes;
  Pool some{pool.keys + first, pool.places + first, run_room, std::min(count * block_lanes, excerpt.count - row)};
  p.blocks.mixed4(codes, excerpt.rows, block, count, twice * codes.unit, s.base, some.keys);
  std::copy(excerpt.place + row, excerpt.place + row + some.count, some.places);
  if (floor > INT32_MIN) p.blocks.narrow(some, floor);
  pool.count += some.count;
  drop_from(first);
  if (pool.count > pool.capacity - run_room) narrow(keep);
}

// Of the pool's rows from `first` on, leaves those that count.
void Search::drop_from(int32_t first) noexcept {
  if (places.live == nullptr && places.deny == nullptr) return;
  int32_t kept = first;
  for (int32_t i = first; i < pool.count; ++i) {
    pool.keys[kept] = pool.keys[i];
    pool.places[kept] = pool.places[i];
    kept += places.has(pool.places[i]);
  }
  pool.count = kept;
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
  for (int32_t i = 0; i < count; i += run_room) {
    const int32_t first = pool.count, some = std::min(count - i, run_room);
    std::copy(listed + i, listed + i + some, pool.places + first);
    pool.count += some;
    drop_from(first);
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
                              bool adaptive, const Places& places, const Excerpt* excerpt,
                              const std::int32_t* listed, std::int32_t listed_count, Scratch& s, std::int32_t* rows,
                              float* scores) noexcept {
  float square = 0.0f;
  for (int32_t lane = 0; lane < p.width; ++lane) square += query[lane] * query[lane];
  const auto keep = static_cast<int32_t>(std::min(partition_keep(p, k), int64_t{block_lanes} * p.block[p.lists]));
  const auto capacity = static_cast<int32_t>(std::min<int64_t>(pool_room(keep), s.room));
  Search search{p, query, quantise(query, p.width, p.quads, p.row_bytes, s.query), p.l2 ? 2.0f : 1.0f, square, places,
                s, Pool{s.keys, s.places, capacity, 0}, keep};
  search.score_lists();
  if (listed != nullptr) {
    search.look_up(listed, listed_count);
    search.bases_of_pool();
  } else if (excerpt != nullptr) {
    // Whole lists of fewer come by what chosen blocks of more do.
    const double wide = (adaptive ? 2.0 : 0.5) * (1.0 + p.breadth);
    const auto looked_at = std::min(wide * static_cast<double>(vectors), 16.0 * p.block[p.lists]);
    search.scan_excerpt(*excerpt, search.choose_lists(static_cast<int64_t>(looked_at), excerpt->size, excerpt->blocks));
    search.bases_of_pool();
  } else if (p.breadth <= 1.0f && !adaptive) {
    const int32_t lists = search.choose_lists(vectors, p.size, p.block[p.lists]);
    search.bases(lists);
    search.soon_first(lists, 2 * keep);
    search.scan_lists(lists);
  } else {
    const double breadth = std::max(p.breadth, 2.0f) * (adaptive ? 2.0 : 1.0);
    const auto looked_at = std::min(breadth * static_cast<double>(vectors), 16.0 * p.block[p.lists]);
    Pool blocks{s.block_keys, s.block_places, p.block[p.lists], 0};
    search.score_blocks(search.choose_lists(static_cast<int64_t>(looked_at), p.size, p.block[p.lists]), blocks);
    const int64_t first = (adaptive ? vectors / 2 : vectors) / block_lanes + 1;
    const auto wanted = static_cast<int32_t>(std::min<int64_t>(first, blocks.count));
    const int32_t least = p.blocks.floor_of(blocks, nullptr, wanted, wanted / 32);
    if (!adaptive) p.blocks.narrow(blocks, least);
    search.scan_blocks(blocks, least, 2 * keep);
    if (adaptive) {
      search.choose_more(blocks, least, k, 4 * vectors);
      search.scan_blocks(blocks, INT32_MIN, 0);
    }
  }
  search.score8(0);
  return search.finish(k, rows, scores);
}

}  // namespace pairec
