#include "backlog.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <vector>

namespace pairec {

std::string Backlog::lock_path(std::uint64_t ring_id) const {
  char name[32];
  std::snprintf(name, sizeof(name), "-%016" PRIx64 ".lock", ring_id);
  return directory_ + "/" + sink_ + name;
}

// False if another worker has it. Throws FileError.
bool Backlog::lock(std::uint64_t ring_id) {
  if (locks_.count(ring_id) != 0) return true;
  const std::string path = lock_path(ring_id);
  for (;;) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) throw FileError("cannot open " + path, errno);
    if (!lock_file(fd.get(), path)) return false;
    // Its last holder may have removed it between our open and our lock.
    struct stat ours = {}, named = {};
    if (::fstat(fd.get(), &ours) != 0) throw FileError("cannot read " + path, errno);
    if (::stat(path.c_str(), &named) != 0 || named.st_ino != ours.st_ino || named.st_dev != ours.st_dev) continue;
    locks_[ring_id] = std::move(fd);
    return true;
  }
}

// Of each lock file that is there, whoever holds it.
std::vector<std::uint64_t> Backlog::locked_rings() const {
  std::vector<std::uint64_t> rings;
  DIR* entries = ::opendir(directory_.c_str());
  if (entries == nullptr) return rings;
  const std::string format = sink_ + "-%16" SCNx64 ".lock%n";
  while (const dirent* entry = ::readdir(entries)) {
    std::uint64_t ring_id = 0;
    int length = 0;
    if (std::sscanf(entry->d_name, format.c_str(), &ring_id, &length) == 1 && length != 0 &&
        entry->d_name[length] == '\0')
      rings.push_back(ring_id);
  }
  ::closedir(entries);
  return rings;
}

void Backlog::unlock_unused() {
  for (auto at = locks_.begin(); at != locks_.end();) {
    const bool used = std::any_of(segments_.begin(), segments_.end(),
                                  [&](const SpillSegment& segment) { return segment.file.ring_id == at->first; });
    if (used) {
      ++at;
      continue;
    }
    ::unlink(lock_path(at->first).c_str());
    at = locks_.erase(at);
  }
}

int Backlog::lock_own() {
  try {
    return lock(ring_id_) ? 0 : EBUSY;
  } catch (const FileError& error) {
    return error.code;
  }
}

SpillSegment& Backlog::add(const SegmentFile& file, std::uint64_t begin, std::int64_t now_ns) {
  auto& segment = segments_.emplace_back();
  segment.file = file;
  segment.writing = segment.own = true;
  segment.low = segment.resume = segment.limit = begin;
  segment.first_ns = now_ns;
  return segment;
}

int Backlog::adopt() {
  int code = 0;
  const auto keep = [&](const auto& action) {
    try {
      action();
    } catch (const FileError& error) {
      code = error.code;
    }
  };
  std::set<std::uint64_t> mine;
  // A worker that died between its lock and its first segment, or after its last one, left a lock of nothing.
  for (const std::uint64_t ring_id : locked_rings())
    if (ring_id != ring_id_) keep([&] { lock(ring_id); });
  keep([&] {
    for (const auto& file : list_segments(directory_, sink_)) {
      if (file.ring_id == ring_id_) continue;
      keep([&] {
        if (!lock(file.ring_id)) return;
        mine.insert(file.ring_id);
        if (!file.closed) repair_segment(directory_, file);
      });
    }
  });
  keep([&] {
    for (const auto& file : list_segments(directory_, sink_)) {
      const bool known = std::any_of(segments_.begin(), segments_.end(),
                                     [&](const SpillSegment& segment) { return segment.file.path == file.path; });
      if (known || !file.closed || mine.count(file.ring_id) == 0) continue;
      keep([&] {
        // Read once, to know how much waits: a footer may be missing.
        SegmentReader reader(file);
        for (Record record; reader.next(record);) continue;
        auto& segment = segments_.emplace_back();
        segment.file = file;
        segment.records = reader.records();
        segment.bytes = reader.bytes();
        segment.first_ns = reader.sum().first_ns;
      });
    }
  });
  unlock_unused();
  return code;
}

SpillSegment* Backlog::unread() {
  for (auto& segment : segments_)
    if (!segment.read_out) return &segment;
  return nullptr;
}

bool Backlog::read(SpillSegment& segment, Record& record) {
  if (segment.reader == nullptr) segment.reader = std::make_unique<SegmentReader>(segment.file);
  while (segment.reader->next(record)) {
    if (record.position >= segment.limit) break;
    if (record.position >= segment.resume) return true;
  }
  segment.read_out = true;
  return false;
}

void Backlog::rewind(SpillSegment& segment) {
  segment.read_out = false;
  segment.reader.reset();
  segment.in_window = 0;
}

std::uint32_t Backlog::remove_settled() {
  std::uint32_t damaged = 0;
  bool removed = false;
  for (auto at = segments_.begin(); at != segments_.end();) {
    if (at->writing || !at->read_out || at->in_window != 0) {
      ++at;
      continue;
    }
    // A missing footer is no damage: what was written behind the last sync is known by `limit`, or is there. Without a
    // reader nothing of it was ever promised.
    const auto errors = at->reader ? at->reader->errors() : std::vector<std::string>();
    const bool bad = std::any_of(errors.begin(), errors.end(),
                                 [](const std::string& error) { return error.rfind("no footer", 0) != 0; });
    const std::string& path = at->file.path;
    if (bad) {
      ++damaged;
      ::rename(path.c_str(), (path.substr(0, path.rfind('.')) + ".corrupt").c_str());
    } else {
      ::unlink(path.c_str());
    }
    at = segments_.erase(at);
    removed = true;
  }
  if (removed) unlock_unused();
  return damaged;
}

void Backlog::forget(SpillSegment& segment) {
  segments_.remove_if([&](const SpillSegment& other) { return &other == &segment; });
}

void Backlog::leave() {
  segments_.clear();
  unlock_unused();
}

std::uint64_t Backlog::own_low(std::uint64_t none) const {
  for (const auto& segment : segments_)
    if (segment.own) return segment.low;
  return none;
}

std::uint64_t Backlog::records() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& segment : segments_) sum += segment.records;
  return sum;
}

std::uint64_t Backlog::bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& segment : segments_) sum += segment.bytes;
  return sum;
}

}  // namespace pairec
