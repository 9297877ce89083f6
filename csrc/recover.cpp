#include "recover.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "segment.hpp"

namespace pairec {
namespace {

// A ring file mapped for reading. Bytes that a truncated file lacks read as zero: the mapping of the file lies over an
// anonymous one, so no damage to the length is a SIGBUS.
class Image {
 public:
  Image(int fd, const std::string& path, std::uint64_t file_bytes, std::uint64_t capacity)
      : bytes_(ring_page + capacity) {
    base_ = ::mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base_ == MAP_FAILED) throw FileError("cannot map ring " + path, errno);
    const std::uint64_t part = std::min(file_bytes, bytes_);
    if (part != 0 && ::mmap(base_, part, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED) {
      const int code = errno;
      ::munmap(base_, bytes_);
      throw FileError("cannot map ring " + path, code);
    }
  }
  ~Image() { ::munmap(base_, bytes_); }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  const RingPage& page() const { return *static_cast<const RingPage*>(base_); }
  const unsigned char* data() const { return static_cast<const unsigned char*>(base_) + ring_page; }

 private:
  void* base_;
  std::uint64_t bytes_;
};

struct Found {
  std::uint64_t begin, end;
  bool gap;
};

// Every record at or after `head` whose key and checksum hold, in order. Looks at each place a header can be, so it
// trusts neither head, tail nor any length: a torn or damaged record costs itself and nothing behind it. What lies at or
// beyond `end` is no record unless its checksum holds: any bytes of an earlier lap may look like a header.
std::vector<Found> find_records(const Image& image, std::uint64_t capacity, std::uint64_t head, std::uint64_t end,
                                Recovery& recovery) {
  const std::uint64_t ring_id = image.page().identity.ring_id;
  const unsigned char* data = image.data();
  std::vector<Found> found;
  for (std::uint64_t offset = 0; offset + sizeof(RecordHeader) <= capacity;) {
    RecordHeader header;
    std::memcpy(&header, data + offset, sizeof(header));
    const std::uint64_t key = header.commit ^ ring_id, position = key & ~std::uint64_t{15}, state = key & 15;
    const bool ours = (position & (capacity - 1)) == offset && position >= head &&
                      (state == record_committed || state == record_reserved);
    if (ours && state == record_committed && header.size <= capacity / 8 - sizeof(header) &&
        header.size <= capacity - offset - sizeof(header) &&
        record_crc(data + offset + sizeof(header), header.size, position) == header.crc) {
      const bool gap = is_gap(data + offset + sizeof(header), header.size);
      found.push_back({position, position + record_bytes(header.size), gap});
      offset += record_bytes(header.size);
      continue;
    }
    if (ours && position < end) ++(state == record_reserved ? recovery.unfinished : recovery.damaged);
    offset += 16;
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.begin < b.begin; });
  return found;
}

// Closes what the dead owner had open; returns what its segments hold from `head` on, and the next free sequence.
Seen read_written(const std::string& directory, const std::string& sink, std::uint64_t ring_id, std::uint64_t head,
                  std::uint64_t& sequence) {
  Seen seen;
  sequence = 0;
  for (const auto& file : list_segments(directory, sink)) {
    if (file.ring_id != ring_id) continue;
    sequence = std::max(sequence, file.sequence + 1);
    // No footer means a failed write or fdatasync: what it has beyond head is not known to be on disk, and is written
    // again; readers drop the repeats. So it is with a segment that vanishes meanwhile: another worker delivered it.
    const auto reader = file.closed ? open_segment(file) : nullptr;
    if (reader == nullptr || !reader->has_footer() || reader->footer().end <= head) continue;
    for (Record record; reader->next(record);)
      seen.add(ring_id, record.position, record.position + record_bytes(record.size));
  }
  return seen;
}

void write_missing(const std::string& directory, const std::string& sink, const Image& image, std::uint32_t slot,
                   const std::vector<Found>& found, const Seen& seen, std::uint64_t sequence, Recovery& recovery) {
  const auto& identity = image.page().identity;
  std::unique_ptr<SegmentWriter> writer;
  for (std::size_t index = 0; index < found.size();) {
    if (seen.contains(identity.ring_id, found[index].begin)) {
      recovery.repeated += !found[index++].gap;
      continue;
    }
    const std::uint64_t begin = found[index].begin, offset = begin & (identity.capacity - 1);
    std::uint64_t end = found[index].end;
    std::uint32_t records = 1, gaps = found[index].gap;
    // A block is one piece of ring: no gap, no repeat, not across the end.
    for (++index; index < found.size() && found[index].begin == end && offset + (end - begin) < identity.capacity &&
                  found[index].end - begin <= block_bytes_max && !seen.contains(identity.ring_id, end);
         ++index, ++records) {
      end = found[index].end;
      gaps += found[index].gap;
    }
    if (writer == nullptr)
      writer = std::make_unique<SegmentWriter>(directory, sink, slot, identity.ring_id, identity.created_ns, sequence);
    const int code = writer->append(image.data() + offset, begin, end, records, identity.created_ns, wall_ns());
    if (code != 0) throw FileError("cannot write the records recovered from the ring to " + directory, code);
    recovery.records += records - gaps;
  }
  if (writer == nullptr) return;
  if (const int code = writer->finish(); code != 0)
    throw FileError("cannot close the recovered segment in " + directory, code);
}

// Of the slot or the ring; of all, where the rings have no files and nobody else will ever come for them.
void repair_left_open(const std::string& directory, const std::string& sink, std::uint32_t slot, std::uint64_t ring_id,
                      bool all, Recovery& recovery) {
  for (const auto& file : list_segments(directory, sink)) {
    if (file.closed || (!all && file.slot != slot && file.ring_id != ring_id)) continue;
    if (repair_segment(directory, file)) {
      ++recovery.repaired;
    } else if (!all) {
      recovery.errors.push_back(file.path + " is being written by a live process: another ring has this slot");
    }
  }
}

}  // namespace

Recovery recover_ring(const std::string& directory, const std::string& sink, const std::string& path, const Fd& lock,
                      std::uint32_t slot, RingCounters* counters) {
  Recovery recovery;
  recovery.slot = slot;
  struct stat info = {};
  if (::fstat(lock.get(), &info) != 0) throw FileError("cannot read ring " + path, errno);
  const auto bytes = static_cast<std::uint64_t>(info.st_size);
  RingIdentity identity = {};
  read_at(lock.get(), &identity, sizeof(identity), 0, path);
  recovery.found = bytes >= ring_page && ring_identity_valid(identity);
  if (!recovery.found) {
    repair_left_open(directory, sink, slot, 0, false, recovery);
    if (bytes == 0) return recovery;
    // A second name first: without a file at `path`, another process could lock a new one behind our back.
    const std::string aside = path + ".corrupt";
    ::unlink(aside.c_str());
    if (::link(path.c_str(), aside.c_str()) != 0) throw FileError("cannot set aside damaged ring " + path, errno);
    recovery.quarantined = true;
    recovery.errors.push_back("ring " + path + " has no valid header (" + std::to_string(bytes) +
                              " bytes); kept as " + aside);
    return recovery;
  }
  recovery.slot = identity.slot;
  repair_left_open(directory, sink, slot, identity.ring_id, false, recovery);
  const Image image(lock.get(), path, bytes, identity.capacity);
  const RingPage& page = image.page();
  if (counters != nullptr) copy_counters(page.counters, *counters);
  const std::uint64_t tail = page.tail.load() & ~std::uint64_t{15};
  std::uint64_t head = page.head.load();
  if (head == tail && page.clean.load() == ring_clean_word(identity, tail)) {
    recovery.clean = true;
    return recovery;
  }
  if (bytes < ring_page + identity.capacity)
    recovery.errors.push_back("ring " + path + " is cut short: " + std::to_string(bytes) + " of " +
                              std::to_string(ring_page + identity.capacity) + " bytes");
  // Both are hints. A head that cannot be right would hide every record: then all that the ring holds is looked at.
  const bool plausible = (head & 15) == 0 && head <= tail && tail - head <= identity.capacity;
  if (!plausible) {
    recovery.errors.push_back("ring " + path + " has a damaged head or tail; took every record it holds");
    head = 0;
  }
  std::uint64_t sequence = 0;
  const Seen seen = read_written(directory, sink, identity.ring_id, head, sequence);
  const std::uint64_t end = plausible ? head + identity.capacity : std::uint64_t{1} << 44;
  const auto found = find_records(image, identity.capacity, head, end, recovery);
  write_missing(directory, sink, image, identity.slot, found, seen, sequence, recovery);
  // From here the segments have everything. The ring is emptied only now.
  RingPage closing = {};
  if (::pread(lock.get(), static_cast<void*>(&closing), sizeof(closing), 0) != sizeof(closing))
    throw FileError("cannot read ring " + path, errno);
  closing.head.store(tail);
  closing.tail.store(tail | 1);
  closing.clean.store(ring_clean_word(identity, tail));
  const auto* raw = reinterpret_cast<const unsigned char*>(&closing);
  if (const int code = write_all(lock.get(), raw, sizeof(closing), nullptr, 0, 0); code != 0)
    throw FileError("cannot mark ring " + path + " clean", code);
  return recovery;
}

std::unique_ptr<Ring> open_ring(const std::string& directory, const std::string& sink, const std::string& path,
                                std::uint64_t capacity, std::uint32_t slot, Recovery& recovery) {
  Fd lock = lock_ring(path);
  RingCounters counters = {};
  recovery = recover_ring(directory, sink, path, lock, slot, &counters);
  if (recovery.found && ::ftruncate(lock.get(), ring_page) != 0) throw FileError("cannot shrink ring " + path, errno);
  return std::make_unique<Ring>(path, capacity, slot, std::move(lock), recovery.found ? &counters : nullptr);
}

std::unique_ptr<Ring> open_memory_ring(const std::string& directory, const std::string& sink, std::uint64_t capacity,
                                       std::uint32_t slot, Recovery& recovery) {
  recovery = {};
  recovery.slot = slot;
  repair_left_open(directory, sink, slot, 0, true, recovery);
  return std::make_unique<Ring>(capacity, slot);
}

Recovery adopt_ring(const std::string& directory, const std::string& sink, const std::string& path,
                    std::uint32_t slot) {
  const Fd lock = lock_ring(path);
  const Recovery recovery = recover_ring(directory, sink, path, lock, slot, nullptr);
  if (recovery.found && ::ftruncate(lock.get(), ring_page) != 0) throw FileError("cannot shrink ring " + path, errno);
  if (recovery.quarantined && ::unlink(path.c_str()) != 0) throw FileError("cannot remove damaged ring " + path, errno);
  return recovery;
}

std::unique_ptr<Ring> open_empty_ring(const std::string& path, std::uint64_t capacity, std::uint32_t slot) {
  Fd lock = lock_ring(path);
  RingPage page = {};
  const std::size_t got = read_at(lock.get(), static_cast<void*>(&page), sizeof(page), 0, path);
  const bool clean = got == sizeof(page) && ring_identity_valid(page.identity) &&
                     page.clean.load() == ring_clean_word(page.identity, page.tail.load());
  if (got != 0 && !clean)
    throw LockedError("ring " + path + " was not closed empty; recover(directory, path) brings its records into " +
                      "a segment");
  return std::make_unique<Ring>(path, capacity, slot, std::move(lock), clean ? &page.counters : nullptr);
}

}  // namespace pairec
