#include "segment.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "checksum.hpp"
#include "ring.hpp"
#include "segment_format.hpp"

namespace pairec {

SegmentWriter::SegmentWriter(const std::string& directory, const std::string& sink, std::uint32_t slot,
                             std::uint64_t ring_id, std::int64_t ring_created_ns, std::uint64_t sequence)
    : directory_(directory), length_(sizeof(SegmentHeader)) {
  const std::string stem = directory + "/" + segment_name(sink, slot, ring_id, sequence);
  path_ = stem + ".open";
  closed_path_ = stem + ".seg";
  fd_ = Fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd_) throw FileError("cannot create segment " + path_, errno);
  SegmentHeader header = {};
  header.magic = segment_magic;
  header.version = segment_version;
  header.slot = slot;
  header.ring_id = ring_id;
  header.sequence = sequence;
  header.time_ns = wall_ns();
  header.ring_created_ns = ring_created_ns;
  header.crc = header_crc(header);
  int code = 0;
  struct stat info = {};
  try {
    // Between creation and lock a recovery of this slot may take an empty file for a dead process's, and remove it.
    if (!lock_file(fd_.get(), path_)) code = EBUSY;
    if (code == 0 && ::fstat(fd_.get(), &info) != 0) code = errno;
    if (code == 0 && info.st_nlink == 0) code = ENOENT;
  } catch (const FileError& error) {
    code = error.code;
  }
  if (code == 0) code = write_all(fd_.get(), &header, sizeof(header), nullptr, 0, 0);
  if (code == 0) code = sync_directory(directory);
  if (code != 0) {
    ::unlink(path_.c_str());
    throw FileError("cannot write segment " + path_, code);
  }
  footer_.ring_id = ring_id;
}

SegmentWriter::SegmentWriter(const std::string& path, Fd fd, std::uint64_t length, const SegmentFooter& sum)
    : directory_(parent_of(path)),
      path_(path),
      closed_path_(path.substr(0, path.rfind('.')) + ".seg"),
      fd_(std::move(fd)),
      length_(length),
      footer_(sum) {}

int SegmentWriter::append(const unsigned char* data, std::uint64_t begin, std::uint64_t end, std::uint32_t records,
                          std::int64_t first_ns, std::int64_t last_ns) noexcept {
  BlockHeader header = {};
  header.magic = block_magic;
  header.payload_crc = crc32c(data, end - begin);
  header.ring_id = footer_.ring_id;
  header.begin = begin;
  header.end = end;
  header.records = records;
  header.raw_bytes = header.stored_bytes = static_cast<std::uint32_t>(end - begin);
  header.first_ns = first_ns;
  header.last_ns = last_ns;
  header.header_crc = header_crc(header);
  const int code = write_all(fd_.get(), &header, sizeof(header), data, end - begin, length_);
  if (code != 0) {
    // Failing to cut it is no second error: readers find the torn block by its checksums.
    [[maybe_unused]] const int cut = ::ftruncate(fd_.get(), static_cast<off_t>(length_));
    return code;
  }
  length_ += sizeof(header) + (end - begin);
  add_to_sum(footer_, header);
  return 0;
}

int SegmentWriter::sync() noexcept { return ::fdatasync(fd_.get()) == 0 ? 0 : errno; }

int SegmentWriter::finish() noexcept {
  footer_.magic = footer_magic;
  footer_.crc = header_crc(footer_);
  int code = write_all(fd_.get(), &footer_, sizeof(footer_), nullptr, 0, length_);
  if (code != 0) {
    [[maybe_unused]] const int cut = ::ftruncate(fd_.get(), static_cast<off_t>(length_));
    return code;
  }
  code = sync();
  if (code == 0 && ::rename(path_.c_str(), closed_path_.c_str()) != 0) code = errno;
  if (code == 0) code = sync_directory(directory_);
  if (code == 0) fd_.close();
  return code;
}

void SegmentWriter::abandon() noexcept {
  if (footer_.blocks == 0) {
    ::unlink(path_.c_str());
  } else {
    // A footer is the promise that all before it is on disk.
    [[maybe_unused]] const int cut = ::ftruncate(fd_.get(), static_cast<off_t>(length_));
    ::rename(path_.c_str(), closed_path_.c_str());
  }
  fd_.close();
}

SegmentReader::SegmentReader(const SegmentFile& file) : file_(file) {
  fd_ = Fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd_) throw FileError("cannot open segment " + file.path, errno);
  struct stat info = {};
  if (::fstat(fd_.get(), &info) != 0) throw FileError("cannot read segment " + file.path, errno);
  size_ = static_cast<std::uint64_t>(info.st_size);
  sum_.ring_id = file.ring_id;
  SegmentHeader header = {};
  read_at(fd_.get(), &header, sizeof(header), 0, file.path);
  if (!header_valid(header)) {
    complain("file header is damaged");
  } else if (header.ring_id != file.ring_id || header.sequence != file.sequence) {
    complain("file header is of another segment than the name says");
  } else {
    time_ns_ = header.time_ns;
  }
  offset_ = whole_ = std::min<std::uint64_t>(size_, sizeof(header));
  if (size_ >= sizeof(header) + sizeof(footer_)) {
    read_at(fd_.get(), &footer_, sizeof(footer_), size_ - sizeof(footer_), file.path);
    has_footer_ = footer_valid(footer_, file.ring_id);
  }
}

void SegmentReader::complain(const std::string& what) {
  if (errors_.size() < 100) errors_.push_back(what);
}

// Whether a whole, self-consistent block header stands at `at`; its payload may reach beyond the file.
bool SegmentReader::read_block(std::uint64_t at, BlockHeader& header) {
  if (at + sizeof(header) > size_) return false;
  if (read_at(fd_.get(), &header, sizeof(header), at, file_.path) != sizeof(header)) return false;
  return block_valid(header, file_.ring_id);
}

// The next block header at or after `from`, or where the blocks must end.
std::uint64_t SegmentReader::find_block(std::uint64_t from) {
  const std::uint64_t end = size_ - (has_footer_ ? sizeof(footer_) : 0);
  std::vector<unsigned char> window;
  BlockHeader header;
  while (from + sizeof(header) <= end) {
    window.resize(std::min<std::uint64_t>(end - from, 1u << 20));
    window.resize(read_at(fd_.get(), window.data(), window.size(), from, file_.path));
    if (window.size() < sizeof(header)) break;
    for (std::uint64_t at = 0; at + sizeof(header) <= window.size(); at += 16) {
      std::memcpy(&header, window.data() + at, sizeof(header));
      if (block_valid(header, file_.ring_id)) return from + at;
    }
    from += (window.size() - sizeof(header)) / 16 * 16 + 16;
  }
  return end;
}

void SegmentReader::take(std::uint64_t at, std::uint64_t bytes) {
  chunk_.resize(bytes);
  chunk_.resize(read_at(fd_.get(), chunk_.data(), bytes, at, file_.path));
  chunk_at_ = at;
  cursor_ = kept_ = 0;
}

void SegmentReader::close_chunk() {
  // A block can be whole and a record in it not: one that was damaged in the ring, before the block was written.
  if ((!verified_ || (keyed_ && kept_ != expected_)) && !chunk_.empty())
    complain("damage in " + std::to_string(chunk_.size()) + " bytes at byte " + std::to_string(chunk_at_) +
             ": kept " + std::to_string(kept_) + (keyed_ ? " of " + std::to_string(expected_) : "") +
             " records by their own checksums");
  chunk_.clear();
  cursor_ = 0;
}

void SegmentReader::end_of_file(std::uint64_t blocks_end) {
  ended_ = true;
  offset_ = blocks_end;
  if (!has_footer_) {
    if (file_.closed) complain("no footer: abandoned after a write error, or cut short");
    return;
  }
  whole_ = size_ - sizeof(footer_);
  if (footer_.blocks != sum_.blocks || footer_.records != sum_.records)
    complain("footer says " + std::to_string(footer_.blocks) + " blocks and " + std::to_string(footer_.records) +
             " records, found " + std::to_string(sum_.blocks) + " and " + std::to_string(sum_.records));
}

// Makes the next piece of the file the chunk. False at the end.
bool SegmentReader::load() {
  close_chunk();
  if (ended_) return false;
  const std::uint64_t end = size_ - (has_footer_ ? sizeof(footer_) : 0);
  if (offset_ >= end) {
    end_of_file(end);
    return false;
  }
  BlockHeader header = {};
  keyed_ = read_block(offset_, header) && header.end - header.begin == header.raw_bytes;
  block_ = keyed_ ? header : BlockHeader{};
  if (keyed_ && offset_ + sizeof(header) + header.stored_bytes <= end) {
    take(offset_ + sizeof(header), header.stored_bytes);
    begin_ = header.begin;
    expected_ = header.records;
    verified_ = header.codec == 0 && crc32c(chunk_.data(), chunk_.size()) == header.payload_crc;
    offset_ += sizeof(header) + header.stored_bytes;
    whole_ = offset_;
    add_to_sum(sum_, header);
    return true;
  }
  // A header that is damaged, or a block cut off by the death of its writer.
  const std::uint64_t next = find_block(offset_ + 16);
  expected_ = header.records;
  begin_ = header.begin;
  const std::uint64_t skip = keyed_ ? sizeof(header) : 0;
  take(offset_ + skip, next - std::min(next, offset_ + skip));
  // Without a place in a block a record must lie between what was read and the block that follows: one that was copied
  // here from further on would else hide all up to there. Not absurdly far, if nothing follows.
  low_ = floor_;
  high_ = read_block(next, header) ? header.begin : floor_ + (std::uint64_t{1} << 44);
  verified_ = next == end && !has_footer_ && !file_.closed;  // the torn tail of an open file is no damage
  offset_ = next;
  return true;
}

bool SegmentReader::next(Record& record) {
  for (;;) {
    while (cursor_ + sizeof(RecordHeader) <= chunk_.size()) {
      RecordHeader header;
      std::memcpy(&header, chunk_.data() + cursor_, sizeof(header));
      const std::uint64_t key = header.commit ^ file_.ring_id;
      // In a block the place says the position. Without one the record must say it.
      const std::uint64_t position = keyed_ ? begin_ + cursor_ : key & ~std::uint64_t{15};
      const bool placed = keyed_ || (position >= low_ && position < high_);
      const unsigned char* data = chunk_.data() + cursor_ + sizeof(header);
      if (placed && (key ^ position) == record_committed && header.size <= chunk_.size() - cursor_ - sizeof(header) &&
          record_crc(data, header.size, position) == header.crc) {
        record = {data, header.size, file_.ring_id, position};
        cursor_ += std::min(record_bytes(header.size), chunk_.size() - cursor_);
        floor_ = std::max(floor_, position + record_bytes(header.size));
        ++kept_;
        ++records_;
        return true;
      }
      cursor_ += 16;
    }
    if (!load()) return false;
  }
}

}  // namespace pairec
