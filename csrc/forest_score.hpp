// Scores rows of values with a compiled forest, bit for bit as its maker does.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "forest_label.hpp"

namespace pairec {

// A compiled forest and the kernels of the active level of SIMD.
struct Scorer {
  Ranks ranks;
  Isa level;
  ColumnKernels columns;
  AddTrees add_trees;
  std::vector<Labels> trees;  // those of too many leaves to label have null splits
};

// Throws std::invalid_argument as forest_view, and for a PAIREC_ISA that cannot be had.
Scorer scorer_of(const void* bytes, std::size_t size);

// All memory the functions below need beside their arguments, 64-byte aligned; one call at a time.
struct Scratch {
  double* sums;           // [kBlockRows]
  std::int32_t* leaf;     // [kBlockRows]
  std::uint8_t* row;      // [columns]
  std::uint8_t* columns;  // [columns, kBlockRows]
};
std::size_t scratch_bytes(const Ranks& ranks) noexcept;
Scratch scratch_of(const Ranks& ranks, void* memory) noexcept;

// Writes the raw score of row i and class k to out[i * row_step + k * class_step], apart from the rows.
// Adds leaves in tree order: Booster.predict(raw_score=True), same bits. Allocates nothing.
void forest_score(const Scorer& scorer, const Scratch& scratch, const Rows& rows, double* out,
                  std::ptrdiff_t row_step, std::ptrdiff_t class_step) noexcept;

// Writes the leaf, numbered as the model's maker does, that row i reaches in tree k to out[i * trees + k].
void forest_leaves(const Scorer& scorer, const Scratch& scratch, const Rows& rows, std::int32_t* out) noexcept;

// Scores `count` <= kBlockRows rows whose columns are filled; `trees` are the scorer's or what folding left of them.
void score_block(const Scorer& scorer, const Labels* trees, const Scratch& scratch, std::int32_t count, double* out,
                 std::ptrdiff_t row_step, std::ptrdiff_t class_step) noexcept;

}  // namespace pairec
