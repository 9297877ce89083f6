#include "forest_ranks.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "forest_sections.hpp"

namespace pairec {
namespace {

using std::size_t;
using std::string;
using std::uint32_t;

[[noreturn]] void refuse(const string& what) { throw std::invalid_argument("the compiled forest " + what); }

void expect(bool is_right, const char* what) {
  if (!is_right) refuse(string("is damaged: ") + what);
}

// `count` places from `begin` on, of `size`.
bool within(std::uint64_t begin, std::uint64_t count, size_t size) { return begin <= size && count <= size - begin; }

// A sound checksum does not make a sound forest: everything that is followed later is looked at once.
void check_features(const Ranks& ranks) {
  const auto is_feature = [&](std::int32_t feature) { return feature >= 0 && feature < ranks.width; };
  expect(ranks.width > 0 && ranks.categorical.size() == size_t(ranks.width), "width");
  expect(ranks.feature.size() == ranks.columns && std::all_of(ranks.feature.begin(), ranks.feature.end(), is_feature),
         "features of columns");
  expect(ranks.threshold32.size() == ranks.threshold.size() + kSpareThresholds, "thresholds");
  for (const Ranks::Number& it : ranks.numbers) {
    expect(is_feature(it.feature) && it.depth >= 0 && it.depth < 31, "a number's feature");
    expect(within(it.begin, std::uint64_t(1) << it.depth, ranks.threshold.size()), "a number's thresholds");
    expect(it.columns > 0 && within(it.column, it.columns, std::min<size_t>(ranks.pieces.size(), ranks.columns)),
           "a number's columns");
  }
  for (const Ranks::Category& it : ranks.categories) {
    expect(is_feature(it.feature) && it.numbers > 1, "a category's feature");
    expect(it.id_bytes == 1 || it.id_bytes == 2 || it.id_bytes == 4, "a category's id_bytes");
    expect(within(it.id_begin, std::uint64_t(it.size) * it.id_bytes, ranks.ids.size()), "a category's numbers");
    const auto blocks = (std::uint64_t(it.columns) + kTableColumns - 1) / kTableColumns;
    expect(it.columns <= ranks.columns &&
               within(it.table_begin, blocks * it.numbers * kTableColumns, ranks.tables.size()), "a category's tables");
    const std::uint64_t turned = it.numbers <= 256 ? std::uint64_t(it.columns) * turned_bytes(it.numbers) : 0;
    expect(it.turned_begin % sizeof(Line) == 0 && within(it.turned_begin, turned, ranks.turned.size()),
           "a category's turned tables");
    expect(within(it.column, it.columns, ranks.columns), "a category's columns");
    for (uint32_t i = 0; i < it.size; ++i) {
      uint32_t number = 0;
      std::memcpy(&number, ranks.ids.data() + it.id_begin + size_t(i) * it.id_bytes, it.id_bytes);
      expect(number < it.numbers, "a category's number");
    }
  }
}

void check_trees(const Ranks& ranks) {
  const size_t splits = ranks.column.size() - std::min(ranks.column.size(), kSpareSplits);
  for (const size_t size : {ranks.column.size(), ranks.mask.size(), ranks.rank.size(), ranks.from.size(),
                            ranks.to.size(), ranks.last.size()}) {
    expect(size == splits + kSpareSplits, "splits");
  }
  expect(ranks.number.size() == ranks.leaves.size() && ranks.leaf_cover.size() == ranks.leaves.size() &&
             ranks.step_cover.size() == ranks.steps.size(), "leaves");
  // Trees lie one after the other, and a labelled one's steps say what its splits do: what folds them is sized by both.
  size_t split = 0, step = 0, leaf = 0;
  for (const Ranks::Tree& tree : ranks.trees) {
    expect(tree.leaves > 0 && tree.leaves < 1u << 31 && within(leaf, tree.leaves, ranks.leaves.size()), "leaves");
    const uint32_t count = tree.leaves - 1;
    expect(within(step, count, ranks.steps.size()), "a tree's steps");
    expect(tree.leaf == leaf && tree.step == step, "a tree's place");
    bool is_right = true;
    for (uint32_t i = 0; i < count; ++i) {
      const Ranks::Step& it = ranks.steps[step + i];
      is_right &= it.column < ranks.columns;
      for (const std::int32_t next : it.next) {
        is_right &= next < 0 ? uint32_t(~next) < tree.leaves : uint32_t(next) > i && uint32_t(next) < count;
      }
    }
    if (tree.is_labelled) {
      const size_t leaves_in_planes = count < 32 ? 32 : count < 64 ? 64 : count < 128 ? 128 : 256;
      expect(tree.leaves <= uint32_t(kLabelsMax) && within(split, count, splits), "a tree's splits");
      expect(tree.split == split, "a tree's place");
      expect(tree.plane % sizeof(Line) == 0 && within(tree.plane, 8 * leaves_in_planes, ranks.planes.size()), "planes");
      for (size_t i = split; i < split + count; ++i) {
        const Ranks::Step& it = ranks.steps[step + i - split];
        is_right &= ranks.column[i] == it.column && ranks.mask[i] == it.mask && ranks.rank[i] == it.rank;
        is_right &= ranks.from[i] < ranks.to[i] && ranks.to[i] <= ranks.last[i] && ranks.last[i] <= count;
      }
      split += count;
    }
    expect(is_right, "a split");
    leaf += tree.leaves;
    step += count;
  }
  expect(leaf == ranks.leaves.size() && step == ranks.steps.size() && split == splits, "a tree's place");
}

}  // namespace

bool is_compiled(const void* bytes, size_t size) noexcept {
  return size >= sizeof kMagic && std::memcmp(bytes, kMagic, sizeof kMagic) == 0;
}

Ranks forest_view(const void* bytes, size_t size) {
  const auto* begin = static_cast<const std::uint8_t*>(bytes);
  Header header;
  if (!is_compiled(bytes, size)) refuse("does not begin with PRFOREST");
  if (size < sizeof header) refuse("has " + std::to_string(size) + " bytes: it is cut short");
  std::memcpy(&header, bytes, sizeof header);
  if (header.version != kVersion) {
    refuse("has version " + std::to_string(header.version) + "; this one reads " + std::to_string(kVersion) +
           ": compile the model again");
  }
  if (header.bytes != size) {
    refuse("has " + std::to_string(size) + " bytes; its header says " + std::to_string(header.bytes));
  }
  if (crc32c(begin + kUnchecked, size - kUnchecked) != header.crc32c) refuse("is damaged: its checksum differs");

  Ranks ranks;
  ranks.width = header.width;
  ranks.classes = header.classes;
  ranks.average = header.flags & 1;
  ranks.is_single = header.flags & 2;
  ranks.columns = header.columns;
  size_t which = 0;
  const auto view = [&](auto& part) {
    using Value = std::remove_reference_t<decltype(part[0])>;
    const auto [at, length] = header.section[which++];
    expect(at % sizeof(Line) == 0 && within(at, length, size) && length % sizeof(Value) == 0, "a section");
    part = {reinterpret_cast<Value*>(begin + at), length / sizeof(Value)};
  };
  std::apply([&](auto&... part) { (view(part), ...); }, sections(ranks));
  check_features(ranks);
  expect(ranks.classes > 0 && ranks.base.size() == size_t(ranks.classes) && !ranks.trees.empty() &&
             ranks.trees.size() % ranks.base.size() == 0, "classes");
  check_trees(ranks);
  return ranks;
}

}  // namespace pairec
