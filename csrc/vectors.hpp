// The vectors of a request's candidates, turned: dimension by dimension, candidate after candidate.
//
// Sorts that weigh likeness ask for the products of one vector with all others, many times. Turned, a candidate is a
// lane: nothing is folded, so a product is summed in the order of the dimensions whatever the width of the machine's
// vectors, and all levels of SIMD give the same bits (test_vectors.py). Products are summed in double from float32:
// that vectors depend on each other then shows to 1e-16, not to 1e-7.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pairec {

inline constexpr std::int32_t turned_block = 32;  // lanes taken at once

// How far apart the dimensions lie, in numbers, for `count` candidates: whole blocks, and one line more, or the lines of
// one candidate would all fall into few sets of the cache where `count` is near a power of two.
inline constexpr std::int64_t turned_stride(std::int64_t count) noexcept {
  return (count + turned_block - 1) / turned_block * turned_block + 16;
}

// Writes to `lane` [dim, stride] the vectors rows[i] of `table` [any, dim], i < count; zeros for a row below 0 and for
// the lanes from `count` to the end of its block.
void turn(const float* table, std::int32_t dim, const std::int32_t* rows, std::int32_t count, std::int64_t stride,
          float* lane) noexcept;

// Writes sum[i] = factor[0] * lane[0][i] + factor[1] * lane[1][i] + ..., added in that order, to all lanes of the blocks
// that `count` reaches into.
using SumNarrow = void (*)(const float* lane, std::int32_t dim, std::int64_t stride, std::int32_t count,
                           const double* factor, double* sum) noexcept;
using SumWide = void (*)(const double* lane, std::int32_t dim, std::int64_t stride, std::int32_t count,
                         const double* factor, double* sum) noexcept;


// Writes square[i] = lane[0][i] squared + lane[1][i] squared + ..., to the same lanes.
using Squares = void (*)(const float* lane, std::int32_t dim, std::int64_t stride, std::int32_t count,
                         double* square) noexcept;

struct Sums {
  SumNarrow narrow;
  SumWide wide;
  Squares squares;
};

// The functions at the active level of SIMD. Throws std::invalid_argument for a PAIREC_ISA that cannot be had.
Sums sums();

// Writes to `scale` [count] what makes a vector of squared length `square` one of length 1, or 1 unless `normalise`; and 0
// for a vector that is missing: all zeros, or with a number that is none. Answers how many are missing.
std::int32_t weigh(const double* square, std::int32_t count, bool normalise, double* scale) noexcept;

// Gives each vector with scale 0 a direction drawn evenly from all: its lane of `lane` [dim, stride], its `square` and the
// `scale` to length 1. The same `seed` draws the same.
void draw(std::uint64_t seed, std::int32_t dim, std::int64_t stride, std::int32_t count, float* lane, double* square,
          double* scale) noexcept;

// A number from `seed` in which every bit depends on every bit. Source: splitmix64's finisher, public domain.
inline std::uint64_t mixed(std::uint64_t seed) noexcept {
  seed += 0x9E3779B97F4A7C15u;
  seed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9u;
  seed = (seed ^ (seed >> 27)) * 0x94D049BB133111EBu;
  return seed ^ (seed >> 31);
}

}  // namespace pairec
