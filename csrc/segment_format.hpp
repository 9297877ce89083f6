// The bytes of a segment file that both its writer and its reader must agree on. Internal to segment*.cpp.
#pragma once
#include <cstddef>
#include <string>

#include "checksum.hpp"
#include "segment.hpp"

namespace pairec {

inline constexpr std::uint64_t segment_magic = 0x3147455346525050;  // "PPRFSEG1"
inline constexpr std::uint32_t segment_version = 2;  // 1: the checksum of a record did not cover its size
inline constexpr std::uint32_t block_magic = 0x4B4C4250;   // "PBLK"
inline constexpr std::uint32_t footer_magic = 0x544F4650;  // "PFOT"

inline std::uint32_t header_crc(const SegmentHeader& header) noexcept {
  return crc32c(&header, offsetof(SegmentHeader, crc));
}
inline std::uint32_t header_crc(const BlockHeader& header) noexcept {
  return crc32c(&header.payload_crc, sizeof(header) - offsetof(BlockHeader, payload_crc));
}
inline std::uint32_t header_crc(const SegmentFooter& footer) noexcept {
  return crc32c(&footer.ring_id, sizeof(footer) - offsetof(SegmentFooter, ring_id));
}
inline bool header_valid(const SegmentHeader& header) noexcept {
  return header.magic == segment_magic && header.version == segment_version && header.crc == header_crc(header);
}
// The ring_id is a secret of the file: a client whose payload imitates a block or a footer does not know it.
inline bool block_valid(const BlockHeader& header, std::uint64_t ring_id) noexcept {
  return header.magic == block_magic && header.ring_id == ring_id && header.header_crc == header_crc(header);
}
inline bool footer_valid(const SegmentFooter& footer, std::uint64_t ring_id) noexcept {
  return footer.magic == footer_magic && footer.ring_id == ring_id && footer.crc == header_crc(footer);
}

// Counts a block into a footer.
inline void add_to_sum(SegmentFooter& sum, const BlockHeader& block) noexcept {
  if (sum.blocks == 0) {
    sum.begin = block.begin;
    sum.first_ns = block.first_ns;
  }
  ++sum.blocks;
  sum.records += block.records;
  sum.end = block.end;
  sum.last_ns = block.last_ns;
}

// File name without its ending.
std::string segment_name(const std::string& sink, std::uint32_t slot, std::uint64_t ring_id, std::uint64_t sequence);

}  // namespace pairec
