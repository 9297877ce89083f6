#include "file.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <ctime>
#include <filesystem>

namespace pairec {
namespace {

// Descriptors to close in a child, one more than their number so that zero means none. A process has one ring and one
// open segment; when all places are taken a descriptor is merely inherited.
std::array<std::atomic<int>, 256> owned;
std::atomic<int> cached_pid{0};

void in_child() {
  cached_pid.store(::getpid(), std::memory_order_relaxed);
  for (auto& place : owned) {
    const int fd = place.exchange(0, std::memory_order_relaxed) - 1;
    if (fd >= 0) ::close(fd);
  }
}

[[maybe_unused]] const bool registered = [] {
  cached_pid.store(::getpid(), std::memory_order_relaxed);
  return ::pthread_atfork(nullptr, nullptr, in_child) == 0;
}();

}  // namespace

int process_id() noexcept { return cached_pid.load(std::memory_order_relaxed); }

Fd::Fd(int fd) noexcept : fd_(fd) {
  if (fd < 0) return;
  for (auto& place : owned) {
    int none = 0;
    if (place.compare_exchange_strong(none, fd + 1)) return;
  }
}

Fd::~Fd() { close(); }

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = other.fd_;
    other.fd_ = -1;
  }
  return *this;
}

void Fd::close() noexcept {
  if (fd_ < 0) return;
  for (auto& place : owned) {
    int mine = fd_ + 1;
    if (place.compare_exchange_strong(mine, 0)) break;
  }
  ::close(fd_);
  fd_ = -1;
}

bool lock_file(int fd, const std::string& path) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  throw FileError("cannot lock " + path, errno);
}

int write_all(int fd, const void* first, std::size_t first_size, const void* second, std::size_t second_size,
              std::uint64_t offset) noexcept {
  struct iovec parts[2] = {{const_cast<void*>(first), first_size}, {const_cast<void*>(second), second_size}};
  int part = 0;
  while (part < 2) {
    if (parts[part].iov_len == 0) {
      ++part;
      continue;
    }
    const ssize_t wrote = ::pwritev(fd, parts + part, 2 - part, static_cast<off_t>(offset));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno;
    if (wrote == 0) return EIO;
    offset += static_cast<std::uint64_t>(wrote);
    auto left = static_cast<std::size_t>(wrote);
    for (; part < 2 && left >= parts[part].iov_len; ++part) left -= parts[part].iov_len;
    if (part < 2) {
      parts[part].iov_base = static_cast<char*>(parts[part].iov_base) + left;
      parts[part].iov_len -= left;
    }
  }
  return 0;
}

std::size_t read_at(int fd, void* data, std::size_t size, std::uint64_t offset, const std::string& path) {
  std::size_t have = 0;
  while (have < size) {
    const ssize_t got = ::pread(fd, static_cast<char*>(data) + have, size - have, static_cast<off_t>(offset + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw FileError("cannot read " + path, errno);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  return have;
}

int sync_directory(const std::string& directory) noexcept {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno;
  const int code = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  return code;
}

namespace {

// mkdir, with parents by the umask. A name is on the disk when its parent is synced: else power loss could take the
// directory, and with it what was synced inside (tests/faults/power.py). 0 or an errno.
int create_directory(const std::string& directory, mode_t mode) {
  int code = ::mkdir(directory.c_str(), mode) == 0 ? 0 : errno;
  if (code == ENOENT && parent_of(directory) != directory) {
    code = create_directory(parent_of(directory), 0777);
    if (code == 0 || code == EEXIST) code = ::mkdir(directory.c_str(), mode) == 0 ? 0 : errno;
  }
  if (code != 0 && code != EEXIST) return code;
  // Also if it was there: who made it may have died before it was synced. A parent that may not be read, or that cannot
  // be synced at all, is no reason to log nothing.
  const int synced = sync_directory(parent_of(directory));
  return synced == EACCES || synced == EPERM || synced == EINVAL || synced == EROFS ? code : synced != 0 ? synced : code;
}

}  // namespace

void make_directory(const std::string& directory) {
  const int code = create_directory(directory, 0700);
  if (code != 0 && code != EEXIST) throw FileError("cannot create log directory " + directory, code);
  struct stat info = {};
  if (::stat(directory.c_str(), &info) != 0) throw FileError("cannot read log directory " + directory, errno);
  if (!S_ISDIR(info.st_mode)) throw FileError("log directory " + directory + " is not a directory", ENOTDIR);
  if (::access(directory.c_str(), W_OK | X_OK) != 0)
    throw FileError("cannot write in log directory " + directory, errno);
}

std::string parent_of(const std::string& path) {
  auto parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

namespace {
std::int64_t read_clock(clockid_t which) noexcept {
  struct timespec now = {};
  ::clock_gettime(which, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}
}  // namespace

std::int64_t wall_ns() noexcept { return read_clock(CLOCK_REALTIME); }
std::int64_t monotonic_ns() noexcept { return read_clock(CLOCK_MONOTONIC); }

}  // namespace pairec
