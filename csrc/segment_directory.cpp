// Segments as a set of files: names, order, repeats, repair.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <tuple>

#include "segment_format.hpp"

namespace pairec {
namespace {

bool ends_with(const std::string& text, const char* end) {
  const std::size_t size = std::strlen(end);
  return text.size() >= size && text.compare(text.size() - size, size, end) == 0;
}

bool parse_name(const std::string& name, const std::string& sink, SegmentFile& file) {
  if (name.compare(0, sink.size() + 1, sink + "-") != 0) return false;
  file.closed = ends_with(name, ".seg");
  if (!file.closed && !ends_with(name, ".open")) return false;
  if (std::sscanf(name.c_str() + sink.size() + 1, "%" SCNu32 "-%16" SCNx64 "-%20" SCNu64, &file.slot, &file.ring_id,
                  &file.sequence) != 3)
    return false;
  return name == segment_name(sink, file.slot, file.ring_id, file.sequence) + (file.closed ? ".seg" : ".open");
}

// When the ring of this file was created, 0 if the header cannot say.
std::int64_t ring_created(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  SegmentHeader header = {};
  const bool whole = ::pread(fd, &header, sizeof(header), 0) == sizeof(header) && header_valid(header);
  ::close(fd);
  return whole ? header.ring_created_ns : 0;
}

}  // namespace

std::string segment_name(const std::string& sink, std::uint32_t slot, std::uint64_t ring_id, std::uint64_t sequence) {
  char tail[64];
  std::snprintf(tail, sizeof(tail), "-%" PRIu32 "-%016" PRIx64 "-%012" PRIu64, slot, ring_id, sequence);
  return sink + tail;
}

void check_sink(const std::string& sink) {
  const auto good = [](unsigned char letter) { return letter < 128 && (std::isalnum(letter) || letter == '_'); };
  if (sink.empty() || sink.size() > 64 || !std::all_of(sink.begin(), sink.end(), good))
    throw std::invalid_argument("sink must be 1 to 64 letters, digits or underscores, got \"" + sink + "\"");
}

std::vector<SegmentFile> list_segments(const std::string& directory, const std::string& sink) {
  check_sink(sink);
  DIR* entries = ::opendir(directory.c_str());
  if (entries == nullptr) throw FileError("cannot list log directory " + directory, errno);
  std::vector<SegmentFile> files;
  std::map<std::uint64_t, std::int64_t> created;
  for (errno = 0; const dirent* entry = ::readdir(entries); errno = 0) {
    SegmentFile file = {};
    if (!parse_name(entry->d_name, sink, file)) continue;
    file.path = directory + "/" + entry->d_name;
    // One damaged header must not tear its ring's files apart in the order: siblings know when the ring began.
    created[file.ring_id] = std::max(created[file.ring_id], ring_created(file.path));
    files.push_back(file);
  }
  const int code = errno;
  ::closedir(entries);
  if (code != 0) throw FileError("cannot list log directory " + directory, code);
  for (auto& file : files) file.ring_created_ns = created[file.ring_id];
  std::sort(files.begin(), files.end(), [](const SegmentFile& a, const SegmentFile& b) {
    return std::tie(a.ring_created_ns, a.ring_id, a.sequence, a.path) <
           std::tie(b.ring_created_ns, b.ring_id, b.sequence, b.path);
  });
  return files;
}

std::unique_ptr<SegmentReader> open_segment(SegmentFile file) {
  try {
    return std::make_unique<SegmentReader>(file);
  } catch (const FileError& error) {
    if (error.code != ENOENT) throw;
  }
  if (file.closed) return nullptr;
  file.path.replace(file.path.size() - 5, 5, ".seg");
  file.closed = true;
  return open_segment(file);
}

bool DirectoryReader::next(Record& record) {
  for (;;) {
    if (reader_ == nullptr) {
      if (index_ == files_.size()) return false;
      reader_ = open_segment(files_[index_++]);
      if (reader_ == nullptr) continue;
    }
    while (reader_->next(record))
      if (seen_.add(record.ring_id, record.position, record.position + 16 + (record.size + 15) / 16 * 16)) return true;
    reader_.reset();
  }
}

bool Seen::contains(std::uint64_t ring_id, std::uint64_t position) const {
  const auto ring = rings_.find(ring_id);
  if (ring == rings_.end()) return false;
  auto after = ring->second.upper_bound(position);
  return after != ring->second.begin() && position < std::prev(after)->second;
}

bool Seen::add(std::uint64_t ring_id, std::uint64_t position, std::uint64_t end) {
  auto& runs = rings_[ring_id];
  auto after = runs.upper_bound(position);
  auto run = runs.end();
  if (after != runs.begin()) {
    run = std::prev(after);
    if (position < run->second) return false;
    if (run->second != position) run = runs.end();
  }
  if (run != runs.end()) {
    run->second = end;
  } else {
    run = runs.emplace(position, end).first;
  }
  if (after != runs.end() && after->first <= end) {
    run->second = std::max(end, after->second);
    runs.erase(after);
  }
  return true;
}

bool repair_segment(const std::string& directory, const SegmentFile& file) {
  Fd fd(::open(file.path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd && errno == ENOENT) return true;
  if (!fd) throw FileError("cannot open segment " + file.path, errno);
  if (!lock_file(fd.get(), file.path)) return false;
  const std::string closed = file.path.substr(0, file.path.rfind('.')) + ".seg";
  if (::access(closed.c_str(), F_OK) == 0) {
    // A repair was killed when it had put all that is readable of this file there, perhaps more than is left after a cut.
    if (::unlink(file.path.c_str()) != 0 && errno != ENOENT) throw FileError("cannot remove " + file.path, errno);
    return true;
  }
  SegmentReader reader(file);
  for (Record record; reader.next(record);) continue;
  if (reader.sum().blocks == 0) {
    if (::unlink(file.path.c_str()) != 0 && errno != ENOENT) throw FileError("cannot remove " + file.path, errno);
    return true;
  }
  if (reader.whole_bytes() < reader.bytes() && ::ftruncate(fd.get(), static_cast<off_t>(reader.whole_bytes())) != 0)
    throw FileError("cannot cut " + file.path, errno);
  SegmentWriter writer(file.path, std::move(fd), reader.whole_bytes(), reader.sum());
  if (const int code = writer.finish(); code != 0) throw FileError("cannot close segment " + file.path, code);
  return true;
}

bool read_footer(const SegmentFile& file, SegmentFooter& footer) {
  const SegmentReader reader(file);
  footer = reader.footer();
  return reader.has_footer();
}

}  // namespace pairec
