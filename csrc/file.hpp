// What the record log needs of files: errors that keep their errno, and descriptors that a forked child does not keep.
#pragma once
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace pairec {

// A system call failed; `code` is its errno.
struct FileError : std::runtime_error {
  FileError(const std::string& message, int error) : std::runtime_error(message), code(error) {}
  int code;
};

// Somebody alive owns the file.
struct LockedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// An open-file-description lock lives as long as any copy of its descriptor. A forked child holds copies, and would
// keep a dead worker's ring locked: so the child closes them before it runs (pthread_atfork). Objects that own such a
// descriptor are dead in the child and must be leaked there, not destroyed.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) noexcept;
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Fd& operator=(Fd&& other) noexcept;
  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void close() noexcept;

 private:
  int fd_ = -1;
};

// The process id, cached; a fork refreshes it in the child.
int process_id() noexcept;

// Takes the lock of the whole file. False when another description holds it. Throws FileError.
bool lock_file(int fd, const std::string& path);

// Writes all of both parts at `offset`, however often the kernel stops short. 0 or an errno.
int write_all(int fd, const void* first, std::size_t first_size, const void* second, std::size_t second_size,
              std::uint64_t offset) noexcept;

// Reads up to `size` bytes at `offset`; fewer only at the end of the file. Throws FileError.
std::size_t read_at(int fd, void* data, std::size_t size, std::uint64_t offset, const std::string& path);

// fsync of a directory: makes creations and renames in it last. 0 or an errno.
int sync_directory(const std::string& directory) noexcept;

// Makes `directory` with mode 0700 (parents by the umask) unless it is there, and syncs its name. Throws FileError, also
// if it cannot be written.
void make_directory(const std::string& directory);

std::string parent_of(const std::string& path);

std::int64_t wall_ns() noexcept;
std::int64_t monotonic_ns() noexcept;

}  // namespace pairec
