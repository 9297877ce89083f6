// Preloaded by tests/faults: calls on the files below one directory can fail, stop short, sleep or be recorded, and the
// wall clock can jump. Does nothing until armed (ctypes: see tests/faults/native.py).
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <initializer_list>
#include <mutex>
#include <string>
#include <vector>

namespace {

constexpr int fds_max = 4096;
std::recursive_mutex mutex;
std::string prefix, only;  // files below it are watched; if not empty, the one call that is counted
long nth = 0, every = 0, calls = 0, resynced = 0, sleep_us = 0;
int code = 0;  // errno of the fault; -1 is a write that stops short
std::vector<int64_t> clock_steps;
std::atomic<uint64_t> clock_reads{0};
int trace = -1;
bool watched[fds_max], broken[fds_max];  // of a descriptor; broken: its fdatasync has failed

template <class F>
F* real(F*, const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}
#define REAL(name) real(&::name, #name)

bool below(const char* path) { return !prefix.empty() && std::strncmp(path, prefix.c_str(), prefix.size()) == 0; }
bool watches(int fd) { return fd >= 0 && fd < fds_max && watched[fd]; }

// Counts a call, and says whether it is to fail.
bool fails(const char* call) {
  if (nth == 0 || (!only.empty() && only != call) || (code == -1 && std::strcmp(call, "pwritev") != 0)) return false;
  const long number = ++calls;
  if (number != nth && (every == 0 || number < nth || (number - nth) % every != 0)) return false;
  if (code > 0) errno = code;
  return true;
}

struct Event {
  uint32_t kind;
  int32_t fd;
  int64_t value;
  uint32_t first, second;  // bytes that follow
};

void note(char kind, int fd, int64_t value, const void* first = "", size_t first_size = 0, const void* second = "",
          size_t second_size = 0) {
  if (trace < 0) return;
  const int saved = errno;
  const Event event = {static_cast<uint32_t>(kind), fd, value, static_cast<uint32_t>(first_size),
                       static_cast<uint32_t>(second_size)};
  std::string bytes(reinterpret_cast<const char*>(&event), sizeof(event));
  bytes.append(static_cast<const char*>(first), first_size).append(static_cast<const char*>(second), second_size);
  if (::write(trace, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) _exit(99);
  errno = saved;
}
void note_path(char kind, int fd, int64_t value, const char* first, const char* second = "") {
  note(kind, fd, value, first, std::strlen(first), second, std::strlen(second));
}

int open_as(const char* name, const char* path, int flags, mode_t mode) {
  const auto call = reinterpret_cast<int (*)(const char*, int, ...)>(dlsym(RTLD_NEXT, name));
  if (!below(path)) return call(path, flags, mode);
  const std::lock_guard lock(mutex);
  if (fails("open")) return -1;
  const int fd = call(path, flags, mode);
  if (fd >= 0 && fd < fds_max) {
    watched[fd] = true;
    broken[fd] = false;
    note_path('O', fd, flags, path);
  }
  return fd;
}

ssize_t write_as(const char* name, int fd, const struct iovec* parts, int count, off_t offset) {
  const auto call = reinterpret_cast<decltype(&::pwritev)>(dlsym(RTLD_NEXT, name));
  if (!watches(fd)) return call(fd, parts, count, offset);
  const std::lock_guard lock(mutex);
  std::string bytes;
  for (int part = 0; part < count; ++part) bytes.append(static_cast<char*>(parts[part].iov_base), parts[part].iov_len);
  if (fails("pwritev")) {
    if (code != -1) return -1;
    bytes.resize(std::max<size_t>(bytes.size() / 2, 1));
  }
  const ssize_t wrote = ::pwrite(fd, bytes.data(), bytes.size(), offset);
  if (wrote > 0) note('W', fd, offset, bytes.data(), static_cast<size_t>(wrote));
  return wrote;
}

int sync_as(const char* name, int fd) {
  const auto call = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, name));
  if (!watches(fd)) return call(fd);
  if (sleep_us != 0) ::usleep(static_cast<useconds_t>(sleep_us));
  const std::lock_guard lock(mutex);
  if (broken[fd]) ++resynced;  // the kernel may have dropped its pages: its answer means nothing
  if (fails(name)) {
    broken[fd] = true;
    return -1;
  }
  const int answer = call(fd);
  if (answer == 0) note('S', fd, 0);
  return answer;
}

int cut_as(const char* name, int fd, off_t length) {
  const auto call = reinterpret_cast<decltype(&::ftruncate)>(dlsym(RTLD_NEXT, name));
  if (!watches(fd)) return call(fd, length);
  const std::lock_guard lock(mutex);
  if (fails("ftruncate")) return -1;
  const int answer = call(fd, length);
  if (answer == 0) note('T', fd, length);
  return answer;
}

ssize_t read_as(const char* name, int fd, void* data, size_t size, off_t offset) {
  const auto call = reinterpret_cast<decltype(&::pread)>(dlsym(RTLD_NEXT, name));
  if (watches(fd)) {
    const std::lock_guard lock(mutex);
    if (fails("pread")) return -1;
  }
  return call(fd, data, size, offset);
}

void* map_as(const char* name, void* at, size_t size, int protection, int flags, int fd, off_t offset) {
  const auto call = reinterpret_cast<decltype(&::mmap)>(dlsym(RTLD_NEXT, name));
  if (watches(fd)) {
    const std::lock_guard lock(mutex);
    if (fails("mmap")) return MAP_FAILED;
  }
  return call(at, size, protection, flags, fd, offset);
}

int allocate_as(const char* name, int fd, off_t offset, off_t size) {
  const auto call = reinterpret_cast<decltype(&::posix_fallocate)>(dlsym(RTLD_NEXT, name));
  if (watches(fd)) {
    const std::lock_guard lock(mutex);
    if (fails("posix_fallocate")) return code;
  }
  return call(fd, offset, size);
}

int control_as(const char* name, int fd, int command, void* argument) {
  const auto call = reinterpret_cast<int (*)(int, int, ...)>(dlsym(RTLD_NEXT, name));
  if (watches(fd) && command == F_OFD_SETLK) {
    const std::lock_guard lock(mutex);
    if (fails("fcntl")) return -1;
  }
  return call(fd, command, argument);
}

}  // namespace

extern "C" {

// From now on, of the calls on files below `directory` (of `call` alone, unless it is empty), the `number`-th fails, and
// every `then`-th after it; number 0: none.
void faultfs_arm(const char* directory, const char* call, long number, long then, int error, long fdatasync_us) {
  const std::lock_guard lock(mutex);
  prefix = directory;
  only = call;
  nth = number;
  every = then;
  code = error;
  sleep_us = fdatasync_us;
  calls = resynced = 0;
}
long faultfs_calls() { return calls; }
long faultfs_resynced() { return resynced; }
// Each reading of the wall clock is off by the next of `steps`, over and over.
void faultfs_clock(const int64_t* steps, size_t count) { clock_steps.assign(steps, steps + count); }
uint64_t faultfs_clock_reads() { return clock_reads.load(); }
// Appends what happens to files below the armed directory to the file behind `fd`.
void faultfs_trace(int fd) { trace = fd; }
void faultfs_note(int kind, int64_t value, const void* data, size_t size) {
  const std::lock_guard lock(mutex);
  note(static_cast<char>(kind), -1, value, data, size);
}

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return open_as("open", path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  return open_as("open64", path, flags, mode);
}
int close(int fd) {
  if (watches(fd)) {
    const std::lock_guard lock(mutex);
    watched[fd] = false;
    note('C', fd, 0);
    return REAL(close)(fd);
  }
  return REAL(close)(fd);
}
ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t at) {
  return write_as("pwritev", fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec* parts, int count, off64_t at) {
  return write_as("pwritev64", fd, parts, count, at);
}
int fdatasync(int fd) { return sync_as("fdatasync", fd); }
int fsync(int fd) { return sync_as("fsync", fd); }
int ftruncate(int fd, off_t length) noexcept { return cut_as("ftruncate", fd, length); }
int ftruncate64(int fd, off64_t length) noexcept { return cut_as("ftruncate64", fd, length); }
ssize_t pread(int fd, void* data, size_t size, off_t at) { return read_as("pread", fd, data, size, at); }
ssize_t pread64(int fd, void* data, size_t size, off64_t at) { return read_as("pread64", fd, data, size, at); }
void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  return map_as("mmap", at, size, protection, flags, fd, offset);
}
void* mmap64(void* at, size_t size, int protection, int flags, int fd, off64_t offset) noexcept {
  return map_as("mmap64", at, size, protection, flags, fd, offset);
}
int posix_fallocate(int fd, off_t at, off_t size) { return allocate_as("posix_fallocate", fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { return allocate_as("posix_fallocate64", fd, at, size); }
int fcntl(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  return control_as("fcntl", fd, command, argument);
}
int fcntl64(int fd, int command, ...) {
  va_list rest;
  va_start(rest, command);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  return control_as("fcntl64", fd, command, argument);
}
int rename(const char* from, const char* to) noexcept {
  if (!below(from)) return REAL(rename)(from, to);
  const std::lock_guard lock(mutex);
  if (fails("rename")) return -1;
  const int answer = REAL(rename)(from, to);
  if (answer == 0) note_path('R', -1, 0, from, to);
  return answer;
}
int link(const char* from, const char* to) noexcept {
  if (!below(from)) return REAL(link)(from, to);
  const std::lock_guard lock(mutex);
  if (fails("link")) return -1;
  const int answer = REAL(link)(from, to);
  if (answer == 0) note_path('L', -1, 0, from, to);
  return answer;
}
int unlink(const char* path) noexcept {
  if (!below(path)) return REAL(unlink)(path);
  const std::lock_guard lock(mutex);
  if (fails("unlink")) return -1;
  const int answer = REAL(unlink)(path);
  if (answer == 0) note_path('U', -1, 0, path);
  return answer;
}
int mkdir(const char* path, mode_t mode) noexcept {
  if (!below(path)) return REAL(mkdir)(path, mode);
  const std::lock_guard lock(mutex);
  if (fails("mkdir")) return -1;
  const int answer = REAL(mkdir)(path, mode);
  if (answer == 0) note_path('K', -1, 0, path);
  return answer;
}
DIR* opendir(const char* path) {
  if (below(path)) {
    const std::lock_guard lock(mutex);
    if (fails("opendir")) return nullptr;
  }
  return REAL(opendir)(path);
}
int stat(const char* path, struct stat* info) noexcept {
  if (below(path)) {
    const std::lock_guard lock(mutex);
    if (fails("stat")) return -1;
  }
  return real(static_cast<int (*)(const char*, struct stat*)>(&::stat), "stat")(path, info);
}
int fstat(int fd, struct stat* info) noexcept {
  if (watches(fd)) {
    const std::lock_guard lock(mutex);
    if (fails("fstat")) return -1;
  }
  return real(static_cast<int (*)(int, struct stat*)>(&::fstat), "fstat")(fd, info);
}
int clock_gettime(clockid_t which, struct timespec* now) noexcept {
  static const auto call = REAL(clock_gettime);
  const int answer = call(which, now);
  if (which != CLOCK_REALTIME || clock_steps.empty()) return answer;
  const int64_t step = clock_steps[clock_reads.fetch_add(1) % clock_steps.size()];
  const int64_t at = int64_t{now->tv_sec} * 1'000'000'000 + now->tv_nsec + step;
  now->tv_sec = at / 1'000'000'000;
  now->tv_nsec = at % 1'000'000'000;
  return answer;
}

}  // extern "C"
