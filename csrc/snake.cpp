#include "snake.hpp"

#include <algorithm>

namespace pairec {

namespace {

// The list of each source: the last share that names it, or -1.
struct Lists {
  std::int32_t of[256];

  Lists(const Share* shares, std::int32_t share_count) noexcept {
    std::fill(of, of + 256, -1);
    for (std::int32_t share = 0; share < share_count; ++share)
      if (shares[share].source >= 0) of[shares[share].source] = share;
  }
};

// Whether `place` is the last in its chain with its source: that one's score counts.
bool is_last(const Candidates& all, std::int32_t place) noexcept {
  for (std::int32_t later = all.next[place]; later >= 0; later = all.next[later])
    if (all.came_source[later] == all.came_source[place]) return false;
  return true;
}

// Entries of all lists, in the order of slots. Returns how many.
std::int32_t fill(const Candidates& all, const Lists& lists, Workspace& ws) noexcept {
  std::int32_t filled = 0;
  const auto put = [&](std::int32_t list, double score, std::int32_t slot) {
    if (list < 0) return;
    ws.entries[filled] = {ordered(score), list, filled, slot};
    ++filled;
  };
  for (std::int32_t slot = 0; slot < all.count; ++slot) {
    put(lists.of[all.source[slot]], all.score[slot], slot);
    if (!from_many(all, slot)) continue;
    for (std::int32_t place = all.place[slot]; place >= 0; place = all.next[place]) {
      const std::uint8_t source = all.came_source[place];
      if (source != all.source[slot] && is_last(all, place)) put(lists.of[source], all.came_score[place], slot);
    }
  }
  return filled;
}

}  // namespace

void snake(const Candidates& all, const Share* shares, std::int32_t share_count, std::int32_t retain, bool skips,
           Workspace& ws) noexcept {
  const std::int32_t filled = fill(all, Lists(shares, share_count), ws);
  best_first(ws.entries.data(), filled);
  std::int32_t* next = ws.used.data();  // of each list
  for (std::int32_t list = 0, at = 0; list <= share_count; ++list) {
    while (at < filled && ws.entries[at].list < list) ++at;
    ws.begin[list] = at;
    if (list < share_count) next[list] = at;
  }
  for (bool went_on = true; went_on && ws.kept < retain;) {
    went_on = false;
    for (std::int32_t list = 0; list < share_count; ++list) {
      for (std::int32_t left = shares[list].weight; left > 0 && next[list] < ws.begin[list + 1];) {
        const Entry& entry = ws.entries[next[list]];
        const std::int32_t known = ws.numbering.count();
        const std::int32_t number = ws.numbering.of(all.item[entry.slot]);
        const auto source = static_cast<std::uint8_t>(shares[list].source);
        ws.visits[ws.visited++] = {number, next[list] - ws.begin[list], entry.score, source};
        ++next[list];
        if (number < known) {
          left -= skips;
          continue;
        }
        ws.slots[ws.kept] = entry.slot;
        ws.source[ws.kept] = source;
        ws.score[ws.kept] = entry.score;
        ++ws.kept;
        --left;
        went_on = true;
      }
    }
  }
  ws.kept = std::min(ws.kept, retain);
}

}  // namespace pairec
