#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "forest_sections.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::int8_t;
using std::size_t;
using std::uint16_t;
using std::uint32_t;
using std::uint8_t;

constexpr size_t kSetsOfByte = 8;
constexpr uint32_t kNoSet = 0, kNan = 1;  // numbers that a category feature gives to what has no class of its own

// What Ranks views, while it grows.
struct Parts {
  std::string texts;
  std::vector<double> base;
  std::vector<uint8_t> categorical;
  std::vector<Ranks::Number> numbers;
  std::vector<double> threshold;
  std::vector<float> threshold32;
  std::vector<Ranks::Piece> pieces;
  std::vector<Ranks::Category> categories;
  std::vector<uint8_t> ids, tables, turned;
  std::vector<int32_t> feature;
  std::vector<uint16_t> column;
  std::vector<uint8_t> mask;
  std::vector<int8_t> rank;
  std::vector<uint8_t> from, to, last;
  std::vector<Ranks::Step> steps;
  std::vector<double> leaves;
  std::vector<int32_t> number;
  std::vector<uint8_t> planes;
  std::vector<double> step_cover, leaf_cover;
  std::vector<Ranks::Tree> trees;
};

struct Compared {  // a numeric split, while its threshold looks for its rank
  int32_t feature;
  double threshold;
  uint32_t rule;
  size_t step;
};

struct Tested {  // a split by category
  int32_t feature;
  uint32_t rule;
  const uint32_t* words;
  size_t count;  // without trailing words of no category
  size_t step;

  auto key() const { return std::tuple(feature, count, rule & kNanRight); }
  bool operator<(const Tested& other) const {
    if (key() != other.key()) return key() < other.key();
    return std::lexicographical_compare(words, words + count, other.words, other.words + count);
  }
};

// Not a cast alone: that rounds to nearest, and a value between the two would change sides.
float round_down(double value) {
  constexpr double highest = std::numeric_limits<float>::max();
  if (value > highest) return std::isinf(value) ? float(INFINITY) : float(highest);
  if (value < -highest) return -INFINITY;
  const auto near = static_cast<float>(value);
  return near > value ? std::nextafter(near, -INFINITY) : near;
}

void set_column(Parts& parts, size_t step, size_t column, int32_t feature) {
  if (column > std::numeric_limits<uint16_t>::max()) {
    throw std::invalid_argument("the splits of features up to " + std::to_string(feature) +
                                " take more than 65536 bytes a row; fewer thresholds or sets of categories are right");
  }
  parts.steps[step].column = static_cast<uint16_t>(column);
}

// Writes `sorted` as the search tree of `depth` levels that Ranks::Number describes.
void add_thresholds(Parts& parts, const std::vector<double>& sorted, int32_t depth) {
  parts.threshold.push_back(0.0);
  for (int32_t level = 0; level < depth; ++level) {
    const size_t step = size_t(1) << (depth - level), first = step / 2 - 1;
    for (size_t i = 0; i < size_t(1) << level; ++i) {
      const size_t at = first + step * i;
      parts.threshold.push_back(at < sorted.size() ? sorted[at] : INFINITY);
    }
  }
}

int8_t clamped(int32_t rank, int32_t base) { return int8_t(std::clamp(rank - base, 0, kPiece) - kRankBias); }

// One feature's splits, sorted by threshold, get a column and a rank each.
//
// NaN and zeros: most features send them where 0.0 would go, at every split (missing type None), so the rank of 0.0
// says it all. Where that fails for some split of the feature, its splits are parted by the side they name, and the
// column of a side holds the lowest or the highest rank.
void add_number(Parts& parts, const Compared* begin, const Compared* end) {
  const auto zero_right = [](const Compared& it) { return (it.rule & kZeroRight) != 0; };
  const auto nan_right = [](const Compared& it) { return (it.rule & kNanRight) != 0; };
  const auto follows = [](const Compared& it, bool right) { return right == (0.0 > it.threshold); };
  const bool is_zero_apart = !std::all_of(begin, end, [&](auto& it) { return follows(it, zero_right(it)); });
  const bool is_nan_apart = !std::all_of(begin, end, [&](auto& it) { return follows(it, nan_right(it)); });

  std::vector<double> sorted;
  std::map<std::pair<int32_t, unsigned>, size_t> column_of;  // base, sides
  const size_t first = parts.pieces.size();
  for (const Compared* it = begin; it < end; ++it) {
    if (sorted.empty() || sorted.back() != it->threshold) sorted.push_back(it->threshold);
    const auto rank = static_cast<int32_t>(sorted.size()) - 1;
    const int32_t base = rank / kPiece * kPiece;
    const unsigned sides = unsigned(is_zero_apart && zero_right(*it)) | unsigned(is_nan_apart && nan_right(*it)) << 1;
    const auto [at, is_new] = column_of.try_emplace({base, sides}, parts.pieces.size());
    if (is_new) {
      const auto side = [](bool right) { return int8_t(right ? kPiece - kRankBias : -kRankBias); };
      parts.pieces.push_back({base, side(sides & 2), side(sides & 1), is_zero_apart, 0});
    }
    set_column(parts, it->step, at->second, it->feature);
    parts.steps[it->step].mask = 0xFF;
    parts.steps[it->step].rank = clamped(rank, base);
  }
  if (!is_nan_apart) {
    const auto below = std::lower_bound(sorted.begin(), sorted.end(), 0.0) - sorted.begin();
    for (size_t i = first; i < parts.pieces.size(); ++i) {
      parts.pieces[i].nan = clamped(static_cast<int32_t>(below), parts.pieces[i].base);
    }
  }
  const auto depth = static_cast<int32_t>(std::bit_width(sorted.size()));
  const auto columns = static_cast<uint32_t>(parts.pieces.size() - first);
  parts.numbers.push_back({parts.threshold.size(), begin->feature, depth, uint32_t(first), columns});
  parts.feature.insert(parts.feature.end(), columns, begin->feature);
  add_thresholds(parts, sorted, depth);
}

template <typename Act>
void each_category(const Tested& set, const Act& act) {
  for (size_t word = 0; word < set.count; ++word) {
    for (uint32_t bits = set.words[word]; bits != 0; bits &= bits - 1) {
      act(word * 32 + size_t(std::countr_zero(bits)));
    }
  }
}

// The number of each category [0, size): those in the same sets have the same, from 2 on. Returns how many there are.
uint32_t number_categories(const std::vector<const Tested*>& sets, std::vector<uint32_t>& number) {
  uint32_t next = kNan + 1;
  for (const Tested* set : sets) {  // each set parts the classes it cuts through
    std::unordered_map<uint32_t, uint32_t> parted;
    each_category(*set, [&](size_t category) {
      if (category >= number.size()) return;
      const auto [at, is_new] = parted.try_emplace(number[category], next);
      next += is_new;
      number[category] = at->second;
    });
  }
  std::unordered_map<uint32_t, uint32_t> final{{kNoSet, kNoSet}};  // those that some category still has
  uint32_t count = kNan + 1;
  for (uint32_t& it : number) {
    const auto [at, is_new] = final.try_emplace(it, count);
    count += is_new;
    it = at->second;
  }
  return count;
}

// The distinct sets that some splits test one feature for.
void add_category(Parts& parts, const std::vector<const Tested*>& sets) {
  size_t words = 0;
  for (const Tested* set : sets) words = std::max(words, set->count);
  Ranks::Category out{};
  out.feature = sets[0]->feature;
  out.size = static_cast<uint32_t>(std::min<size_t>(words, 1u << 26) * 32);  // a category is an int32
  std::vector<uint32_t> number(out.size, kNoSet);
  out.numbers = number_categories(sets, number);
  out.id_bytes = out.numbers <= 1u << 8 ? 1 : out.numbers <= 1u << 16 ? 2 : 4;
  out.id_begin = parts.ids.size();
  for (const uint32_t it : number) {
    for (uint32_t byte = 0; byte < out.id_bytes; ++byte) parts.ids.push_back(uint8_t(it >> 8 * byte));
  }
  out.column = static_cast<uint32_t>(parts.feature.size());
  out.columns = static_cast<uint32_t>((sets.size() + kSetsOfByte - 1) / kSetsOfByte);
  parts.feature.insert(parts.feature.end(), out.columns, out.feature);

  // Bits 0 to 6 say "outside", bit 7 "inside": a byte of it alone is negative, and bytes are compared as signed ones.
  constexpr uint8_t outside = 0x7F;
  out.table_begin = parts.tables.size();
  const size_t block = size_t(out.numbers) * kTableColumns;
  parts.tables.resize(parts.tables.size() + (out.columns + kTableColumns - 1) / kTableColumns * block, outside);
  uint8_t* tables = parts.tables.data() + out.table_begin;
  for (size_t i = 0; i < sets.size(); ++i) {
    const size_t at = i / kSetsOfByte;
    uint8_t* table = tables + at / kTableColumns * block + at % kTableColumns;
    const auto bit = uint8_t(1u << i % kSetsOfByte);
    const auto insert = [&](uint32_t which) {
      uint8_t& byte = table[size_t(which) * kTableColumns];
      byte = uint8_t((byte & ~bit) | (~outside & bit));
    };
    each_category(*sets[i], [&](size_t category) {
      if (category < number.size()) insert(number[category]);
    });
    if (!(sets[i]->rule & kNanRight)) insert(kNan);
  }
  out.turned_begin = parts.turned.size();
  if (out.numbers <= 256) {
    const size_t size = turned_bytes(out.numbers);
    parts.turned.resize(parts.turned.size() + out.columns * size);
    for (size_t at = 0; at < out.columns; ++at) {
      const uint8_t* table = tables + at / kTableColumns * block + at % kTableColumns;
      for (size_t i = 0; i < out.numbers; ++i) {
        parts.turned[out.turned_begin + at * size + i] = table[i * kTableColumns];
      }
    }
  }
  parts.categories.push_back(out);
}

void add_sets(Parts& parts, std::vector<Tested>& tested) {
  std::sort(tested.begin(), tested.end());
  for (size_t begin = 0, end = 0; begin < tested.size(); begin = end) {
    std::vector<const Tested*> distinct;
    const size_t first = parts.feature.size();
    for (; end < tested.size() && tested[end].feature == tested[begin].feature; ++end) {
      if (distinct.empty() || *distinct.back() < tested[end]) distinct.push_back(&tested[end]);
      const size_t number = distinct.size() - 1;
      Ranks::Step& step = parts.steps[tested[end].step];
      set_column(parts, tested[end].step, first + number / kSetsOfByte, tested[end].feature);
      step.mask = uint8_t(1u << number % kSetsOfByte);
      step.rank = step.mask == 0x80 ? -1 : 0;
    }
    add_category(parts, distinct);
  }
}

// Values in registers are looked up by words and bytes, not by doubles: as many instructions, of a part of the cost.
void add_planes(Parts& parts, const double* leaves, size_t count) {
  const size_t begin = parts.planes.size();
  const size_t bytes = count <= 64 ? 2 : 1, size = count <= 32 ? 32 : count <= 64 ? 64 : count <= 128 ? 128 : 256;
  parts.planes.resize(begin + 8 * size);
  for (size_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::array<uint8_t, 8>>(leaves[i]);
    for (size_t byte = 0; byte < 8; ++byte) {
      parts.planes[begin + (byte / bytes * size + i) * bytes + byte % bytes] = bits[byte];
    }
  }
}

// One tree's steps and leaves; the splits among `compared` and `tested` get their columns when all trees are known.
void add_tree(Parts& parts, const Forest& forest, const Node* nodes, int32_t count, std::vector<Compared>& compared,
              std::vector<Tested>& tested) {
  Ranks::Tree tree{};
  tree.step = static_cast<uint32_t>(parts.steps.size());
  tree.leaf = static_cast<uint32_t>(parts.leaves.size());
  tree.leaves = static_cast<uint32_t>(count + 1) / 2;
  tree.is_labelled = tree.leaves <= kLabelsMax;
  parts.leaves.resize(tree.leaf + tree.leaves);
  parts.number.resize(tree.leaf + tree.leaves);
  parts.leaf_cover.resize(tree.leaf + tree.leaves);

  std::vector<int32_t> below(size_t(count), 1), first(size_t(count), 0), place(size_t(count), 0);
  int32_t steps = 0;
  for (int32_t i = 0; i < count; ++i) place[size_t(i)] = nodes[i].next == i ? 0 : steps++;
  for (int32_t i = count - 1; i >= 0; --i) {
    const auto left = static_cast<size_t>(nodes[i].next);
    if (nodes[i].next != i) below[size_t(i)] = below[left] + below[left + 1];
  }
  for (int32_t i = 0; i < count; ++i) {
    const Node& node = nodes[i];
    const int32_t from = first[size_t(i)];
    if (node.next == i) {
      const size_t leaf = tree.leaf + size_t(from);
      parts.leaves[leaf] = node.threshold;
      parts.number[leaf] = node.feature;
      parts.leaf_cover[leaf] = node.cover;
      continue;
    }
    const auto left = static_cast<size_t>(node.next);
    const int32_t to = from + below[left];
    first[left] = from;
    first[left + 1] = to;
    const size_t step = parts.steps.size();
    const auto child = [&](size_t at, int32_t leaf) { return nodes[at].next == int32_t(at) ? ~leaf : place[at]; };
    parts.steps.push_back({0, 0, 0, {child(left, from), child(left + 1, to)}});
    parts.step_cover.push_back(node.cover);
    if (tree.is_labelled) {
      parts.from.push_back(uint8_t(from));
      parts.to.push_back(uint8_t(to));
      parts.last.push_back(uint8_t(from + below[size_t(i)] - 1));
    }
    if (!(node.rule & kBySet)) {
      compared.push_back({node.feature, node.threshold, node.rule, step});
      continue;
    }
    tree.is_masked = 1;
    const auto which = static_cast<size_t>(node.threshold);
    const uint32_t* words = forest.set.data() + forest.set_begin[which];
    size_t words_count = forest.set_begin[which + 1] - forest.set_begin[which];
    while (words_count > 0 && words[words_count - 1] == 0) --words_count;
    tested.push_back({node.feature, node.rule, words, words_count, step});
  }
  if (tree.is_labelled) {
    tree.split = static_cast<uint32_t>(parts.from.size() - size_t(steps));
    tree.plane = static_cast<uint32_t>(parts.planes.size());
    add_planes(parts, parts.leaves.data() + tree.leaf, tree.leaves);
  }
  parts.trees.push_back(tree);
}

}  // namespace

std::vector<Line> forest_compile(const Forest& forest) {
  Parts parts;
  parts.texts = forest.objective + '\n';
  for (const std::string& name : forest.names) parts.texts += name + '\n';
  parts.base = forest.base;
  parts.categorical = forest.categorical;
  std::vector<Compared> compared;
  std::vector<Tested> tested;
  for (size_t tree = 0; tree < forest.root.size(); ++tree) {
    const size_t begin = forest.root[tree];
    const size_t end = tree + 1 < forest.root.size() ? forest.root[tree + 1] : forest.nodes.size();
    add_tree(parts, forest, forest.nodes.data() + begin, int32_t(end - begin), compared, tested);
  }
  std::sort(compared.begin(), compared.end(), [](const Compared& a, const Compared& b) {
    return a.feature != b.feature ? a.feature < b.feature : a.threshold < b.threshold;
  });
  for (size_t begin = 0, end = 0; begin < compared.size(); begin = end) {
    while (end < compared.size() && compared[end].feature == compared[begin].feature) ++end;
    add_number(parts, compared.data() + begin, compared.data() + end);
  }
  add_sets(parts, tested);
  for (const double threshold : parts.threshold) parts.threshold32.push_back(round_down(threshold));
  for (const Ranks::Tree& tree : parts.trees) {
    if (!tree.is_labelled) continue;
    for (size_t i = tree.step; i < tree.step + tree.leaves - 1; ++i) {
      parts.column.push_back(parts.steps[i].column);
      parts.mask.push_back(parts.steps[i].mask);
      parts.rank.push_back(parts.steps[i].rank);
    }
  }
  // What is read as whole registers is read beyond its end.
  parts.threshold32.resize(parts.threshold32.size() + kSpareThresholds);
  const size_t splits = parts.column.size() + kSpareSplits;
  parts.column.resize(splits);
  parts.mask.resize(splits);
  parts.rank.resize(splits);
  parts.from.resize(splits);
  parts.to.resize(splits);
  parts.last.resize(splits);

  Header header{};
  header.width = forest.width;
  header.classes = forest.classes;
  header.flags = unsigned(forest.average) | unsigned(forest.is_single) << 1;
  header.columns = static_cast<uint32_t>(parts.feature.size());
  return write_sections(header, sections(parts));
}

}  // namespace pairec
