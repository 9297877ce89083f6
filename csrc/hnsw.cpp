#include "hnsw.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace pairec {
namespace {

using std::int32_t;
using std::int64_t;
using std::size_t;
using std::uint32_t;
using std::uint64_t;

// Nodes expanded together. Their lists come together; then the codes of all rows they link to, 200 or so, enough to
// have as many lines under way as the machine can.
//
// A walk of few expansions takes fewer at a time: it should have seen the rows of one before it chooses the next.
constexpr int32_t abreast_min = 4, abreast_max = 16;
constexpr int32_t batch_max = abreast_max * degree_max;
constexpr int32_t four = 4;  // rows are scored by fours
// A walk for k rows starts from k entries: where queries are unlike rows, the nearest lie far from each other.
constexpr int32_t starts_min = 64, starts_max = 512;

inline bool has(const uint64_t* bits, int32_t row) noexcept {
  const auto at = static_cast<uint32_t>(row);
  return bits[at / 64] >> at % 64 & 1;
}

// The query in int8, and what follows from that.
struct Asked {
  double inverse;  // int8 units in one of the query
  double half;     // l2: integer scores are dots - half * square
  int64_t bound;   // no score is farther from 0
  int64_t band;    // by how much a score may mislead about which of two rows is nearer: three deviations, measured
};

Asked quantise(const Graph& graph, const float* query, std::int8_t* codes) noexcept {
  float largest = 0.0f;
  for (int32_t i = 0; i < graph.width; ++i) largest = std::max(largest, std::fabs(query[i]));
  double unit = largest / 127.0;
  int64_t most = 0;
  double half = 0.0;
  if (graph.square != nullptr) {
    // A query much shorter than the rows gets fewer bits, so that squares fit beside its dots.
    most = int64_t{1} << 29;
    unit = std::max(unit, 0.5 * graph.square_max / static_cast<double>(most) / graph.scale);
    if (unit > 0.0) half = 0.5 / (unit * graph.scale);
  }
  const double inverse = unit > 0.0 ? 1.0 / unit : 0.0;
  int64_t sum = 0, squares = 0;
  for (int32_t i = 0; i < graph.width; ++i) {
    const double value = std::min(127.0, std::max(-127.0, query[i] * inverse));  // of NaN, -127
    const auto code = static_cast<int32_t>(value < 0.0 ? value - 0.5 : value + 0.5);
    codes[i] = static_cast<std::int8_t>(code);
    sum += std::abs(code);
    squares += int64_t{code} * code;
  }
  const auto band = static_cast<int64_t>(1.2 * std::sqrt(static_cast<double>(squares))) + 1;
  return {inverse, half, most + 128 * sum + 2, band};
}

// Score to bucket: finely in the middle, where the k-th is expected, and coarsely from there to the bounds.
class Scale {
 public:
  Scale(int64_t bound, int64_t low, int64_t high) noexcept
      : base_(-bound),
        low_(low),
        high_(high),
        base_shift_(shift_for(low + bound, coarse)),
        low_shift_(shift_for(high - low, fine)),
        high_shift_(shift_for(bound - high, coarse)) {}

  int32_t bucket(int64_t score) const noexcept {
    if (score < low_) return static_cast<int32_t>((score - base_) >> base_shift_);
    if (score < high_) return coarse + static_cast<int32_t>((score - low_) >> low_shift_);
    return coarse + fine + static_cast<int32_t>((score - high_) >> high_shift_);
  }

  // The smallest score of a bucket.
  int64_t edge(int32_t bucket) const noexcept {
    if (bucket < coarse) return base_ + (int64_t{bucket} << base_shift_);
    if (bucket < coarse + fine) return low_ + (int64_t{bucket - coarse} << low_shift_);
    return high_ + (int64_t{bucket - coarse - fine} << high_shift_);
  }

 private:
  static constexpr int32_t coarse = buckets / 16;
  static constexpr int32_t fine = buckets - 2 * coarse;

  static int32_t shift_for(int64_t range, int64_t room) noexcept {
    int32_t shift = 0;
    while (range >> shift >= room) ++shift;
    return shift;
  }

  int64_t base_, low_, high_;
  int32_t base_shift_, low_shift_, high_shift_;
};

// The highest bucket with `target` rows in it and above; 0 while there are fewer.
struct Floor {
  int64_t target;
  int32_t* counts;  // [buckets] rows in each
  int64_t above = 0;
  int32_t bucket = 0;

  void add(int32_t to) noexcept {
    if (to < bucket) return;
    ++above;
    while (above - counts[bucket] >= target) above -= counts[bucket++];
  }
};

// The rows not yet expanded: a stack for every bucket, and bits for those that hold any.
struct Frontier {
  int32_t heads[buckets];
  uint64_t words[buckets / 64] = {};
  uint32_t summary = 0;

  Frontier() noexcept { std::fill_n(heads, buckets, -1); }

  void push(int32_t bucket, int32_t at, Seen* seen) noexcept {
    seen[at].next = heads[bucket];
    heads[bucket] = at;
    words[bucket / 64] |= 1ull << bucket % 64;
    summary |= 1u << bucket / 64;
  }

  // Hands over up to `most` rows of bucket `floor` and above, the highest first. Returns how many.
  template <class Take>
  int32_t pop(int32_t most, int32_t floor, const Seen* seen, Take take) noexcept {
    int32_t count = 0;
    while (count < most && summary != 0) {
      const int32_t word = 31 - std::countl_zero(summary);
      const int32_t bit = 63 - std::countl_zero(words[word]);
      const int32_t bucket = 64 * word + bit;
      if (bucket < floor) break;
      int32_t at = heads[bucket];
      do {
        take(count++, seen[at].row);
        at = seen[at].next;
      } while (at >= 0 && count < most);
      heads[bucket] = at;
      if (at >= 0) break;
      words[word] &= ~(1ull << bit);
      if (words[word] == 0) summary &= ~(1u << word);
    }
    return count;
  }
};
static_assert(buckets % 64 == 0 && buckets / 64 <= 32);

// What the scores of entries are like.
struct Spread {
  int32_t mean, best;

  Spread(const int32_t* scores, int32_t entries) noexcept : best(scores[0]) {
    int64_t sum = 0;
    for (int32_t i = 0; i < entries; ++i) {
      sum += scores[i];
      best = std::max(best, scores[i]);
    }
    mean = static_cast<int32_t>(sum / entries);
  }

  // A score with about `wanted` of them at or above it: found in a sample.
  int32_t score_above(const int32_t* scores, int32_t entries, int32_t wanted) const noexcept {
    constexpr int32_t bins = 64, sample = 512;
    if (wanted >= entries) return std::numeric_limits<int32_t>::min();
    const int64_t gap = int64_t{best} - mean;
    int32_t shift = 0;
    while (gap >> shift >= bins) ++shift;
    int32_t counts[bins] = {};
    const int32_t step = std::max(1, entries / sample);
    for (int32_t i = 0; i < entries; i += step)
      counts[std::max<int64_t>(int64_t{scores[i]} - mean, 0) >> shift] += step;
    int32_t bin = bins - 1;
    for (int32_t above = counts[bin]; above < wanted && bin > 0; above += counts[bin]) --bin;
    return static_cast<int32_t>(mean + (int64_t{bin} << shift));
  }

  // The k-th best row lies between what entries score on the average and, for small k, above the best of them.
  Scale scale(int64_t bound) const noexcept {
    const int64_t gap = int64_t{best} - mean;
    return Scale(bound, mean + gap / 8, std::min(bound, best + gap / 2 + 1));
  }
};

// A walk under way: where it came by, and what is still near enough.
struct Walk {
  const Graph& graph;
  const Asked& asked;
  const Places* allow;
  WalkScratch& scratch;
  Scale scale;
  bool by_expansions;
  int32_t counts[2][buckets] = {};  // of rows that may be returned; of all rows seen
  Floor kept;                       // of those returned
  Floor wanted;                     // of those expanded
  Frontier frontier = {};
  int32_t seen = 0;
  int32_t least = std::numeric_limits<int32_t>::min();  // lower scores matter no more

  Walk(const Graph& graph_, const Asked& asked_, int32_t k, Effort effort, const Places* allow_,
       WalkScratch& scratch_, const Scale& scale_) noexcept
      : graph(graph_),
        asked(asked_),
        allow(allow_),
        scratch(scratch_),
        scale(scale_),
        by_expansions(effort.nearest == 0),
        kept{k, counts[0]},
        // A row with as many better ones before it as may be expanded is not.
        wanted{by_expansions ? effort.expansions : effort.nearest, counts[by_expansions && allow_ != nullptr]} {
    std::memset(scratch.visited, 0, sizeof(uint64_t) * static_cast<size_t>(visited_words(graph.count)));
  }

  void push(int32_t row, int32_t score) noexcept {
    const int32_t bucket = scale.bucket(score);
    const bool allowed = allow == nullptr || allow->has(row);
    scratch.seen[seen] = {row, score, -1};
    counts[1][bucket] += 1;
    counts[0][bucket] += allowed;
    if (allowed) kept.add(bucket);
    if (allowed || by_expansions) wanted.add(bucket);
    if (bucket >= wanted.bucket) frontier.push(bucket, seen, scratch.seen);
    ++seen;
  }

  void raise() noexcept {
    const int64_t lower = std::min(scale.edge(wanted.bucket), scale.edge(kept.bucket) - asked.band);
    least = static_cast<int32_t>(std::max<int64_t>(lower, std::numeric_limits<int32_t>::min()));
  }

  // From the nearest entries, `starts` or so.
  void begin(const Spread& spread, int32_t starts) noexcept {
    const int32_t* scores = scratch.scores;
    int32_t* nearest = scratch.rows;
    const int32_t entries = graph.entries, lowest = spread.score_above(scores, entries, starts);
    int32_t found = 0;
    for (int32_t i = 0; i < entries; ++i) {
      nearest[found] = i;
      found += scores[i] >= lowest;
    }
    for (int32_t i = 0; i < found; ++i) {
      const int32_t entry = nearest[i], row = graph.entry_rows[entry];
      if (has(scratch.visited, row)) continue;
      scratch.visited[row / 64] |= 1ull << row % 64;
      push(row, scores[entry]);
    }
    raise();
  }

  // Scores rows, and keeps those that matter.
  //   rows [count, rounded up to a multiple of 4]
  void score(int32_t* rows, int32_t count) noexcept {
    if (count == 0) return;
    alignas(64) int32_t scores[batch_max];
    int32_t near[batch_max];
    for (int32_t i = count; i % four != 0; ++i) rows[i] = rows[count - 1];
    graph.kernels.high_near(scratch.codes, graph.high, graph.width, graph.width, rows, (count + four - 1) / four * four, scores);
    if (graph.square != nullptr)
      for (int32_t i = 0; i < count; ++i) scores[i] -= static_cast<int32_t>(asked.half * graph.square[rows[i]]);
    int32_t found = 0;
    for (int32_t i = 0; i < count; ++i) {
      near[found] = i;
      found += scores[i] >= least;  // one in six: as a branch, it would be mispredicted as often
    }
    for (int32_t i = 0; i < found; ++i) push(rows[near[i]], scores[near[i]]);
    raise();
  }

  // Writes the rows that nodes link to and that were not visited before, and asks for their codes. Returns how many.
  int32_t visit(const int32_t* nodes, int32_t count, int32_t* rows) noexcept {
    // First all links, so that what follows is one loop, not one for every node and its number of links.
    int32_t linked[batch_max];
    int32_t links = 0;
    const int32_t degree = graph.degree, width = graph.width;
    for (int32_t node = 0; node < count; ++node) {
      const int32_t* list = graph.links + static_cast<size_t>(nodes[node]) * degree;
      int32_t live = 0;
      for (int32_t i = 0; i < degree; ++i) {
        linked[links + i] = std::max(list[i], 0);  // a list with a -1 amid its rows does no harm
        live += list[i] >= 0;
      }
      links += live;
    }
    int32_t fresh = 0;
    const std::int8_t* high = graph.high;
    uint64_t* visited = scratch.visited;
    for (int32_t i = 0; i < links; ++i) {
      const auto row = static_cast<uint32_t>(linked[i]);
      // Also of rows visited before, a third of them: to leave them out takes longer.
      const std::int8_t* codes = high + static_cast<size_t>(row) * width;
      __builtin_prefetch(codes, 0, 2);
      for (int32_t lane = 64; lane < width; lane += 64) __builtin_prefetch(codes + lane, 0, 2);
      const uint64_t before = visited[row / 64];
      visited[row / 64] = before | 1ull << row % 64;
      rows[fresh] = linked[i];
      fresh += ~before >> row % 64 & 1;
    }
    if (graph.square != nullptr)
      for (int32_t i = 0; i < fresh; ++i) __builtin_prefetch(graph.square + rows[i], 0, 2);
    return fresh;
  }

  // Chooses the nearest nodes to expand, and asks for their lists. Returns how many.
  int32_t choose(int32_t most, int32_t* nodes) noexcept {
    const int32_t degree = graph.degree;
    const int32_t* links = graph.links;
    return frontier.pop(most, wanted.bucket, scratch.seen, [=](int32_t at, int32_t row) {
      nodes[at] = row;
      const int32_t* list = links + static_cast<size_t>(row) * degree;
      for (int32_t i = 0; i < degree; i += 16) __builtin_prefetch(list + i, 0, 2);
    });
  }

  void expand(int32_t expansions) noexcept {
    const int32_t abreast = std::clamp(expansions / 16, abreast_min, abreast_max);
    int32_t nodes[abreast_max];
    int32_t rows[batch_max + four];
    int32_t node_count = 0, row_count = 0;
    do {
      score(rows, row_count);
      row_count = visit(nodes, node_count, rows);
      node_count = choose(std::min(abreast, expansions), nodes);
      expansions -= node_count;
    } while (node_count > 0 || row_count > 0);
  }

  // Writes the rows that may be among the best to scratch.rows. Returns how many.
  int32_t finalists() const noexcept {
    const int64_t lower = scale.edge(kept.bucket) - asked.band;
    int32_t found = 0;
    for (int32_t i = 0; i < seen; ++i) {
      const Seen& one = scratch.seen[i];
      scratch.rows[found] = one.row;
      found += one.score >= lower && (allow == nullptr || allow->has(one.row));
    }
    return found;
  }
};

// Writes to scratch.scores those of all entries.
void score_entries(const Graph& graph, const Asked& asked, WalkScratch& scratch) noexcept {
  int32_t *places = scratch.rows, *scores = scratch.scores;
  const int32_t entries = graph.entries;
  for (int32_t i = 0; i < entries; ++i) places[i] = i;
  graph.kernels.high(scratch.codes, graph.entry_high, graph.width, graph.width, places, entries, scores);
  if (graph.square != nullptr)
    for (int32_t i = 0; i < entries; ++i) scores[i] -= static_cast<int32_t>(asked.half * graph.entry_square[i]);
}

uint64_t key_of(float score, int32_t row) noexcept {
  const auto bits = std::bit_cast<uint32_t>(score);
  const uint32_t ordered = bits ^ (bits & 0x80000000u ? 0xFFFFFFFFu : 0x80000000u);
  return uint64_t{ordered} << 32 | static_cast<uint32_t>(~row);
}

float score_of(uint64_t key) noexcept {
  const auto ordered = static_cast<uint32_t>(key >> 32);
  return std::bit_cast<float>(ordered ^ (ordered & 0x80000000u ? 0x80000000u : 0xFFFFFFFFu));
}

// The order of `count` scores: into bins by size, then each bin sorted, up to the k-th.
int32_t write_best(const float* given, int32_t count, int32_t k, WalkScratch& scratch, int32_t* rows,
                   float* scores) noexcept {
  constexpr int32_t bins_max = 1024;
  const int32_t bins = std::clamp(2 * count, 2, bins_max);
  int32_t ends[bins_max + 1];
  std::fill_n(ends, bins + 1, 0);
  float most = -std::numeric_limits<float>::infinity(), fewest = -most;
  for (int32_t i = 0; i < count; ++i) {
    most = std::max(most, given[i]);
    fewest = std::min(fewest, given[i]);
  }
  const float per = most > fewest ? (bins - 1) / (most - fewest) : 0.0f;
  const auto bin_of = [=](float score) {
    const float bin = (most - score) * per;
    return bin < bins - 1 ? static_cast<int32_t>(bin) : bins - 1;  // NaN, of infinities, goes last
  };
  for (int32_t i = 0; i < count; ++i) ++ends[bin_of(given[i]) + 1];
  for (int32_t bin = 0; bin < bins; ++bin) ends[bin + 1] += ends[bin];
  for (int32_t i = 0; i < count; ++i) scratch.keys[ends[bin_of(given[i])]++] = key_of(given[i], scratch.rows[i]);
  k = std::min(k, count);
  for (int32_t bin = 0, begin = 0; begin < k; begin = ends[bin++])
    if (ends[bin] - begin > 1) std::sort(scratch.keys + begin, scratch.keys + ends[bin], std::greater<>());
  for (int32_t i = 0; i < k; ++i) {
    rows[i] = static_cast<int32_t>(~static_cast<uint32_t>(scratch.keys[i]));
    scores[i] = score_of(scratch.keys[i]);
  }
  return k;
}

}  // namespace

std::int32_t walk(const Graph& graph, const float* query, std::int32_t k, Effort effort,
                  const Places* allow, WalkScratch& scratch, std::int32_t* rows, float* scores) noexcept {
  const Asked asked = quantise(graph, query, scratch.codes);
  score_entries(graph, asked, scratch);
  const Spread spread(scratch.scores, graph.entries);
  k = std::min(k, graph.count);
  Walk walk(graph, asked, k, effort, allow, scratch, spread.scale(asked.bound));
  walk.begin(spread, std::clamp(k, starts_min, starts_max));
  walk.expand(effort.expansions);

  const int32_t found = walk.finalists();
  float* dots = scratch.dots;
  graph.kernels.both(query, graph.high, graph.low, graph.width, graph.width, scratch.rows, found, dots);
  const float unit = graph.scale / 256.0f;
  if (graph.square == nullptr) {
    for (int32_t i = 0; i < found; ++i) dots[i] = dots[i] * unit + 0.0f;  // -0 becomes 0: they are equal, so must tie
  } else {
    float square = 0.0f;
    for (int32_t i = 0; i < graph.width; ++i) square += query[i] * query[i];
    for (int32_t i = 0; i < found; ++i)
      dots[i] = std::min((2.0f * (dots[i] * unit) - graph.square[scratch.rows[i]]) - square, 0.0f) + 0.0f;
  }
  return write_best(dots, found, k, scratch, rows, scores);
}

}  // namespace pairec
