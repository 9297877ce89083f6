// Segment files: what the flush thread writes and everybody reads. Header, blocks, footer; all sizes are multiples of
// 16.
//
// A block's payload is the ring's bytes as they lie, record headers included, so every record carries its own checksum
// and (ring_id, position) names it for ever. `.open` is being written, `.seg` is closed; a `.seg` without footer was
// abandoned after an error. A reader never trusts a length it has not checked, and says what it had to leave out.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "file.hpp"

namespace pairec {

inline constexpr std::uint64_t block_bytes_max = 1u << 20;  // or one record, if that is larger

struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t version, slot;
  std::uint64_t ring_id, sequence;
  std::uint32_t codec, reserved;  // codec 0: as it is
  std::int64_t time_ns;           // wall clock, of this file
  std::int64_t ring_created_ns;   // wall clock, of the ring: the order of generations
  std::uint32_t reserved2, crc;   // CRC-32C of what stands before it
};
static_assert(sizeof(SegmentHeader) == 64);

struct BlockHeader {
  std::uint32_t magic, header_crc;  // CRC-32C of what follows it, payload_crc included
  std::uint32_t payload_crc, codec;
  std::uint64_t ring_id, begin, end;  // positions
  std::uint32_t records, raw_bytes, stored_bytes, reserved;
  std::int64_t first_ns, last_ns;  // wall clock: its records were pushed between the two
  std::uint64_t reserved2;
};
static_assert(sizeof(BlockHeader) == 80);

struct SegmentFooter {
  std::uint32_t magic, crc;  // CRC-32C of what follows it
  std::uint64_t ring_id, blocks, records, begin, end;
  std::int64_t first_ns, last_ns;
};
static_assert(sizeof(SegmentFooter) == 64);

struct SegmentFile {
  std::string path;
  std::uint32_t slot;
  std::uint64_t ring_id, sequence;
  bool closed;
  std::int64_t ring_created_ns;
};

// Throws std::invalid_argument unless `sink` is 1 to 64 letters, digits or underscores.
void check_sink(const std::string& sink);

// Segments of `sink`, by age of their ring, then sequence. Throws FileError.
std::vector<SegmentFile> list_segments(const std::string& directory, const std::string& sink);

struct Record {
  const unsigned char* data;
  std::uint32_t size;
  std::uint64_t ring_id, position;
};

class SegmentWriter {
 public:
  // Creates the `.open` file, mode 0600, locked. Throws FileError; no file is left then.
  SegmentWriter(const std::string& directory, const std::string& sink, std::uint32_t slot, std::uint64_t ring_id,
                std::int64_t ring_created_ns, std::uint64_t sequence);
  // Adopts an `.open` file whose first `length` bytes are whole blocks summed up in `sum`.
  SegmentWriter(const std::string& path, Fd fd, std::uint64_t length, const SegmentFooter& sum);

  // 0 or an errno; after an error the file ends where it did before.
  int append(const unsigned char* data, std::uint64_t begin, std::uint64_t end, std::uint32_t records,
             std::int64_t first_ns, std::int64_t last_ns) noexcept;
  int sync() noexcept;
  // Footer, fdatasync, rename to `.seg`, fsync of the directory. 0 or an errno.
  int finish() noexcept;
  // Leaves the file as it is, as `.seg` without footer; removes it if it holds no block.
  void abandon() noexcept;
  std::uint64_t bytes() const noexcept { return length_; }
  std::uint64_t blocks() const noexcept { return footer_.blocks; }

 private:
  std::string directory_, path_, closed_path_;
  Fd fd_;
  std::uint64_t length_;
  SegmentFooter footer_ = {};
};

class SegmentReader {
 public:
  // Throws FileError. Damage is no error: see `errors`.
  explicit SegmentReader(const SegmentFile& file);

  // The next readable record; its data lives until the next call. False at the end. Throws FileError if a read fails.
  bool next(Record& record);

  // Complete after next() has answered false.
  std::uint64_t records() const noexcept { return records_; }
  std::uint64_t bytes() const noexcept { return size_; }
  std::uint64_t torn_bytes() const noexcept { return size_ - whole_ - (has_footer_ ? sizeof(SegmentFooter) : 0); }
  bool has_footer() const noexcept { return has_footer_; }
  const SegmentFooter& footer() const noexcept { return footer_; }
  const std::vector<std::string>& errors() const noexcept { return errors_; }
  // Where the last whole block ends, and what stands before: what a repair keeps.
  std::uint64_t whole_bytes() const noexcept { return whole_; }
  const SegmentFooter& sum() const noexcept { return sum_; }
  // The header of the block that the last record was in; all zero if that is damaged.
  const BlockHeader& block() const noexcept { return block_; }
  // When the file was made, 0 if its header is damaged.
  std::int64_t time_ns() const noexcept { return time_ns_; }

 private:
  bool load();
  bool read_block(std::uint64_t at, BlockHeader& header);
  std::uint64_t find_block(std::uint64_t from);
  void take(std::uint64_t at, std::uint64_t bytes);
  void complain(const std::string& what);
  void close_chunk();
  void end_of_file(std::uint64_t blocks_end);

  SegmentFile file_;
  Fd fd_;
  std::uint64_t size_ = 0, offset_ = 0, whole_ = 0, records_ = 0;
  bool has_footer_ = false, ended_ = false;
  SegmentFooter footer_ = {}, sum_ = {};
  BlockHeader block_ = {};
  std::int64_t time_ns_ = 0;
  std::vector<std::string> errors_;
  // The piece of file being read: a block, or damaged bytes in which records are looked for.
  std::vector<unsigned char> chunk_;
  std::uint64_t chunk_at_ = 0, cursor_ = 0, begin_ = 0, expected_ = 0, kept_ = 0;
  std::uint64_t floor_ = 0, low_ = 0, high_ = 0;  // where the last record ended; what a chunk without a header may hold
  bool keyed_ = false, verified_ = false;
};

// Positions seen, per ring: segments rewritten after a failed fdatasync repeat records, and this tells.
class Seen {
 public:
  // True when the record was not there before.
  bool add(std::uint64_t ring_id, std::uint64_t position, std::uint64_t end);
  bool contains(std::uint64_t ring_id, std::uint64_t position) const;

 private:
  std::map<std::uint64_t, std::map<std::uint64_t, std::uint64_t>> rings_;  // ring_id -> begin -> end
};

// All records of a directory, in file order, each once. A segment that vanishes meanwhile is left out.
class DirectoryReader {
 public:
  DirectoryReader(const std::string& directory, const std::string& sink) : files_(list_segments(directory, sink)) {}
  bool next(Record& record);

 private:
  std::vector<SegmentFile> files_;
  std::size_t index_ = 0;
  std::unique_ptr<SegmentReader> reader_;
  Seen seen_;
};

// Opens for reading, also when the segment has been closed since it was listed. Null if it is gone. Throws FileError.
std::unique_ptr<SegmentReader> open_segment(SegmentFile file);

// Closes an `.open` file that a dead process left: cut to its last whole block, footer, rename. Removes it if it holds
// none. False if somebody alive is writing it. Throws FileError. Running it again is harmless.
bool repair_segment(const std::string& directory, const SegmentFile& file);

// The footer of a closed segment without reading the rest; false if it has none. Throws FileError.
bool read_footer(const SegmentFile& file, SegmentFooter& footer);

}  // namespace pairec
