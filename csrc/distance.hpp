// How near a query is to stored vectors: the inner loops of every vector search.
//
// Vectors are float32 rows of `width` lanes, a multiple of 16, the lanes beyond `dim` zero. A score is larger for a
// nearer vector: the inner product, or the negated squared distance.
//
// A score has one set of bits, whatever the machine: lane i of a row is added to partial sum i mod 16, in the order of
// i; then 16 sums fold to 8 (i and i + 8), to 4, to 2, to 1. Nothing is fused (-ffp-contract=off).
// test_index.py, "every level gives the same bits".
#pragma once
#include <cstdint>

namespace pairec {

enum class Metric : std::int32_t { ip = 0, cosine = 1, l2 = 2 };

inline constexpr std::int32_t lanes = 16;  // width is a multiple of this: one 64-byte line of floats

// Writes scores[i], the score of row rows[i], for i < count. Prefetches ahead: rows may lie anywhere.
//   query [width], vectors [>= max(rows) + 1, width], rows [count], scores [count] out
using ScoreRows = void (*)(const float* query, const float* vectors, std::int32_t width, const std::int32_t* rows,
                           std::int32_t count, float* scores) noexcept;

// The same for `count` rows that follow each other, `vectors` pointing at the first.
using ScoreRange = void (*)(const float* query, const float* vectors, std::int32_t width, std::int32_t count,
                            float* scores) noexcept;

struct Scorer {
  ScoreRows rows;
  ScoreRange range;
};

// The functions for a metric at the active level of SIMD. Cosine is the inner product of normalised vectors.
// Throws std::invalid_argument for a PAIREC_ISA that cannot be had. Called at load.
Scorer scorer(Metric metric);

// Writes to `padded` [width] the vector [dim], scaled to length 1 if `normalise`, then zeros.
// The length is summed in double, in order; a vector of length 0 stays as it is.
void prepare(const float* vector, std::int32_t dim, std::int32_t width, bool normalise, float* padded) noexcept;

}  // namespace pairec
