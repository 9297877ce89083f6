// How a compiled forest lies in its file: a header, then sections on 64-byte lines. Little-endian, as the machines are.
#pragma once
#include <bit>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "checksum.hpp"
#include "forest_ranks.hpp"

namespace pairec {

static_assert(std::endian::native == std::endian::little);

inline constexpr char kMagic[8] = {'P', 'R', 'F', 'O', 'R', 'E', 'S', 'T'};
inline constexpr std::uint32_t kVersion = 2;
inline constexpr std::size_t kSpareThresholds = 16, kSpareSplits = 64;  // read as parts of whole registers

// The parts of Ranks, or of what it is made from, in their order in the file.
template <typename Parts>
auto sections(Parts& it) {
  return std::tie(it.texts, it.base, it.categorical, it.numbers, it.threshold, it.threshold32, it.pieces, it.categories,
                  it.ids, it.tables, it.turned, it.feature, it.column, it.mask, it.rank, it.from, it.to, it.last,
                  it.steps, it.leaves, it.number, it.planes, it.step_cover, it.leaf_cover, it.trees);
}
inline constexpr std::size_t kSections = std::tuple_size_v<decltype(sections(std::declval<Ranks&>()))>;

struct Header {
  char magic[8];
  std::uint32_t version, crc32c;  // of all that follows the two
  std::uint64_t bytes;
  std::int32_t width, classes;
  std::uint32_t flags, columns;  // bit 0: average, 1: is_single
  struct {
    std::uint64_t begin, bytes;
  } section[kSections];
};
inline constexpr std::size_t kUnchecked = offsetof(Header, bytes);

template <typename Parts>
std::vector<Line> write_sections(Header header, const Parts& parts) {
  const auto lines = [](std::size_t bytes) { return (bytes + sizeof(Line) - 1) / sizeof(Line); };
  std::size_t count = lines(sizeof header), which = 0;
  const auto each = [&](const auto& act) {
    std::apply([&](const auto&... part) { (act(part.data(), part.size() * sizeof *part.data()), ...); }, parts);
  };
  each([&](const auto*, std::size_t bytes) {
    header.section[which++] = {count * sizeof(Line), bytes};
    count += lines(bytes);
  });
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.bytes = count * sizeof(Line);
  std::vector<Line> out(count);
  auto* begin = reinterpret_cast<std::uint8_t*>(out.data());
  which = 0;
  each([&](const auto* data, std::size_t bytes) {
    if (bytes > 0) std::memcpy(begin + header.section[which].begin, data, bytes);
    ++which;
  });
  std::memcpy(begin, &header, sizeof header);
  header.crc32c = crc32c(begin + kUnchecked, header.bytes - kUnchecked);
  std::memcpy(begin, &header, sizeof header);
  return out;
}

}  // namespace pairec
