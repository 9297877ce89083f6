// Ring, flush thread, disk, clock and death as the steps of one thread, drawn from a seed; what must hold is checked
// after each. The flush thread's loop is called from here instead of a thread of its own, the clock and the calls on
// files are the ones below: any may fail, or be the last thing the process ever does.
// Usage: model DIRECTORY STEPS SEED. Compiled and run by tests/faults/model.py, which opens Flusher to it.
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <set>

#include "recover.hpp"

namespace {

using namespace pairec;

std::mt19937_64 random_bits;
std::uint64_t below(std::uint64_t count) { return random_bits() % count; }

// The machine

std::int64_t clock_ns = 1'000'000'000, wall_off_ns = 0;
std::set<int> open_fds;
std::vector<std::pair<void*, std::size_t>> mappings;
std::map<ino_t, off_t> synced;  // how far fdatasync has answered 0
std::uint64_t calls_to_death = 0, fail_one_in = 0, deaths_in_calls = 0, failures = 0;
bool mortal = false;
jmp_buf death;

// Every call on a file comes through here. The process may die in it, before or after it has its effect.
bool fails() {
  if (!mortal) return false;
  if (calls_to_death != 0 && --calls_to_death == 0) {
    ++deaths_in_calls;
    longjmp(death, 1);
  }
  if (fail_one_in == 0 || below(fail_one_in) != 0) return false;
  const int codes[] = {ENOSPC, EIO, EINTR};
  errno = codes[below(3)];
  ++failures;
  return true;
}

[[noreturn]] void wrong(const char* what, std::uint64_t one, std::uint64_t two) {
  std::fprintf(stderr, "%s: %llu, %llu\n", what, static_cast<unsigned long long>(one),
               static_cast<unsigned long long>(two));
  std::exit(3);
}

}  // namespace

extern "C" {
int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = va_arg(rest, mode_t);
  va_end(rest);
  if (fails()) return -1;
  const int fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
  if (fd >= 0) open_fds.insert(fd);
  return fd;
}
int close(int fd) {
  open_fds.erase(fd);
  return static_cast<int>(syscall(SYS_close, fd));
}
ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t at) {
  std::string bytes;
  for (int part = 0; part < count; ++part) bytes.append(static_cast<char*>(parts[part].iov_base), parts[part].iov_len);
  // A call stops, by death too, between two pages of the file.
  const off_t page = 4096, end = (at + static_cast<off_t>(below(bytes.size() + page))) / page * page;
  const std::size_t part = end > at ? std::min<std::size_t>(end - at, bytes.size()) : 0;
  if (mortal && calls_to_death == 1 && part != 0) syscall(SYS_pwrite64, fd, bytes.data(), part, at);
  if (fails()) return -1;
  if (mortal && part != 0 && below(4) == 0) bytes.resize(part);
  return syscall(SYS_pwrite64, fd, bytes.data(), bytes.size(), at);
}
int fdatasync(int fd) {
  if (fails()) return -1;
  struct stat info = {};
  fstat(fd, &info);
  synced[info.st_ino] = info.st_size;
  return 0;
}
int fsync(int) { return fails() ? -1 : 0; }
int ftruncate(int fd, off_t length) noexcept {
  return fails() ? -1 : static_cast<int>(syscall(SYS_ftruncate, fd, length));
}
int rename(const char* from, const char* to) noexcept {
  return fails() ? -1 : static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}
int unlink(const char* path) noexcept {
  return fails() ? -1 : static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}
void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  if (fd >= 0 && fails()) return MAP_FAILED;
  void* made = reinterpret_cast<void*>(syscall(SYS_mmap, at, size, protection, flags, fd, offset));
  if (mortal && made != MAP_FAILED) mappings.emplace_back(made, size);
  return made;
}
int munmap(void* at, size_t size) noexcept {
  std::erase_if(mappings, [&](const auto& one) { return one.first == at; });
  return static_cast<int>(syscall(SYS_munmap, at, size));
}
int clock_gettime(clockid_t which, struct timespec* now) noexcept {
  const std::int64_t at = which == CLOCK_REALTIME ? clock_ns + 1'700'000'000'000'000'000 + wall_off_ns : clock_ns;
  *now = {at / 1'000'000'000, at % 1'000'000'000};
  return 0;
}
}

namespace {

// The process

std::string directory, ring_path;
Ring* ring = nullptr;
Flusher* flusher = nullptr;
std::uint32_t next_number = 0, base = 0;  // numbers below `base` have been found and their segments removed
std::uint64_t accepted = 0, crashes = 0, recoveries_cut = 0, refused = 0, orderly = 0, checks = 0, gave_up = 0;
std::set<std::uint32_t> unfinished;  // pushed by a push that never returned: there or not

std::vector<unsigned char> payload_of(std::uint32_t number) {
  std::vector<unsigned char> payload(sizeof(number) + (number * 2654435761u >> 22), static_cast<unsigned char>(number));
  if (number % 997 == 0) payload.resize((8 << 10) - sizeof(RecordHeader), 7);  // the largest
  std::memcpy(payload.data(), &number, sizeof(number));
  return payload;
}

void begin() {
  Recovery recovery;
  auto made = open_ring(directory, "log", ring_path, 64 << 10, 0, recovery);
  if (recovery.quarantined || recovery.damaged != 0) wrong("recovery found damage", recovery.damaged, 0);
  FlushOptions options = {};
  options.directory = directory;
  options.sink = "log";
  options.rotate_bytes = below(2) ? 1 << 14 : 1 << 20;
  options.rotate_ns = 500'000'000;
  options.sync_ns = below(2) ? 0 : 50'000'000;
  ring = made.release();
  flusher = new Flusher(*ring, options);
}

// What the kernel does when a process dies; its heap is lost to this one.
void bury() {
  mortal = false;
  for (const int fd : std::set<int>(open_fds)) close(fd);
  while (!mappings.empty()) ::munmap(mappings.back().first, mappings.back().second);
  ring = nullptr;
  flusher = nullptr;
  calls_to_death = fail_one_in = 0;
}

void push() {
  const auto payload = payload_of(next_number);
  if (ring->push(payload.data(), payload.size()) != Push::ok) {
    ++refused;
    return;
  }
  ++next_number;
  ++accepted;
}

// A push that reserves and copies, and does not live to commit.
void push_and_die() {
  const std::uint64_t before = ring->tail();
  const auto payload = payload_of(next_number);
  if (ring->push(payload.data(), payload.size()) != Push::ok) return;
  std::uint64_t at = before;
  const std::uint64_t offset = at & (ring->capacity() - 1), need = record_bytes(payload.size());
  if (offset + need > ring->capacity()) at += ring->capacity() - offset;
  auto* word = reinterpret_cast<std::uint64_t*>(ring->data_ + (at & (ring->capacity() - 1)));
  if ((*word ^ at ^ ring->ring_id()) != record_committed) wrong("no record where it was reserved", at, *word);
  *word = (at ^ ring->ring_id()) | record_reserved;
  unfinished.insert(next_number++);
}

void invariants(std::uint64_t head_before) {
  const std::uint64_t head = ring->head(), tail = ring->tail();
  if (head < head_before || head > flusher->cursor_ || flusher->cursor_ > tail || tail - head > ring->capacity())
    wrong("head, cursor and tail are out of order", head, tail);
  if (ring->counters().pushed.load() != accepted + unfinished.size()) wrong("the count of pushes is off", accepted, 0);
  if (head == head_before || flusher->segment_ == nullptr) return;
  struct stat info = {};
  ::fstat(flusher->segment_->fd_.get(), &info);
  if (synced[info.st_ino] < info.st_size) wrong("released before it was synced", head_before, head);
}

// All that was accepted is in the segments, or in the ring where that is given: once, in order, as it was.
void check(bool with_ring) {
  ++checks;
  std::uint32_t expected = base;
  const auto take = [&](const unsigned char* data, std::uint32_t size, bool may_repeat) {
    if (is_gap(data, size)) return;
    std::uint32_t number;
    std::memcpy(&number, data, sizeof(number));
    if (number < expected && may_repeat) return;  // written, and not yet released
    while (expected < number && unfinished.count(expected) != 0) ++expected;
    if (number != expected) wrong("a record is missing or out of order", expected, number);
    const auto payload = payload_of(number);
    if (payload.size() != size || std::memcmp(payload.data(), data, size) != 0) wrong("a record has changed", number, 0);
    ++expected;
  };
  DirectoryReader reader(directory, "log");
  for (Record record; reader.next(record);) take(record.data, record.size, false);
  if (with_ring) {
    for (std::uint64_t cursor = ring->head(); cursor < ring->tail();) {
      const Run run = ring->peek(cursor, ring->capacity());
      if (run.begin == run.end) break;
      for (std::uint64_t at = 0; at < run.end - run.begin;) {
        const auto* header = reinterpret_cast<const RecordHeader*>(run.data + at);
        take(run.data + at + sizeof(RecordHeader), header->size, true);
        at += record_bytes(header->size);
      }
      cursor = run.end;
    }
  }
  while (expected < next_number && unfinished.count(expected) != 0) ++expected;
  if (expected != next_number) wrong("the last records are missing", expected, next_number);
}

// Until it lives again: recovery may die too, and may meet a disk that fails.
void revive() {
  for (;;) {
    if (setjmp(death) != 0) {
      ++recoveries_cut;
      bury();
      continue;
    }
    mortal = true;
    calls_to_death = below(3) == 0 ? 1 + below(60) : 0;
    fail_one_in = below(4) == 0 ? 1 + below(20) : 0;
    try {
      begin();
    } catch (const FileError&) {
      ++gave_up;
      bury();
      continue;
    }
    break;
  }
  // The counters of a push that never returned may have risen or not; from here they are what they are.
  accepted = ring->counters().pushed.load() - unfinished.size();
  calls_to_death = fail_one_in = 0;
  mortal = false;
  if (flusher->segment_ == nullptr && ring->head() == ring->tail()) {
    check(false);
    for (const auto& file : list_segments(directory, "log")) ::unlink(file.path.c_str());
    base = next_number;
    synced.clear();
  }
  mortal = true;
}

void die() {
  ++crashes;
  bury();
  revive();
}

}  // namespace

int main(int, char** arguments) {
  directory = arguments[1];
  ring_path = directory + "/ring";
  const long steps = std::strtol(arguments[2], nullptr, 10);
  random_bits.seed(std::strtoull(arguments[3], nullptr, 10));
  make_directory(directory);
  revive();
  for (long step = 0; step < steps; ++step) {
    // Pages of a log that is being checked are read by calls that must not fail or be the last.
    if (setjmp(death) != 0) {
      die();
      continue;
    }
    const std::uint64_t kind = below(10'000), head = ring->head();
    Flusher::Wishes wishes = {};
    if (kind < 6'000) {
      push();
    } else if (kind < 8'500) {
      if (below(20) == 0) wishes.flush_target = ring->tail();
      if (below(100) == 0) wishes.rotate_wanted = flusher->rotate_answered_ + 1;
      flusher->step(clock_ns, wishes);
    } else if (kind < 9'900) {
      clock_ns += static_cast<std::int64_t>(below(20'000'000));
    } else if (kind < 9'920) {
      clock_ns += static_cast<std::int64_t>(below(3'000'000'000));
    } else if (kind < 9'940) {
      wall_off_ns = (static_cast<std::int64_t>(below(3)) - 1) * 315'360'000'000'000'000;
    } else if (kind < 9'960) {
      fail_one_in = below(2) == 0 ? 0 : 1 + below(30);
    } else if (kind < 9'975) {
      calls_to_death = 1 + below(40);
    } else if (kind < 9'985) {
      if (below(2) == 0) push_and_die();
      die();
      continue;
    } else if (kind < 9'990) {
      mortal = false;
      ring->close();
      wishes.stopping = true;
      for (int turn = 0; flusher->segment_ != nullptr || ring->head() != ring->tail(); ++turn) {
        if (turn > 1'000) wrong("a stop without faults does not end", ring->head(), ring->tail());
        clock_ns += 100'000'000;
        flusher->step(clock_ns, wishes);
      }
      if (!ring->mark_clean()) wrong("a drained ring is not clean", ring->head(), ring->tail());
      ++orderly;
      bury();
      revive();
      continue;
    } else {
      mortal = false;
      check(true);
      mortal = true;
    }
    invariants(head);
  }
  bury();
  revive();
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf("{\"accepted\": %llu, \"refused\": %llu, \"crashes\": %llu, \"deaths_in_calls\": %llu, ", number(accepted),
              number(refused), number(crashes), number(deaths_in_calls));
  std::printf("\"recoveries_cut\": %llu, \"failures\": %llu, \"unfinished\": %llu, \"orderly\": %llu, ",
              number(recoveries_cut), number(failures), number(unfinished.size()), number(orderly));
  std::printf("\"checks\": %llu, \"gave_up\": %llu}\n", number(checks), number(gave_up));
  std::_Exit(std::fflush(stdout));
}
