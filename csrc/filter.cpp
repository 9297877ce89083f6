#include "filter.hpp"

namespace pairec {

void keep_all(Arena& arena) noexcept { std::memset(arena.keep, 1, static_cast<std::size_t>(arena.count)); }

void drop_exposed(Arena& arena, const std::int32_t* exposed, std::int32_t count) noexcept {
  arena.mark.clear();
  for (std::int32_t i = 0; i < count; ++i) arena.mark.insert(arena.overlay.item_of(exposed[i]));
  for (std::int32_t slot = 0; slot < arena.count; ++slot)
    arena.keep[slot] &= static_cast<std::uint8_t>(!arena.mark.contains(arena.overlay.item_of(arena.row[slot])));
}

void keep_allowed(Arena& arena, const std::uint8_t* allowed) noexcept {
  for (std::int32_t slot = 0; slot < arena.count; ++slot)
    arena.keep[slot] &= static_cast<std::uint8_t>(allowed[arena.row[slot]] != 0);
}

namespace {

// column[i] = column[slots[i]], in place: `scratch` takes them in between, `slots` may be in any order.
template <typename Value>
void gather(Value* column, const std::int32_t* slots, std::int32_t count, Value* scratch) noexcept {
  for (std::int32_t i = 0; i < count; ++i) scratch[i] = column[slots[i]];
  std::memcpy(column, scratch, sizeof(Value) * static_cast<std::size_t>(count));
}

}  // namespace

void select(Arena& arena, const std::int32_t* slots, std::int32_t count) noexcept {
  gather(arena.row, slots, count, arena.spare);
  gather(arena.place, slots, count, arena.spare);
  gather(arena.source, slots, count, reinterpret_cast<std::uint8_t*>(arena.spare));
  gather(arena.recall_score, slots, count, arena.scratch);
  if (arena.scored) {
    gather(arena.score, slots, count, arena.scratch);
    for (std::int32_t algo = 0; algo < arena.algos; ++algo)
      gather(arena.algo_score + static_cast<std::int64_t>(algo) * arena.candidates_max, slots, count, arena.scratch);
  }
  arena.count = count;
}

std::int32_t compact(Arena& arena) noexcept {
  if (arena.scored) {
    std::int32_t* slots = arena.order;  // nothing is ordered before the last filter
    std::int32_t live = 0;
    for (std::int32_t slot = 0; slot < arena.count; ++slot) {
      slots[live] = slot;
      live += arena.keep[slot];
    }
    select(arena, slots, live);
    return live;
  }
  std::int32_t kept = 0;
  for (std::int32_t slot = 0; slot < arena.count; ++slot) {
    // Written always, counted only when kept: no branch to mispredict.
    arena.row[kept] = arena.row[slot];
    arena.place[kept] = arena.place[slot];
    arena.source[kept] = arena.source[slot];
    arena.recall_score[kept] = arena.recall_score[slot];
    kept += arena.keep[slot];
  }
  arena.count = kept;
  return kept;
}

}  // namespace pairec
