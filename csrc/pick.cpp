#include "pick.hpp"

#include <algorithm>
#include <numeric>

namespace pairec {

void Numbering::prepare(std::int32_t most) {
  std::size_t size = 16;  // at least twice what it will hold, so that a walk over full cells ends soon
  while (size < 2 * static_cast<std::size_t>(most)) size *= 2;
  if (cells_.size() < size) {
    cells_.assign(size, Cell{});
    now_ = 0;
  }
  clear();
}

void Numbering::clear() noexcept {
  count_ = 0;
  if (++now_ != 0) return;
  for (Cell& cell : cells_) cell.stamp = 0;  // once in four billion requests
  now_ = 1;
}

std::int32_t Numbering::of(std::int32_t key) noexcept {
  const std::size_t last = cells_.size() - 1;
  // Rows lie close together; a multiplication by an odd constant spreads them.
  std::size_t at = static_cast<std::uint32_t>(key) * 0x9E3779B97F4A7C15ull >> 32 & last;
  while (cells_[at].stamp == now_) {
    if (cells_[at].key == key) return cells_[at].number;
    at = (at + 1) & last;
  }
  cells_[at] = Cell{now_, key, count_};
  return count_++;
}

void Workspace::prepare(std::int32_t count, std::int64_t entries_most, std::int32_t lists, std::int32_t fields) {
  const auto grow = [](auto& column, std::int64_t size) {
    if (column.size() < static_cast<std::size_t>(size)) column.resize(static_cast<std::size_t>(size));
  };
  grow(entries, entries_most);
  grow(visits, entries_most);
  grow(slots, count);
  grow(source, count);
  grow(score, count);
  grow(taken, count);
  grow(spare, count);
  grow(begin, lists + 1);
  const std::int64_t cells = static_cast<std::int64_t>(std::max(fields, 1)) * count;
  grow(numbers, cells);
  grow(used, std::max<std::int64_t>(2 * cells, lists));
  grow(weight, count);
  numbering.prepare(count);
  kept = visited = 0;
}

void shuffle(std::int32_t* values, std::int32_t count, std::uint64_t seed) noexcept {
  for (std::int32_t left = count; left > 1; --left) {
    seed += 0x9E3779B97F4A7C15ull;
    std::uint64_t drawn = seed;
    drawn = (drawn ^ drawn >> 30) * 0xBF58476D1CE4E5B9ull;
    drawn = (drawn ^ drawn >> 27) * 0x94D049BB133111EBull;
    drawn ^= drawn >> 31;
    // The upper 32 bits scaled down: biased by less than one in a million for any number of candidates.
    std::swap(values[left - 1], values[(drawn >> 32) * static_cast<std::uint64_t>(left) >> 32]);
  }
}

void best_first(Entry* entries, std::int64_t count) noexcept {
  std::sort(entries, entries + count, [](const Entry& a, const Entry& b) {
    if (a.list != b.list) return a.list < b.list;
    if (a.score != b.score) return a.score > b.score;
    return a.position < b.position;
  });
}

void ranked(const Candidates& all, bool shuffled, std::uint64_t seed, Workspace& ws) noexcept {
  std::iota(ws.spare.begin(), ws.spare.begin() + all.count, 0);
  if (shuffled) shuffle(ws.spare.data(), all.count / 2, seed);
  for (std::int32_t position = 0; position < all.count; ++position) {
    const std::int32_t slot = ws.spare[position];
    ws.entries[position] = {ordered(all.score[slot]), 0, position, slot};
  }
  best_first(ws.entries.data(), all.count);
}

bool score_for(const Candidates& all, std::int32_t slot, std::uint8_t source, double& score) noexcept {
  bool found = false;
  if (all.place == nullptr) return found;
  for (std::int32_t place = all.place[slot]; place >= 0; place = all.next[place]) {
    if (all.came_source[place] != source) continue;
    score = all.came_score[place];
    found = true;
  }
  return found;
}

bool from_many(const Candidates& all, std::int32_t slot) noexcept {
  if (all.place == nullptr) return false;
  const std::int32_t first = all.place[slot];
  for (std::int32_t place = all.next[first]; place >= 0; place = all.next[place])
    if (all.came_source[place] != all.came_source[first]) return true;
  return false;
}

void merge(const std::int32_t* item, const std::int32_t* place, const std::uint8_t* source, const double* score,
           std::int32_t count, std::int32_t* next, std::uint8_t* came_source, double* came_score,
           Workspace& ws) noexcept {
  std::int32_t* last = ws.used.data();  // of each item's number, the last place so far
  for (std::int32_t slot = 0; slot < count; ++slot) {
    const std::int32_t at = place[slot];
    came_source[at] = source[slot];
    came_score[at] = score[slot];
    next[at] = -1;
    const std::int32_t known = ws.numbering.count();
    const std::int32_t number = ws.numbering.of(item[slot]);
    if (number == known) {
      ws.slots[ws.kept++] = slot;
    } else {
      next[last[number]] = at;
    }
    last[number] = at;
  }
}

void adjust_count(std::int32_t count, std::int32_t retain, bool shuffled, std::uint64_t seed, Workspace& ws) noexcept {
  std::iota(ws.slots.begin(), ws.slots.begin() + count, 0);
  ws.kept = std::min(count, retain);
  if (shuffled && count > retain) shuffle(ws.slots.data(), count, seed);
}

void completely_fair(const Candidates& all, std::int32_t retain, Workspace& ws) noexcept {
  ranked(all, false, 0, ws);
  // One list a recall, numbered as it first appears in the order of scores; a sort by list keeps that order inside.
  for (std::int32_t i = 0; i < all.count; ++i) {
    Entry& entry = ws.entries[i];
    entry.list = ws.numbering.of(all.source[entry.slot]);
    entry.position = i;
  }
  best_first(ws.entries.data(), all.count);
  std::int32_t lists = ws.numbering.count();
  for (std::int32_t i = all.count - 1; i >= 0; --i) ws.begin[ws.entries[i].list] = i;
  for (std::int32_t list = 0; list < lists; ++list) ws.spare[list] = list;  // which list is in which turn
  for (std::int32_t taken = 0; taken < std::min(retain, all.count); ++taken) {
    const std::int32_t turn = taken % lists;
    const std::int32_t list = ws.spare[turn];
    const std::int32_t at = ws.begin[list]++;
    ws.slots[taken] = ws.entries[at].slot;
    if (at + 1 == all.count || ws.entries[at + 1].list != list) ws.spare[turn] = ws.spare[--lists];
  }
  ws.kept = std::min(retain, all.count);
}

void diversity_adjust(const Candidates& all, const Share* shares, std::int32_t share_count, const std::uint8_t* matches,
                      std::uint64_t seed, Workspace& ws) noexcept {
  ranked(all, true, seed, ws);
  std::fill(ws.taken.begin(), ws.taken.begin() + all.count, std::uint8_t{0});
  std::int32_t accumulated = 0, kept = 0;
  for (std::int32_t share = 0; share < share_count; ++share) {
    const std::uint8_t* matched = matches + static_cast<std::int64_t>(share) * all.count;
    std::int64_t left = shares[share].count - (shares[share].accumulates ? accumulated : 0);
    for (std::int32_t i = 0; i < all.count && left > 0; ++i) {
      const std::int32_t slot = ws.entries[i].slot;
      if (!matched[slot]) continue;
      --left;
      if (ws.taken[slot]) continue;
      ws.taken[slot] = 1;
      ws.slots[kept++] = slot;
      accumulated += shares[share].accumulates;
    }
  }
  ws.kept = kept;
}

void unique_codes(const std::int32_t* code, std::int32_t count, Workspace& ws) noexcept {
  for (std::int32_t slot = 0; slot < count; ++slot) {
    if (code[slot] >= 0) {
      const std::int32_t known = ws.numbering.count();
      if (ws.numbering.of(code[slot]) < known) continue;
    }
    ws.slots[ws.kept++] = slot;
  }
}

}  // namespace pairec
