// Scores the candidates of a request with a compiled forest. What is known of an item alone was turned into bytes when
// the snapshot was built, one line an item; what is the same for all candidates is folded into the forest.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "fold.hpp"

namespace pairec {

enum class Side : std::uint8_t {
  shared,  // of the user or the context: one value a request
  item,    // of the item alone
  cross,   // of both: computed for each candidate
};

struct RequestPlan {
  std::vector<std::int32_t> item_place;  // [width] of a feature among those of side item
  FoldPlan fold;
  // Places in Ranks::numbers and categories, by the side of their feature.
  std::vector<std::uint32_t> shared_numbers, shared_categories, item_numbers, item_categories, cross_numbers,
      cross_categories;
  // A line: the items' columns of numbers, then the numbers of their categories.
  std::vector<std::uint16_t> line_column;  // column that each byte of a line is
  std::size_t line_bytes = 0;              // whole cache lines
  bool is_walked = false;                  // some trees have too many leaves to fold
};
RequestPlan request_plan(const Ranks& ranks, const Side* side);

// Writes the line of one item from its values: value[k * step] of the k-th feature of side item, float32 as trained.
void item_line(const Ranks& ranks, const RequestPlan& plan, const float* value, std::ptrdiff_t step,
               std::uint8_t* line) noexcept;

struct Request {
  const float* shared;       // values that are the same for all candidates
  const float* cross;        // columns of cross_step of values of candidates
  std::ptrdiff_t cross_step;
  const std::int32_t* place; // [width] which of them a feature reads
  const std::uint8_t* lines; // [items, line_bytes] or null where no feature is of the item
  const std::int32_t* row;   // [count] items
  std::int32_t count;
};

// Writes raw scores as forest_score does. `folded` null: does not fold. Allocates nothing.
void score_request(const Scorer& scorer, const RequestPlan& plan, const Scratch& scratch, Folded* folded,
                   const Request& request, double* out, std::ptrdiff_t class_step) noexcept;

}  // namespace pairec
