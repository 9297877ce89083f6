#include "hnsw.hpp"

namespace pairec {
namespace {

// The unexpanded nodes, best on top: a heap of bounded room.
struct Frontier {
  Key* keys;
  std::int32_t keep;      // what a full heap is cut to
  std::int32_t capacity;
  std::int32_t count = 0;

  void push(Key key) noexcept {
    if (count == capacity) {
      std::nth_element(keys, keys + keep - 1, keys + count, std::greater<>());
      count = keep;
      std::make_heap(keys, keys + count);
    }
    keys[count++] = key;
    std::push_heap(keys, keys + count);
  }
  Key pop() noexcept {
    std::pop_heap(keys, keys + count);
    return keys[--count];
  }
};

// The row where the bottom walk begins, and its score.
Key descend(const Graph& graph, const float* query, Scratch& scratch) noexcept {
  const Vectors& vectors = graph.vectors;
  std::int32_t slot = graph.entry;
  std::int32_t row = slot;
  float score = 0.0f;
  const std::size_t stride = 2 + static_cast<std::size_t>(graph.upper_degree);
  if (graph.levels > 0) row = graph.upper[graph.levels - 1][slot * stride];
  vectors.scorer.rows(query, vectors.data, vectors.width, &row, 1, &score);
  Key best = key_of(score, row);
  for (std::int32_t level = graph.levels - 1; level >= 0; --level) {
    const std::int32_t* nodes = graph.upper[level];
    for (bool nearer = true; nearer;) {
      nearer = false;
      const std::int32_t* links = nodes + slot * stride + 2;
      std::int32_t count = 0;
      for (; count < graph.upper_degree && links[count] >= 0; ++count)
        scratch.rows[count] = nodes[links[count] * stride];
      vectors.scorer.rows(query, vectors.data, vectors.width, scratch.rows, count, scratch.scores);
      for (std::int32_t i = 0; i < count; ++i) {
        const Key key = key_of(scratch.scores[i], scratch.rows[i]);
        if (key <= best) continue;  // keys strictly rise, so the descent ends
        best = key;
        slot = links[i];
        nearer = true;
      }
    }
    slot = nodes[slot * stride + 1];
  }
  return best;
}


// Walks the bottom level best first: `budget` expansions, then on while fewer than k rows are pooled, up to `limit`.
//
// Without a filter, cutting the frontier loses nothing: a node with `effort` better ones before it is not expanded
// within the budget anyway. With one it forgets the worst of a crowded frontier.
template <bool filtered>
void walk(const Graph& graph, const float* query, Key entry, std::int32_t k, std::int64_t budget, std::int64_t limit,
          const std::uint8_t* allow, Scratch& scratch, Best& pool) noexcept {
  const Vectors& vectors = graph.vectors;
  Frontier frontier{scratch.frontier, pool.size, pool.capacity};
  scratch.visited.clear();
  scratch.visited.insert(row_of(entry));
  std::uint32_t* stamp = scratch.visited.stamp;
  const std::uint32_t now = scratch.visited.now;
  frontier.push(entry);
  if (!filtered || allow[row_of(entry)]) pool.push(entry);
  for (std::int64_t expanded = 0; frontier.count > 0 && expanded < limit;) {
    if (expanded >= budget && pool.count >= k) return;
    // Several at once: their lists arrive together, and rows are scored in a batch long enough to hide its misses.
    const std::int32_t* lists[nodes_abreast];
    std::int32_t nodes = 0;
    for (; nodes < nodes_abreast && frontier.count > 0; ++nodes) {
      const Key nearest = frontier.pop();
      if (nearest < pool.floor) break;  // a full pool that no node left can improve
      lists[nodes] = graph.links + static_cast<std::size_t>(row_of(nearest)) * graph.degree;
      for (std::int32_t i = 0; i < graph.degree; i += 16) __builtin_prefetch(lists[nodes] + i);
    }
    if (nodes == 0) return;
    expanded += nodes;
    std::int32_t count = 0;
    for (std::int32_t node = 0; node < nodes; ++node) {
      for (std::int32_t i = 0; i < graph.degree && lists[node][i] >= 0; ++i) {
        const std::int32_t row = lists[node][i];
        scratch.rows[count] = row;
        count += stamp[row] != now;  // half of them: as a branch, it would be mispredicted as often
        stamp[row] = now;
      }
    }
    vectors.scorer.rows(query, vectors.data, vectors.width, scratch.rows, count, scratch.scores);
    for (std::int32_t i = 0; i < count; ++i) {
      const Key key = key_of(scratch.scores[i], scratch.rows[i]);
      if (key <= pool.floor) continue;
      frontier.push(key);
      if (!filtered || allow[scratch.rows[i]]) pool.push(key);
    }
  }
}

}  // namespace

std::int32_t search(const Graph& graph, const float* query, std::int32_t k, std::int64_t effort,
                    const std::uint8_t* allow, std::int32_t allowed, Scratch& scratch, std::int32_t* rows,
                    float* scores) noexcept {
  const std::int64_t count = graph.vectors.count;
  if (allow == nullptr) allowed = graph.vectors.count;
  k = std::min({k, allowed, scratch.pool_max});
  if (k <= 0) return 0;
  effort = std::min(effort, count);
  // To come by k rows at all, a walk needs an expansion for every quarter of a neighbour list of them.
  const std::int64_t least = 4 * static_cast<std::int64_t>(k) / std::max(graph.degree, 1);
  const std::int64_t budget = (std::max(effort, least) * count + allowed - 1) / allowed;
  // An expansion costs what so many rows of a scan do: measured, bench_index.py, 50,000 x 64. Picked rows are dearer.
  const std::int64_t rows_worth = graph.degree / 2 * (allow == nullptr ? 3 : 1) + 1;
  if (graph.links == nullptr || budget * rows_worth >= allowed)
    return flat_search(graph.vectors, query, k, allow, scratch, rows, scores);

  const std::int64_t wanted = std::max<std::int64_t>(k, effort);
  const auto size = static_cast<std::int32_t>(std::min<std::int64_t>(wanted, scratch.pool_max));
  Best pool{scratch.pool, size, static_cast<std::int32_t>(best_capacity(size))};
  const Key entry = descend(graph, query, scratch);
  // Coming short of k within a budget already scaled by the filter, the walk is far from what is allowed (the filter
  // has to do with the query): it goes no further, for what it would find next is not the nearest.
  if (allow == nullptr)
    walk<false>(graph, query, entry, k, budget, count, allow, scratch, pool);
  else
    walk<true>(graph, query, entry, k, budget, budget, allow, scratch, pool);
  if (pool.count < k) return flat_search(graph.vectors, query, k, allow, scratch, rows, scores);
  return write_best(pool, k, rows, scores);
}

}  // namespace pairec
