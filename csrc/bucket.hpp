// FNV-1, 64 bits: multiply, then xor (FNV-1a does it the other way round). The hash of A/B experiments.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pairec {

// The hash of `data` [size] bytes.
inline std::uint64_t fnv1(const unsigned char* data, std::size_t size) noexcept {
  std::uint64_t hash = 14695981039346656037u;
  for (std::size_t at = 0; at < size; ++at) hash = (hash * 1099511628211u) ^ data[at];
  return hash;
}

}  // namespace pairec
