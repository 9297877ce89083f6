// What a scan found: keys and places side by side, and how the best of them are kept.
#pragma once
#include <cstdint>

namespace pairec {

// In the order of the scan.
struct Pool {
  std::int32_t* keys;    // [capacity] ordered scores
  std::int32_t* places;  // [capacity]
  std::int32_t capacity;
  std::int32_t count;
};

struct PoolKernels {
  // Leaves in the pool the rows that reach `floor`, in their order.
  void (*narrow)(Pool& pool, std::int32_t floor) noexcept;
  // A floor that rows of a total weight of `wanted` reach, and, ties aside, of at most `wanted + slack`.
  //   weights [pool.count]   positive, their sum at least `wanted` and within int32; or null, for 1 each
  std::int32_t (*floor_of)(const Pool& pool, const std::int32_t* weights, std::int32_t wanted,
                           std::int32_t slack) noexcept;
};

// At the active level of SIMD. Throws std::invalid_argument for a PAIREC_ISA that cannot be had. Called at load.
PoolKernels pool_kernels();

}  // namespace pairec
