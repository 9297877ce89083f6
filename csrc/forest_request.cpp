#include "forest_request.hpp"

#include <algorithm>
#include <cstring>

#include "transpose.hpp"

namespace pairec {
namespace {

using std::int32_t;
using std::ptrdiff_t;
using std::size_t;
using std::uint32_t;
using std::uint8_t;

constexpr int32_t kAhead = 96;   // candidates: their lines lie anywhere in a large table, so they are asked for early
constexpr size_t kTile = 16;

const uint8_t* line_of(const RequestPlan& plan, const Request& request, int32_t slot) noexcept {
  return request.lines + size_t(request.row[slot]) * plan.line_bytes;
}

void ask_for(const RequestPlan& plan, const Request& request, int32_t slot) noexcept {
  if (slot >= request.count) return;
  const uint8_t* line = line_of(plan, request, slot);
  for (size_t byte = 0; byte < plan.line_bytes; byte += sizeof(Line)) __builtin_prefetch(line + byte);
}

// The columns of a group that its items' lines say, and the numbers of their categories.
void fill_items(const Scorer& scorer, const RequestPlan& plan, const Request& request, int32_t begin, int32_t count,
                uint8_t* columns) noexcept {
  const Ranks& ranks = scorer.ranks;
  const uint8_t* line[kGroupRows];
  for (int32_t i = 0; i < kGroupRows; ++i) {
    line[place(scorer.level, i)] = line_of(plan, request, begin + std::min(i, count - 1));
    ask_for(plan, request, begin + i + kAhead);
  }
  const size_t columns_of_line = plan.line_column.size();
  for (size_t byte = 0; byte < columns_of_line; byte += kTile) {
    const size_t here = std::min(kTile, columns_of_line - byte);
    for (size_t group = 0; group < kGroupRows; group += kTile) {
      Bytes16 bytes[kTile];
#pragma GCC unroll 16
      for (size_t i = 0; i < kTile; ++i) std::memcpy(&bytes[i], line[group + i] + byte, sizeof bytes[i]);
      transpose_16(bytes);
      for (size_t i = 0; i < here; ++i) {
        uint8_t* out = columns + size_t(plan.line_column[byte + i]) * kBlockRows + group;
        std::memcpy(out, &bytes[i], sizeof bytes[i]);
      }
    }
  }
  size_t byte = columns_of_line;
  for (const uint32_t which : plan.item_categories) {
    const Ranks::Category& it = ranks.categories[which];
    uint32_t number[kGroupRows];
    for (int32_t i = 0; i < kGroupRows; ++i) {
      number[i] = 0;
      std::memcpy(&number[i], line[place(scorer.level, i)] + byte, it.id_bytes);
      // Lines of another forest may hold anything: test_forest_request.py, "lines of another forest".
      number[i] = std::min(number[i], it.numbers - 1);
    }
    scorer.columns.category(ranks, it, number, columns + size_t(it.column) * kBlockRows);
    byte += it.id_bytes;
  }
}

void fill_cross(const Scorer& scorer, const RequestPlan& plan, const Request& request, int32_t begin, int32_t count,
                uint8_t* columns) noexcept {
  const Ranks& ranks = scorer.ranks;
  const auto values = [&](int32_t feature) {
    return request.cross + request.place[feature] * request.cross_step + begin;
  };
  for (const uint32_t which : plan.cross_numbers) {
    const Ranks::Number& it = ranks.numbers[which];
    const float* value = values(it.feature);
    alignas(64) float padded[kGroupRows];
    if (count < kGroupRows) {
      std::copy_n(value, count, padded);
      std::fill(padded + count, padded + kGroupRows, value[count - 1]);
      value = padded;
    }
    scorer.columns.number(ranks, it, value, columns + size_t(it.column) * kBlockRows);
  }
  for (const uint32_t which : plan.cross_categories) {
    const Ranks::Category& it = ranks.categories[which];
    const float* value = values(it.feature);
    uint32_t number[kGroupRows];
    for (int32_t i = 0; i < kGroupRows; ++i) {
      number[i] = category_number(ranks, it, double(value[std::min(i, count - 1)]));
    }
    scorer.columns.category(ranks, it, number, columns + size_t(it.column) * kBlockRows);
  }
}

// The bytes of what is the same for all candidates.
void fill_shared(const Ranks& ranks, const RequestPlan& plan, const Request& request, uint8_t* row) noexcept {
  const auto value = [&](int32_t feature) { return double(request.shared[request.place[feature]]); };
  for (const uint32_t which : plan.shared_numbers) {
    const Ranks::Number& it = ranks.numbers[which];
    bin_number(ranks, it, value(it.feature), row + it.column, 1);
  }
  for (const uint32_t which : plan.shared_categories) {
    const Ranks::Category& it = ranks.categories[which];
    bin_category(ranks, it, category_number(ranks, it, value(it.feature)), row + it.column);
  }
}

void spread(const Ranks& ranks, uint32_t column, uint32_t count, const Scratch& scratch) noexcept {
  for (uint32_t i = column; i < column + count; ++i) {
    std::memset(scratch.columns + size_t(i) * kBlockRows, scratch.row[i], kBlockRows);
  }
}

}  // namespace

RequestPlan request_plan(const Ranks& ranks, const Side* side) {
  RequestPlan plan;
  std::vector<uint8_t> is_shared;
  int32_t items = 0;
  for (int32_t i = 0; i < ranks.width; ++i) {
    is_shared.push_back(side[i] == Side::shared);
    plan.item_place.push_back(items);
    items += side[i] == Side::item;
  }
  plan.fold = fold_plan(ranks, is_shared.data());
  const auto tell_apart = [&](const auto& all, auto& shared, auto& item, auto& cross) {
    for (uint32_t i = 0; i < all.size(); ++i) {
      const Side it = side[all[i].feature];
      (it == Side::shared ? shared : it == Side::item ? item : cross).push_back(i);
    }
  };
  tell_apart(ranks.numbers, plan.shared_numbers, plan.item_numbers, plan.cross_numbers);
  tell_apart(ranks.categories, plan.shared_categories, plan.item_categories, plan.cross_categories);
  for (const uint32_t which : plan.item_numbers) {
    const Ranks::Number& it = ranks.numbers[which];
    for (uint32_t i = 0; i < it.columns; ++i) plan.line_column.push_back(std::uint16_t(it.column + i));
  }
  plan.line_bytes = plan.line_column.size();
  for (const uint32_t which : plan.item_categories) plan.line_bytes += ranks.categories[which].id_bytes;
  plan.line_bytes = (plan.line_bytes + sizeof(Line) - 1) / sizeof(Line) * sizeof(Line);
  for (const Ranks::Tree& tree : ranks.trees) plan.is_walked |= !tree.is_labelled;
  return plan;
}

void item_line(const Ranks& ranks, const RequestPlan& plan, const float* value, ptrdiff_t step,
               uint8_t* line) noexcept {
  std::memset(line, 0, plan.line_bytes);
  const auto of = [&](int32_t feature) { return double(value[plan.item_place[size_t(feature)] * step]); };
  for (const uint32_t which : plan.item_numbers) {
    const Ranks::Number& it = ranks.numbers[which];
    bin_number(ranks, it, of(it.feature), line, 1);
    line += it.columns;
  }
  for (const uint32_t which : plan.item_categories) {
    const Ranks::Category& it = ranks.categories[which];
    const uint32_t number = category_number(ranks, it, of(it.feature));
    std::memcpy(line, &number, it.id_bytes);
    line += it.id_bytes;
  }
}

void score_request(const Scorer& scorer, const RequestPlan& plan, const Scratch& scratch, Folded* folded,
                   const Request& request, double* out, ptrdiff_t class_step) noexcept {
  const Ranks& ranks = scorer.ranks;
  const bool has_items = plan.line_bytes > 0;
  if (has_items) {
    for (int32_t slot = 0; slot < kAhead; ++slot) ask_for(plan, request, slot);
  }
  fill_shared(ranks, plan, request, scratch.row);
  const Labels* trees = scorer.trees.data();
  if (folded != nullptr) {
    fold_kernel(scorer.level)(ranks, plan.fold, scratch.row, *folded);
    trees = folded->trees.data();
  }
  if (folded == nullptr || plan.is_walked) {
    for (const uint32_t which : plan.shared_numbers) {
      spread(ranks, ranks.numbers[which].column, ranks.numbers[which].columns, scratch);
    }
    for (const uint32_t which : plan.shared_categories) {
      spread(ranks, ranks.categories[which].column, ranks.categories[which].columns, scratch);
    }
  }
  for (int32_t block = 0; block < request.count; block += kBlockRows) {
    const int32_t count = std::min(kBlockRows, request.count - block);
    for (int32_t group = 0; group < count; group += kGroupRows) {
      uint8_t* columns = scratch.columns + group;
      const int32_t here = std::min(kGroupRows, count - group);
      if (has_items) fill_items(scorer, plan, request, block + group, here, columns);
      fill_cross(scorer, plan, request, block + group, here, columns);
    }
    score_block(scorer, trees, scratch, count, out + block, 1, class_step);
  }
}

}  // namespace pairec
