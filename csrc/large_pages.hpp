// Pages of 2 MB where the system can: random reads of many megabytes through small ones cost a tenth to a third more.
#pragma once
#include <cstddef>
#include <sys/mman.h>

namespace pairec {

constexpr std::size_t large_page = std::size_t{2} << 20;

// Asks for them in [data, data + size), at addresses that are multiples of `large_page`.
inline void use_large_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t size) noexcept {
#ifdef MADV_HUGEPAGE
  (void)madvise(data, size, MADV_HUGEPAGE);
#endif
}

}  // namespace pairec
