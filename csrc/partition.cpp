#include "partition.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

namespace pairec {
namespace {

using std::int32_t;
using std::int64_t;
using std::size_t;

// To score_lists the centroids are the centres of one list, whose own score is nothing.
constexpr int32_t only[] = {0};
constexpr float nothing[] = {0.0f};

// A query against a partition, and what the passes share.
struct Search {
  const Partition& p;
  const float* query;
  const Codes codes;
  const float twice;   // 2 for squared distances
  const float square;  // of the query's length
  const float middle;  // 7.5 times the sum of the query's codes
  const Places& places;
  Scratch& s;
  Pool pool;
  const int32_t keep;
  int32_t floor = INT32_MIN;

  void score_lists() noexcept;
  int32_t choose_lists(int64_t vectors, const int32_t* size, int32_t blocks) noexcept;
  void soon_first(int32_t lists, int32_t soon) noexcept;
  Pool score_blocks(int32_t lists) noexcept;
  int32_t reaching(const Pool& blocks, int32_t least) noexcept;
  void choose_more(Pool& blocks, int32_t floor, int32_t k, int64_t vectors) noexcept;
  int32_t blocks_of(int32_t lists) noexcept;
  int32_t blocks_of(const Excerpt& excerpt, int32_t lists) noexcept;
  Scan scan_of(const std::uint8_t* codes, const float* scale, const std::uint16_t* list, const float* bias) noexcept;
  template <typename Of>
  void scan(Of scan, int32_t (*kernel)(const Codes&, const Of&, Pool&) noexcept, int32_t* block,
            int32_t blocks) noexcept;
  void scan(int32_t* block, int32_t blocks) noexcept;
  void scan(const Excerpt& excerpt, int32_t* block, int32_t blocks) noexcept;
  void drop_from(int32_t first) noexcept;
  void look_up(const int32_t* listed, int32_t count) noexcept;
  void bases(const int32_t* lists, int32_t count) noexcept;
  void narrow(int32_t rows) noexcept;
  void score8(int32_t first) noexcept;
  int32_t finish(int32_t k, int32_t* rows, float* scores) noexcept;
};

// Of every list: in s.base its score by codes, in s.list_key that plus `reach` deviations, in s.list its number.
void Search::score_lists() noexcept {
  const int32_t block[] = {0, (p.lists + block_lanes - 1) / block_lanes}, first[] = {0, p.lists};
  Centres centres{};
  centres.codes = p.centroid_codes;
  centres.block = block;
  centres.first = first;
  centres.scale = &p.centroid_scale;
  centres.base = nothing;
  centres.unit = twice * codes.unit;
  centres.deviations = p.reach * twice * std::sqrt(square);
  centres.spread = p.spread;
  centres.square = p.square;
  centres.scores = s.base;
  p.blocks.promise8(codes, centres, only, 1, s.list_key, s.list);
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
  bases(s.order, lists.count);
  return lists.count;
}

// The chosen lists, in s.order: those of the highest keys that hold `soon` rows come first, for they raise the floor;
// the others follow as they lie in memory, which is faster than in order of keys.
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

// The blocks of the chosen lists that hold a row that counts, by what their centres promise.
Pool Search::score_blocks(int32_t lists) noexcept {
  Pool blocks{s.block_keys, s.block_places, p.block[p.lists], 0};
  Centres centres{};
  centres.codes = p.centre_codes;
  centres.block = p.centre;
  centres.first = p.block;
  centres.scale = p.centre_scale;
  centres.base = s.base;
  centres.unit = twice * codes.unit;
  centres.middle = middle;
  centres.deviations = p.reach * twice * std::sqrt(square);
  centres.spread = p.block_spread;
  centres.square = p.block_square;
  blocks.count = p.blocks.promise4(codes, centres, s.order, lists, blocks.keys, blocks.places);
  if (places.allow == nullptr) return blocks;
  int32_t kept = 0;
  for (int32_t i = 0; i < blocks.count; ++i) {
    const int32_t block = blocks.places[i];
    blocks.keys[kept] = blocks.keys[i];
    blocks.places[kept] = block;
    kept += places.lanes(block) != 0;
  }
  blocks.count = kept;
  return blocks;
}

// Those whose keys reach `least`, to s.block_order. Returns how many.
int32_t Search::reaching(const Pool& blocks, int32_t least) noexcept {
  int32_t count = 0;
  for (int32_t i = 0; i < blocks.count; ++i) {
    s.block_order[count] = blocks.places[i];
    count += blocks.keys[i] >= least;
  }
  return count;
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

// Scores of some lists, in float, to s.base. Codes of centroids share a scale, which a far one makes coarse: they choose
// lists, and do not tell rows of one from those of another.
void Search::bases(const int32_t* lists, int32_t count) noexcept {
  auto* dots = reinterpret_cast<float*>(s.sums);
  for (int32_t first = 0; first < count; first += s.room) {
    const int32_t some = std::min(s.room, count - first);
    p.scorer.rows(query, p.centroids, p.width, lists + first, some, dots);
    for (int32_t i = 0; i < some; ++i) s.base[lists[first + i]] = twice * dots[i];
  }
}

void Search::narrow(int32_t rows) noexcept {
  if (pool.count <= rows) return;
  floor = p.blocks.floor_of(pool, nullptr, rows, rows / 16);
  p.blocks.narrow(pool, floor);
  // More than `rows` only if their scores are equal; the smaller places are as good as the others.
  pool.count = std::min(pool.count, rows + rows / 16);
}

// All blocks of the lists in s.order[0 .. lists), to s.block_order. Returns how many.
int32_t Search::blocks_of(int32_t lists) noexcept {
  int32_t count = 0;
  for (int32_t i = 0; i < lists; ++i) {
    const int32_t first = p.block[s.order[i]], size = p.size[s.order[i]];
    int32_t* const block = s.block_order + count;
    for (int32_t j = 0; j < size; ++j) block[j] = first + j;
    count += size;
  }
  return count;
}

// Those of an excerpt in the lists, which ascend; with them, what shares a block.
int32_t Search::blocks_of(const Excerpt& excerpt, int32_t lists) noexcept {
  int32_t count = 0, next = 0;
  for (int32_t i = 0; i < lists; ++i) {
    const int32_t* const row = excerpt.first + s.order[i];
    const int32_t end = (row[1] + block_lanes - 1) / block_lanes;
    for (next = std::max(next, row[0] / block_lanes); next < end; ++next) s.block_order[count++] = next;
  }
  return count;
}

Scan Search::scan_of(const std::uint8_t* code, const float* scale, const std::uint16_t* list,
                     const float* bias) noexcept {
  Scan scan{};
  scan.codes = code;
  scan.unit = twice * codes.unit;
  scan.middle = middle;
  scan.scale = scale;
  scan.bases = s.base;
  scan.list = list;
  scan.bias = bias;
  return scan;
}

// 4 bits: the rows of so many blocks, of all or of an excerpt.   block [blocks + blocks_ahead]
template <typename Of>
void Search::scan(Of scan, int32_t (*kernel)(const Codes&, const Of&, Pool&) noexcept, int32_t* block,
                  int32_t blocks) noexcept {
  std::fill_n(block + blocks, blocks_ahead, blocks > 0 ? block[blocks - 1] : 0);
  for (int32_t done = 0; done < blocks;) {
    const int32_t first = pool.count;
    scan.block = block + done;
    scan.count = blocks - done;
    scan.floor = floor;
    done += kernel(codes, scan, pool);
    if constexpr (std::is_same_v<Of, Mixed>) drop_from(first);
    narrow(keep);
  }
}

void Search::scan(int32_t* block, int32_t blocks) noexcept {
  Scan of = scan_of(p.codes, p.scale4, p.list, p.bias);
  of.places = places;
  scan(of, p.blocks.scan4, block, blocks);
}

void Search::scan(const Excerpt& excerpt, int32_t* block, int32_t blocks) noexcept {
  Mixed of{scan_of(excerpt.codes, excerpt.scale, excerpt.list, excerpt.bias), excerpt.place};
  of.places.live = excerpt.lanes;
  scan(of, p.blocks.mixed4, block, blocks);
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
  for (int32_t i = 0; i < count; i += rows_abreast) {
    const int32_t first = pool.count, some = std::min(count - i, rows_abreast);
    std::copy(listed + i, listed + i + some, pool.places + first);
    pool.count += some;
    drop_from(first);
    int32_t lists = 0;
    for (int32_t j = first, last = -1; j < pool.count; ++j) {
      const int32_t list = p.list[pool.places[j] / block_lanes];
      s.order[lists] = list;
      lists += list != last;
      last = list;
    }
    bases(s.order, lists);
    score8(first);
    if (pool.count > pool.capacity - rows_abreast) narrow(keep);
  }
  narrow(keep);
}

// 16 bits: of what may still be among the k best, the k best. Where that is most of the pool, 8 bits would leave out
// less than they cost.
int32_t Search::finish(int32_t k, int32_t* rows, float* scores) noexcept {
  const auto most = static_cast<int32_t>(std::min<int64_t>(k + int64_t{k} / 8 + 16, keep));
  if (pool.count > most + most / 2) {
    score8(0);
    narrow(most);
  }
  for (int32_t i = 0; i < pool.count; ++i) __builtin_prefetch(p.row + pool.places[i]);
  auto* dots = reinterpret_cast<float*>(s.sums);
  p.kernels.both(query, p.rows, p.rows + p.row_bytes, 2 * p.row_bytes, p.row_bytes, pool.places, pool.count, dots);
  for (int32_t i = 0; i < pool.count; ++i) {
    const int32_t place = pool.places[i], list = p.list[place / block_lanes];
    float score = dots[i] * (twice * p.scale8[list] * 0x1p-8f) + s.base[list];
    if (p.bias != nullptr) score = std::min(score + p.bias[place] - square, 0.0f);
    pool.keys[i] = ordered(score);
  }
  if (pool.count > k) p.blocks.narrow(pool, p.blocks.floor_of(pool, nullptr, k, k / 16));
  for (int32_t i = 0; i < pool.count; ++i) s.best[i] = best_of(score_of(pool.keys[i]), p.row[pool.places[i]]);
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
  const Codes codes = quantise(query, p.width, p.quads, p.row_bytes, s.query);
  Search search{p, query, codes, p.l2 ? 2.0f : 1.0f, square, 7.5f * static_cast<float>(codes.sum), places, s,
                Pool{s.keys, s.places, capacity, 0}, keep};
  if (listed != nullptr) {
    search.look_up(listed, listed_count);
    return search.finish(k, rows, scores);
  }
  search.score_lists();
  if (excerpt != nullptr) {
    // Whole lists of fewer come by what chosen blocks of more do.
    const double wide = (adaptive ? 2.0 : 0.5) * (1.0 + p.breadth);
    const auto looked_at = std::min(wide * static_cast<double>(vectors), 16.0 * p.block[p.lists]);
    const int32_t lists = search.choose_lists(static_cast<int64_t>(looked_at), excerpt->size, excerpt->blocks);
    search.scan(*excerpt, s.block_order, search.blocks_of(*excerpt, lists));
  } else if (p.breadth <= 1.0f && !adaptive) {
    const int32_t lists = search.choose_lists(vectors, p.size, p.block[p.lists]);
    search.soon_first(lists, 2 * keep);
    search.scan(s.block_order, search.blocks_of(lists));
  } else {
    const double breadth = std::max(p.breadth, 2.0f) * (adaptive ? 2.0 : 1.0);
    const auto looked_at = std::min(breadth * static_cast<double>(vectors), 16.0 * p.block[p.lists]);
    const int32_t lists = search.choose_lists(static_cast<int64_t>(looked_at), p.size, p.block[p.lists]);
    search.soon_first(lists, 2 * keep);
    Pool blocks = search.score_blocks(lists);
    const int64_t first = (adaptive ? vectors / 2 : vectors) / block_lanes + 1;
    const auto wanted = static_cast<int32_t>(std::min<int64_t>(first, blocks.count));
    const int32_t least = p.blocks.floor_of(blocks, nullptr, wanted, wanted / 32);
    if (adaptive) {
      search.scan(s.block_order, search.reaching(blocks, least));
      search.choose_more(blocks, least, k, 4 * vectors);
    } else {
      p.blocks.narrow(blocks, least);
    }
    search.scan(blocks.places, blocks.count);
  }
  return search.finish(k, rows, scores);
}

}  // namespace pairec
