// The most valuable and least alike candidates: greedy choice from a determinantal point process.
#pragma once
#include "vectors.hpp"

namespace pairec {

// What a choice works in. All are [stride] unless said; the first three come filled.
struct DppScratch {
  float* lane;       // [dim, stride] the candidates' vectors, turned
  double* scale;     // what a vector is multiplied by
  double* square;    // its squared length, not scaled
  double* quality;   // exp(alpha * relevance)
  double* left;      // what is left of a candidate's own worth: d squared
  double* row;       // the kernel's row of the last one chosen
  double* sum;
  double* chain;     // [window, stride] the factor found so far: c
  double* factor;    // [max(dim, window)]
};

// Writes to `order` the candidates chosen, best first: `size` of them, all if there are fewer; each once. Answers how many.
//   relevance [count]  what each is worth by itself
//   window             so many are chosen knowing of each other; the next window forgets their directions. At least 1
//   positive           likeness is (1 + cos) / 2; else cos
// The kernel L_ij = exp(alpha r_i) likeness_ij exp(alpha r_j) is never formed: O(size * count * (dim + window)).
// When what is left falls below 1e-10 the window is filled in order. Source: PAI-Rec, sort/dpp_sort.go; Chen, Zhang and
// Zhou, "Fast greedy MAP inference for determinantal point process" (2018), algorithm 1.
std::int32_t dpp(const Sums& sums, const DppScratch& scratch, const double* relevance, std::int32_t count,
                 std::int32_t dim, std::int64_t stride, double alpha, std::int32_t size, std::int32_t window,
                 bool positive, std::int32_t* order) noexcept;

}  // namespace pairec
