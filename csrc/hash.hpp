// The hashes that PAI-Rec's expressions know: `hash` and `hash32`.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pairec::hash {

// XXH64 with seed 0 of `size` bytes. Source: the xxHash specification, sections "XXH64 algorithm description".
std::uint64_t xxh64(const void* bytes, std::size_t size) noexcept;

// MurmurHash3_x86_32 with seed 0 of `size` bytes. Source: SMHasher's description of MurmurHash3.
std::uint32_t murmur3(const void* bytes, std::size_t size) noexcept;

}  // namespace pairec::hash
