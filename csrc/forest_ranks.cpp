#include "forest_ranks.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace pairec {
namespace {

using std::int32_t;
using std::size_t;
using std::uint32_t;

constexpr int32_t kPiece = 255;       // thresholds of a column
constexpr int32_t kLeavesMax = 256;   // labels of a byte
constexpr size_t kSetsOfByte = 8;

struct Compared {  // a numeric split, while its threshold looks for its rank
  int32_t feature;
  double threshold;
  unsigned rule;
  size_t split;
};

struct Tested {  // a split by category
  int32_t feature;
  const uint32_t* words;
  size_t count;  // without trailing words of no category
  size_t tree, split;
};

// Not a cast alone: that rounds to nearest, and a value between the two would change sides.
float round_down(double value) {
  constexpr double highest = std::numeric_limits<float>::max();
  if (value > highest) return std::isinf(value) ? float(INFINITY) : float(highest);
  if (value < -highest) return -INFINITY;
  const auto near = static_cast<float>(value);
  return near > value ? std::nextafter(near, -INFINITY) : near;
}

// Writes `sorted` as the search tree of `depth` levels that Ranks::Number describes.
void add_thresholds(Ranks& ranks, const std::vector<double>& sorted, int32_t depth) {
  ranks.threshold.push_back(0.0);
  for (int32_t level = 0; level < depth; ++level) {
    const size_t step = size_t(1) << (depth - level), first = step / 2 - 1;
    for (size_t i = 0; i < size_t(1) << level; ++i) {
      const size_t at = first + step * i;
      ranks.threshold.push_back(at < sorted.size() ? sorted[at] : INFINITY);
    }
  }
}

int8_t clamped(int32_t rank, int32_t base) { return int8_t(std::clamp(rank - base, 0, kPiece) - kRankBias); }

// One feature's splits, sorted by threshold, get a column and a rank each.
//
// NaN and zeros: most features send them where 0.0 would go, at every split (missing type None), so the rank of 0.0
// says it all. Where that fails for some split of the feature, its splits are parted by the side they name, and the
// column of a side holds the lowest or the highest rank.
void add_number(Ranks& ranks, const Compared* begin, const Compared* end) {
  const auto zero_right = [](const Compared& it) { return (it.rule & kZeroRight) != 0; };
  const auto nan_right = [](const Compared& it) { return (it.rule & kNanRight) != 0; };
  const auto follows = [](const Compared& it, bool right) { return right == (0.0 > it.threshold); };
  const bool is_zero_apart = !std::all_of(begin, end, [&](auto& it) { return follows(it, zero_right(it)); });
  const bool is_nan_apart = !std::all_of(begin, end, [&](auto& it) { return follows(it, nan_right(it)); });

  std::vector<double> sorted;
  std::map<std::pair<int32_t, unsigned>, uint32_t> column_of;  // base, sides
  const auto first = static_cast<uint32_t>(ranks.columns.size());
  for (const Compared* it = begin; it < end; ++it) {
    if (sorted.empty() || sorted.back() != it->threshold) sorted.push_back(it->threshold);
    const auto rank = static_cast<int32_t>(sorted.size()) - 1;
    const int32_t base = rank / kPiece * kPiece;
    const unsigned sides = unsigned(is_zero_apart && zero_right(*it)) | unsigned(is_nan_apart && nan_right(*it)) << 1;
    const auto [at, is_new] = column_of.try_emplace({base, sides}, uint32_t(ranks.columns.size()));
    if (is_new) {
      const auto side = [](bool right) { return int8_t(right ? kPiece - kRankBias : -kRankBias); };
      ranks.columns.push_back({base, side(sides & 2), side(sides & 1), is_zero_apart});
    }
    ranks.splits[it->split].column = at->second;
    ranks.splits[it->split].rank = clamped(rank, base);
  }
  if (!is_nan_apart) {
    const auto below = std::lower_bound(sorted.begin(), sorted.end(), 0.0) - sorted.begin();
    for (size_t i = first; i < ranks.columns.size(); ++i) {
      Ranks::Column& column = ranks.columns[i];
      column.nan = clamped(static_cast<int32_t>(below), column.base);
    }
  }
  const auto depth = static_cast<int32_t>(std::bit_width(sorted.size()));
  ranks.numbers.push_back({begin->feature, depth, ranks.threshold.size(), first, uint32_t(ranks.columns.size())});
  add_thresholds(ranks, sorted, depth);
}

// Values in registers are looked up by words, not by doubles: as many instructions, of a quarter of the cost.
void add_quarters(Ranks& ranks, const double* leaves, int32_t count) {
  if (count > 64) return;
  const size_t size = count > 32 ? 64 : 32, begin = ranks.quarters.size();
  ranks.quarters.resize(begin + 4 * size);
  for (int32_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint64_t>(leaves[i]);
    for (size_t k = 0; k < 4; ++k) ranks.quarters[begin + k * size + size_t(i)] = std::uint16_t(bits >> (16 * k));
  }
}

// Longest sets first, so that the tables of all sets together are in proportion to the sets.
bool is_before(const Tested& a, const Tested& b) {
  if (a.feature != b.feature) return a.feature < b.feature;
  if (a.count != b.count) return a.count > b.count;
  return std::lexicographical_compare(a.words, a.words + a.count, b.words, b.words + b.count);
}

// The table of the sets [begin, end) of a feature, the first of them the longest.
void add_table(Ranks& ranks, const Tested* const* begin, const Tested* const* end, uint32_t column, uint32_t bytes) {
  const auto size = static_cast<uint32_t>(std::min<size_t>((*begin)->count, 1u << 26) * 32);  // a category is an int32
  const auto columns = static_cast<uint32_t>((end - begin + kSetsOfByte - 1) / kSetsOfByte);
  ranks.sets.push_back({(*begin)->feature, size, ranks.outside.size(), column, columns, bytes});
  ranks.outside.resize(ranks.outside.size() + (size_t(size) + 1) * bytes, 0xFF);
  std::uint8_t* outside = ranks.outside.data() + ranks.sets.back().begin;
  for (auto it = begin; it < end; ++it) {
    const auto number = static_cast<size_t>(it - begin);
    const auto within = std::uint8_t(~(1u << number % kSetsOfByte));
    const auto categories = static_cast<uint32_t>(std::min<size_t>((*it)->count * 32, size));
    for (uint32_t category = 0; category < categories; ++category) {
      const bool is_in = (*it)->words[category / 32] >> (category % 32) & 1;
      if (is_in) outside[size_t(category) * bytes + number / kSetsOfByte] &= within;
    }
  }
}

// Until all trees are counted, a split by category holds which of its tree's memberships it reads; at last, its column.
void add_sets(Ranks& ranks, std::vector<Tested>& tested) {
  std::sort(tested.begin(), tested.end(), is_before);
  std::vector<const Tested*> distinct;
  std::vector<Ranks::Membership> membership;  // of each distinct set
  for (size_t i = 0; i < tested.size(); ++i) {
    if (i == 0 || is_before(tested[i - 1], tested[i])) distinct.push_back(&tested[i]);
  }
  auto column = static_cast<uint32_t>(ranks.columns.size());
  for (size_t begin = 0, end = 0; begin < distinct.size(); begin = end) {
    size_t words = 0;
    const size_t most = std::min(distinct.size(), begin + 16 * kSetsOfByte);
    while (end < most && distinct[end]->feature == distinct[begin]->feature) words += distinct[end++]->count;
    // 16 bytes a category are worth it for many sets, unless one of them is so long that most of them are in vain.
    const bool is_wide = end - begin > kSetsOfByte && 16 * distinct[begin]->count <= words + 64;
    if (!is_wide) end = std::min(end, begin + kSetsOfByte);
    add_table(ranks, distinct.data() + begin, distinct.data() + end, column, is_wide ? 16 : 1);
    for (size_t i = 0; i < end - begin; ++i) {
      membership.push_back({column + uint32_t(i / kSetsOfByte), std::uint8_t(1u << i % kSetsOfByte)});
    }
    column += ranks.sets.back().columns;
  }
  ranks.membership_column = column;
  size_t number = 0;
  for (const Tested& it : tested) {
    if (number + 1 < distinct.size() && &it == distinct[number + 1]) ++number;
    Ranks::Split& split = ranks.splits[it.split];
    ranks.memberships[ranks.trees[it.tree].membership + split.column] = membership[number];
    split.rank = -1;
    split.column += column;
  }
}

}  // namespace

void forest_rank(const Forest& forest, Ranks& out) {
  Ranks ranks;
  std::vector<Compared> compared;
  std::vector<Tested> tested;
  std::vector<int32_t> below, from;  // leaves below each node of a tree, the first of them
  int32_t memberships_max = 0;
  for (size_t tree = 0; tree < forest.root.size(); ++tree) {
    const size_t begin = forest.root[tree];
    const size_t end = tree + 1 < forest.root.size() ? forest.root[tree + 1] : forest.nodes.size();
    const Node* nodes = forest.nodes.data() + begin;
    const auto count = static_cast<int32_t>(end - begin);
    ranks.trees.push_back({ranks.splits.size(), ranks.leaves.size(), ranks.quarters.size(), ranks.memberships.size(), 0,
                           0, 0});
    Ranks::Tree& labelled = ranks.trees.back();
    if ((count + 1) / 2 > kLeavesMax) continue;
    below.assign(size_t(count), 1);
    from.assign(size_t(count), 0);
    for (int32_t i = count - 1; i >= 0; --i) {
      const int32_t next = nodes[i].next;
      if (next != i) below[size_t(i)] = below[size_t(next)] + below[size_t(next) + 1];
    }
    labelled.leaves = below[0];
    ranks.leaves.resize(ranks.leaves.size() + size_t(below[0]));
    for (int32_t i = 0; i < count; ++i) {
      const Node& node = nodes[i];
      const int32_t first = from[size_t(i)];
      if (node.next == i) {
        ranks.leaves[labelled.leaf + size_t(first)] = node.threshold;
        continue;
      }
      const auto left = static_cast<size_t>(node.next);
      from[left] = first;
      from[left + 1] = first + below[left];
      const size_t split = ranks.splits.size();
      ranks.splits.push_back({0, 0, std::uint8_t(first), std::uint8_t(from[left + 1])});
      ++labelled.splits;
      if (node.rule() != kBySet) {
        compared.push_back({node.feature(), node.threshold, node.rule(), split});
        continue;
      }
      const auto which = static_cast<size_t>(node.threshold);
      const uint32_t* words = forest.set.data() + forest.set_begin[which];
      size_t words_count = forest.set_begin[which + 1] - forest.set_begin[which];
      while (words_count > 0 && words[words_count - 1] == 0) --words_count;
      tested.push_back({node.feature(), words, words_count, tree, split});
      ranks.splits.back().column = uint32_t(labelled.memberships++);
      ranks.memberships.push_back({});
    }
    add_quarters(ranks, ranks.leaves.data() + labelled.leaf, labelled.leaves);
    memberships_max = std::max(memberships_max, labelled.memberships);
  }

  std::sort(compared.begin(), compared.end(), [](const Compared& a, const Compared& b) {
    return a.feature != b.feature ? a.feature < b.feature : a.threshold < b.threshold;
  });
  for (size_t begin = 0, end = 0; begin < compared.size(); begin = end) {
    while (end < compared.size() && compared[end].feature == compared[begin].feature) ++end;
    add_number(ranks, compared.data() + begin, compared.data() + end);
  }
  ranks.threshold32.reserve(ranks.threshold.size() + 16);
  for (const double threshold : ranks.threshold) ranks.threshold32.push_back(round_down(threshold));
  ranks.threshold32.resize(ranks.threshold32.size() + 16);  // the last tree may be read as a whole register
  add_sets(ranks, tested);
  ranks.columns_all = ranks.membership_column + uint32_t(memberships_max);
  out = std::move(ranks);
}

}  // namespace pairec
