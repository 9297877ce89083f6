// Features of user and item together: what the forest reads of a candidate beside what is known of either.
#pragma once
#include "recall.hpp"

namespace pairec {

struct Cross;

// out[i] = left [width] . right vector of items[i], for i < count: each sum in double and in order of dimension.
using Dots = void (*)(const Cross& cross, const float* left, const std::int32_t* items, std::int32_t count,
                      float* out) noexcept;

// At the active level of SIMD, the same bits at each. Throws std::invalid_argument for a PAIREC_ISA that cannot be had.
Dots dots_kernel();

// Computed for each candidate into one column.
struct Cross {
  enum class Kind : std::int32_t {
    dot,         // left vector of the user . right vector of the item, summed in double, in order of dimension
    cell,        // left[group of the user][group of the item]; one beyond `width`, which came later, is the last
    similarity,  // sum of the weights between the user's history and the item; with `newest`, mean over the newest
  };
  Kind kind;
  std::int32_t column;             // which feature
  std::int32_t width;              // dot: dimensions; cell: groups of items
  const float* left;               // dot: [users, width]; cell: [groups of users, width]
  const float* right;              // dot: [items, width]
  const std::int32_t* user_group;  // cell: [users], -1 none; null: the user's row
  const std::int32_t* item_group;  // cell: [items], -1 none; null: the item's row
  Neighbours table;                // similarity
  std::int32_t newest;             // similarity: how much of the end of the history is used; 0: all, and no division
  Dots dots;                       // dot
};

// Writes the columns of arena.features that `cross` [cross_count] name, for the live candidates; `history` are base rows
// (overlay.hpp). `user` -1: unknown, so
// features that need the user's row are NaN. Uses arena.mark, sum and touched.
void cross_features(Arena& arena, const Cross* cross, std::int32_t cross_count, std::int32_t user,
                    const std::int32_t* history, std::int32_t history_count) noexcept;

// How many of `history_count` a similarity looks at: the newest, which are the last.
inline std::int32_t used(const Cross& cross, std::int32_t history_count) noexcept {
  return cross.newest > 0 && cross.newest < history_count ? cross.newest : history_count;
}

// One cross feature for `count` pairs that need no arena: out[i] for users[i] (or -1) and items[i]. Dot and cell only.
void cross_pairs(const Cross& cross, const std::int32_t* users, const std::int32_t* items, std::int64_t count,
                 float* out) noexcept;

}  // namespace pairec
