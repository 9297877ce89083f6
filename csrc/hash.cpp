#include "hash.hpp"

#include <bit>
#include <cstring>

namespace pairec::hash {
namespace {

// Both hashes read little-endian words; every machine we build for is little-endian.
static_assert(std::endian::native == std::endian::little);

template <class Word>
Word read(const unsigned char* at) noexcept {
  Word word;
  std::memcpy(&word, at, sizeof(word));  // the bytes of a text are aligned to nothing
  return word;
}

constexpr std::uint64_t p1 = 0x9E3779B185EBCA87, p2 = 0xC2B2AE3D27D4EB4F, p3 = 0x165667B19E3779F9;
constexpr std::uint64_t p4 = 0x85EBCA77C2B2AE63, p5 = 0x27D4EB2F165667C5;

std::uint64_t step(std::uint64_t lane, std::uint64_t word) noexcept { return std::rotl(lane + word * p2, 31) * p1; }

std::uint64_t join(std::uint64_t sum, std::uint64_t lane) noexcept { return (sum ^ step(0, lane)) * p1 + p4; }

constexpr std::uint32_t c1 = 0xCC9E2D51, c2 = 0x1B873593;

std::uint32_t scramble(std::uint32_t word) noexcept { return std::rotl(word * c1, 15) * c2; }

}  // namespace

std::uint64_t xxh64(const void* bytes, std::size_t size) noexcept {
  const auto* at = static_cast<const unsigned char*>(bytes);
  const auto* const end = at + size;
  std::uint64_t sum = p5;
  if (size >= 32) {
    std::uint64_t lanes[4] = {p1 + p2, p2, 0, 0 - p1};
    for (; end - at >= 32; at += 32)
      for (int lane = 0; lane < 4; ++lane) lanes[lane] = step(lanes[lane], read<std::uint64_t>(at + 8 * lane));
    sum = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) + std::rotl(lanes[3], 18);
    for (const std::uint64_t lane : lanes) sum = join(sum, lane);
  }
  sum += size;
  for (; end - at >= 8; at += 8) sum = std::rotl(sum ^ step(0, read<std::uint64_t>(at)), 27) * p1 + p4;
  if (end - at >= 4) {
    sum = std::rotl(sum ^ (read<std::uint32_t>(at) * p1), 23) * p2 + p3;
    at += 4;
  }
  for (; at != end; ++at) sum = std::rotl(sum ^ (*at * p5), 11) * p1;
  sum = (sum ^ (sum >> 33)) * p2;
  sum = (sum ^ (sum >> 29)) * p3;
  return sum ^ (sum >> 32);
}

std::uint32_t murmur3(const void* bytes, std::size_t size) noexcept {
  const auto* at = static_cast<const unsigned char*>(bytes);
  std::uint32_t sum = 0;
  std::size_t left = size;
  for (; left >= 4; left -= 4, at += 4) sum = std::rotl(sum ^ scramble(read<std::uint32_t>(at)), 13) * 5 + 0xE6546B64;
  std::uint32_t tail = 0;
  for (std::size_t k = 0; k < left; ++k) tail |= static_cast<std::uint32_t>(at[k]) << (8 * k);
  sum ^= scramble(tail);  // of an empty tail it is 0
  sum ^= static_cast<std::uint32_t>(size);
  sum = (sum ^ (sum >> 16)) * 0x85EBCA6B;
  sum = (sum ^ (sum >> 13)) * 0xC2B2AE35;
  return sum ^ (sum >> 16);
}

}  // namespace pairec::hash
