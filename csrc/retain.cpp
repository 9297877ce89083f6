#include "retain.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <tuple>
#include <vector>

namespace pairec {
namespace {

struct Closed {
  std::int64_t written_ns;
  std::string name;
  std::uint64_t bytes;
};

// Every closed segment of the sink, the oldest first. A sink's name has no hyphen, so its prefix is nobody else's.
int list_closed(int directory, const std::string& sink, std::vector<Closed>& files) {
  const int copy = ::fcntl(directory, F_DUPFD_CLOEXEC, 0);
  DIR* entries = copy < 0 ? nullptr : ::fdopendir(copy);
  if (entries == nullptr) {
    const int code = errno;
    if (copy >= 0) ::close(copy);
    return code;
  }
  const std::string prefix = sink + "-";
  for (errno = 0; const dirent* entry = ::readdir(entries); errno = 0) {
    const std::string_view name = entry->d_name;
    if (!name.starts_with(prefix) || !name.ends_with(".seg")) continue;
    struct stat info = {};
    if (::fstatat(directory, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode)) continue;
    files.push_back({static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec,
                     std::string(name), static_cast<std::uint64_t>(info.st_size)});
  }
  const int code = errno;
  ::closedir(entries);
  std::sort(files.begin(), files.end(), [](const Closed& a, const Closed& b) {
    return std::tie(a.written_ns, a.name) < std::tie(b.written_ns, b.name);
  });
  return code;
}

}  // namespace

int remove_old_segments(const std::string& directory, const std::string& sink, std::uint64_t bytes_max,
                        std::int64_t age_max_ns, std::int64_t wall_ns, std::int64_t steady_ns, Removed& removed) {
  const int at = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) return errno;
  std::vector<Closed> files;
  int code = list_closed(at, sink, files);
  std::uint64_t total = 0;
  for (const auto& file : files) total += file.bytes;
  const std::int64_t now = std::min(wall_ns, steady_ns);
  for (const auto& file : files) {
    const bool old = age_max_ns != 0 && now - file.written_ns > age_max_ns;
    if (code != 0 || (!old && (bytes_max == 0 || total <= bytes_max))) break;
    total -= file.bytes;
    if (::unlinkat(at, file.name.c_str(), 0) == 0) {
      ++removed.files;
      removed.bytes += file.bytes;
    } else if (errno != ENOENT) {
      code = errno;
    }
  }
  ::close(at);
  return code;
}

int read_space(const std::string& directory, Space& space) noexcept {
  struct statvfs info = {};
  if (::statvfs(directory.c_str(), &info) != 0) return errno;
  space = {info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize};
  return 0;
}

std::uint64_t free_bytes_min_of(const Space& space) noexcept {
  return std::min<std::uint64_t>(std::uint64_t{1} << 30, space.total / 20);
}

}  // namespace pairec
