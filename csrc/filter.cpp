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

std::int32_t compact(Arena& arena) noexcept {
  std::int32_t kept = 0;
  for (std::int32_t slot = 0; slot < arena.count; ++slot) {
    // Written always, counted only when kept: no branch to mispredict.
    arena.row[kept] = arena.row[slot];
    arena.source[kept] = arena.source[slot];
    arena.recall_score[kept] = arena.recall_score[slot];
    kept += arena.keep[slot];
  }
  arena.count = kept;
  return kept;
}

}  // namespace pairec
