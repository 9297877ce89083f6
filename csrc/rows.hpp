// Vectors of 16 bits a dimension, in two planes of int8: value = scale * (high + low / 256).
//
// The high plane alone ranks well; both rank nearly as floats do. A row of either plane is `width` bytes, a multiple of
// 32, zeros beyond dim; the row of the next place is `stride` bytes on.
//
// One set of bits on every machine: the integer sums are exact; the float sums add lane i to partial sum i mod 16, in
// the order of i, then fold 16 to 8 (i and i + 8), to 4, to 2, to 1, unfused.
#pragma once
#include <cstdint>

namespace pairec {

// Writes dots[i] = sum of query * high[places[i]], for i < count. Prefetches ahead.
//   query [width] int8, -127..127; high [>= max(places) + 1, width], -127..127
// Requires width <= 65,536: the sums fit int32.
using DotHigh = void (*)(const std::int8_t* query, const std::int8_t* high, std::int32_t stride, std::int32_t width,
                         const std::int32_t* places, std::int32_t count, std::int32_t* dots) noexcept;

// Writes dots[i] = sum of query * (256 * high + low)[places[i]].  query [width] float32
using DotBoth = void (*)(const float* query, const std::int8_t* high, const std::int8_t* low, std::int32_t stride,
                         std::int32_t width,
                         const std::int32_t* places, std::int32_t count, float* dots) noexcept;

struct RowKernels {
  DotHigh high;
  DotBoth both;
  DotHigh high_near;  // the same without prefetches, for rows already asked for
};

// At the active level of SIMD. Throws std::invalid_argument for a PAIREC_ISA that cannot be had. Called at load.
RowKernels row_kernels();

}  // namespace pairec
