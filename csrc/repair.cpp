#include "repair.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "checksum.hpp"
#include "ring.hpp"
#include "segment_format.hpp"

namespace pairec {
namespace {

std::string stem_of(const std::string& path) { return path.substr(0, path.rfind('.')); }

// Whether `path` is still the file behind `fd`.
bool is_file(const std::string& path, int fd) {
  struct stat named = {}, held = {};
  return ::lstat(path.c_str(), &named) == 0 && ::fstat(fd, &held) == 0 && named.st_ino == held.st_ino &&
         named.st_dev == held.st_dev;
}

// Opens and locks. An empty Fd when a living process has it, or it is gone: `gone` says which.
Fd take(const std::string& path, int flags, bool& gone) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
  gone = !fd && errno == ENOENT;
  if (gone) return fd;
  if (!fd) throw FileError("cannot open " + path, errno);
  if (!lock_file(fd.get(), path)) return Fd();
  // Who held it may have renamed it between the two.
  gone = !is_file(path, fd.get());
  return gone ? Fd() : std::move(fd);
}

void check(int code, const std::string& what) {
  if (code != 0) throw FileError("cannot " + what, code);
}

// Gives the file a second name `.corrupt` (or `.corrupt2` and so on). False if it is gone.
bool keep(const std::string& directory, const std::string& path, std::string& kept_as) {
  for (int number = 1;; ++number) {
    kept_as = stem_of(path) + ".corrupt" + (number == 1 ? "" : std::to_string(number));
    if (::link(path.c_str(), kept_as.c_str()) == 0) break;
    if (errno == ENOENT) return false;
    if (errno != EEXIST) throw FileError("cannot keep " + path + " as " + kept_as, errno);
    struct stat old = {}, kept = {};
    if (::lstat(path.c_str(), &old) == 0 && ::lstat(kept_as.c_str(), &kept) == 0 && old.st_ino == kept.st_ino) break;
  }
  check(sync_directory(directory), "sync " + directory);
  return true;
}

// The records of a segment as blocks of another: each a run of positions without a gap.
class Blocks {
 public:
  Blocks(SegmentWriter& writer, const SegmentFile& file) : writer_(writer), file_(file), found_ns_(wall_ns()) {}

  void add(const Record& record, const BlockHeader& source) {
    const std::uint64_t bytes = record_bytes(record.size);
    const bool same = source.begin == source_.begin && source.magic == source_.magic;
    if (!data_.empty() && (!same || record.position != begin_ + data_.size() || data_.size() + bytes > block_bytes_max))
      flush();
    if (data_.empty()) {
      begin_ = record.position;
      source_ = source;
    }
    const std::size_t at = data_.size();
    data_.resize(at + bytes);
    RecordHeader header = {};
    header.commit = (record.position ^ file_.ring_id) | record_committed;
    header.size = record.size;
    header.crc = record_crc(record.data, record.size, record.position);
    std::memcpy(data_.data() + at, &header, sizeof(header));
    std::memcpy(data_.data() + at + sizeof(header), record.data, record.size);
    ++records_;
  }

  void flush() {
    if (data_.empty()) return;
    // Records found without their block's header were pushed some time in the life of their ring.
    const bool known = source_.magic == block_magic;
    check(writer_.append(data_.data(), begin_, begin_ + data_.size(), records_,
                         known ? source_.first_ns : file_.ring_created_ns, known ? source_.last_ns : found_ns_),
          "write the readable part of " + file_.path);
    data_.clear();
    records_ = 0;
  }

 private:
  SegmentWriter& writer_;
  const SegmentFile& file_;
  std::int64_t found_ns_;
  BlockHeader source_ = {};
  std::vector<unsigned char> data_;
  std::uint64_t begin_ = 0;
  std::uint32_t records_ = 0;
};

// Writes what is readable to `.repair` and puts that in the file's place. False if the file is gone, or another repair
// is at work: `result` says.
bool rewrite(const std::string& directory, const SegmentFile& file, Repair& result) {
  const std::string path = stem_of(file.path) + ".repair";
  bool gone = false;
  Fd fd = take(path, O_CREAT, gone);
  if (!fd) {
    result.state = gone ? RepairState::gone : RepairState::in_use;
    return false;
  }
  if (::ftruncate(fd.get(), 0) != 0) throw FileError("cannot cut " + path, errno);
  SegmentReader reader(file);
  SegmentHeader header = {};
  header.magic = segment_magic;
  header.version = segment_version;
  header.slot = file.slot;
  header.ring_id = file.ring_id;
  header.sequence = file.sequence;
  header.time_ns = reader.time_ns() != 0 ? reader.time_ns() : wall_ns();
  header.ring_created_ns = file.ring_created_ns;
  header.crc = header_crc(header);
  check(write_all(fd.get(), &header, sizeof(header), nullptr, 0, 0), "write " + path);
  SegmentFooter sum = {};
  sum.ring_id = file.ring_id;
  SegmentWriter writer(path, std::move(fd), sizeof(header), sum);
  Blocks blocks(writer, file);
  for (Record record; reader.next(record);) blocks.add(record, reader.block());
  blocks.flush();
  if (!keep(directory, file.path, result.kept_as)) {
    ::unlink(path.c_str());
    result.state = RepairState::gone;
    return false;
  }
  check(writer.finish(), "put the readable part of " + file.path + " in its place");
  return true;
}

}  // namespace

Repair repair(const std::string& directory, const SegmentFile& file) {
  Repair result;
  bool gone = false;
  Fd held;
  if (!file.closed) {
    held = take(file.path, 0, gone);
    if (!held) {
      result.state = gone ? RepairState::gone : RepairState::in_use;
      return result;
    }
  }
  try {
    SegmentReader reader(file);
    for (Record record; reader.next(record);) continue;
    result.records = reader.records();
    result.errors = reader.errors();
    const bool nothing = result.records == 0 && reader.bytes() <= sizeof(SegmentHeader);
    // In the torn tail of an open file there may be whole records: closing it would cut them off.
    if (!file.closed && (nothing || (result.errors.empty() && result.records == reader.sum().records))) {
      held.close();
      result.errors.clear();
      result.state = nothing ? RepairState::removed : RepairState::closed;
      if (!repair_segment(directory, file)) result.state = RepairState::in_use;
      return result;
    }
    if (result.errors.empty() && file.closed) return result;
    if (!file.closed) result.errors.push_back("left open, with whole records behind its last whole block");
    const auto expected = static_cast<std::int64_t>(reader.has_footer() ? reader.footer().records : 0);
    result.lost = reader.has_footer() ? expected - static_cast<std::int64_t>(result.records) : -1;
  } catch (const FileError& error) {
    if (error.code != ENOENT) throw;
    result.state = RepairState::gone;
    return result;
  }
  if (result.records == 0) {
    if (!keep(directory, file.path, result.kept_as)) {
      result.state = RepairState::gone;
      return result;
    }
    result.state = RepairState::unreadable;
  } else {
    if (!rewrite(directory, file, result)) return result;
    result.state = RepairState::rewritten;
    if (file.closed) return result;  // the rename has replaced it
  }
  if (::unlink(file.path.c_str()) != 0 && errno != ENOENT) throw FileError("cannot remove " + file.path, errno);
  check(sync_directory(directory), "sync " + directory);
  return result;
}

bool remove_leftover(const std::string& path) {
  bool gone = false;
  const Fd held = take(path, 0, gone);
  if (held && ::unlink(path.c_str()) != 0 && errno != ENOENT) throw FileError("cannot remove " + path, errno);
  return held || gone;
}

}  // namespace pairec
