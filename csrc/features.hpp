// What the forest reads: user values + item rows + cross features, one row of float32 per candidate.
#pragma once
#include "recall.hpp"

namespace pairec {

// A feature of user and item together, computed for each candidate into one column.
struct Cross {
  enum class Kind : std::int32_t {
    dot,         // left vector of the user . right vector of the item, summed in double, in order of dimension
    cell,        // left[group of the user][group of the item]
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
};

struct Plan {
  std::int32_t width;               // features per candidate
  std::int32_t item_count;          // columns that depend on the item alone
  const std::int32_t* item_column;  // [item_count] which feature each is
  const float* item_values;         // [items, item_count]
  std::int32_t cross_count;
  const Cross* cross;               // [cross_count]
};

// Writes arena.features [count, width]. `same` [width] holds what is equal for all candidates (user and context
// values); the item and cross columns of it are overwritten. `user` -1: unknown, so cross features that need the
// user's row are NaN. Uses arena.mark, sum and touched.
void assemble(Arena& arena, const Plan& plan, const float* same, std::int32_t user, const std::int32_t* history,
              std::int32_t history_count) noexcept;

// How many of `history_count` a similarity looks at: the newest, which are the last.
inline std::int32_t used(const Cross& cross, std::int32_t history_count) noexcept {
  return cross.newest > 0 && cross.newest < history_count ? cross.newest : history_count;
}

// One cross feature for `count` pairs that need no arena: out[i] for users[i] (or -1) and items[i]. Dot and cell only.
void cross_pairs(const Cross& cross, const std::int32_t* users, const std::int32_t* items, std::int64_t count,
                 float* out) noexcept;

}  // namespace pairec
