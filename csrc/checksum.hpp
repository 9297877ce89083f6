// CRC-32C (Castagnoli), the checksum of snapshot files, ring records and segment blocks.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pairec {
namespace detail {

inline constexpr auto crc32c_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}();

inline std::uint32_t crc32c_portable(std::uint32_t crc, const unsigned char* data, std::size_t size) noexcept {
  for (; size > 0; --size) crc = (crc >> 8) ^ crc32c_table[(crc ^ *data++) & 0xFF];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) inline std::uint32_t crc32c_sse42(std::uint32_t crc, const unsigned char* data,
                                                                    std::size_t size) noexcept {
  std::uint64_t wide = crc;
  for (; size >= 8; size -= 8, data += 8) {
    std::uint64_t word;
    std::memcpy(&word, data, 8);
    wide = __builtin_ia32_crc32di(wide, word);
  }
  crc = static_cast<std::uint32_t>(wide);
  for (; size > 0; --size) crc = __builtin_ia32_crc32qi(crc, *data++);
  return crc;
}
#endif

}  // namespace detail

// The checksum of `data` [size] bytes, continued from `seed` (0 to begin).
inline std::uint32_t crc32c(const void* data, std::size_t size, std::uint32_t seed = 0) noexcept {
  const auto* bytes = static_cast<const unsigned char*>(data);
  std::uint32_t crc = ~seed;
#if defined(__x86_64__)
  static const bool has_sse42 = __builtin_cpu_supports("sse4.2");
  crc = has_sse42 ? detail::crc32c_sse42(crc, bytes, size) : detail::crc32c_portable(crc, bytes, size);
#else
  crc = detail::crc32c_portable(crc, bytes, size);
#endif
  return ~crc;
}

}  // namespace pairec
