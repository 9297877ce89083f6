// Candidates that together span much: sliding spectrum decomposition.
#pragma once
#include "vectors.hpp"

namespace pairec {

// What a choice works in. All are [stride] unless said; the first four come filled.
struct SsdScratch {
  float* lane;          // [dim, stride] the candidates' vectors, turned
  double* scale;        // what a vector is multiplied by
  double* square;       // its squared length, neither scaled nor with the dimension that follows
  double* last;         // one dimension more, not scaled
  double* whole;        // squared lengths at the start
  double* left;         // squared lengths of what is left; minus infinity: taken
  double* sum;
  double* projection;   // [window, stride] how much of a chosen vector was taken from each
  double* chosen;       // [window, dim + 1] what was left of the chosen ones
  double* chosen_square;  // [window] their squared lengths
  double* newest;       // [dim + 1]
};

struct Ssd {
  double gamma;
  std::int32_t size;    // how many are chosen
  std::int32_t window;  // how many chosen ones are remembered. At least 2
  bool star;            // the volume stays what it is at the start
};

// Writes to `order` the candidates chosen, best first: the first is worth most, each next one has the largest
// worth + volume * length of what is left after taking away the directions of the last `window` chosen. Answers how many.
//   worth [count]      no NaN
// What is left of a vector is at right angles to all that is remembered, and these are so to each other. So the lengths
// follow from the projections, and no vector is ever changed. O(size * count * dim). Source: PAI-Rec, sort/ssd_sort.go;
// Huang and others, "Sliding spectrum decomposition for diversified recommendation" (2021).
std::int32_t ssd(const Sums& sums, const SsdScratch& scratch, const double* worth, std::int32_t count, std::int32_t dim,
                 std::int64_t stride, const Ssd& conf, std::int32_t* order) noexcept;

}  // namespace pairec
