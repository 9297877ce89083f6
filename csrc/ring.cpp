#include "ring.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "checksum.hpp"

namespace pairec {
namespace {

constexpr std::uint64_t ring_magic = 0x31474E4952465250;  // "PRFRING1"
constexpr std::uint32_t ring_version = 1;
constexpr std::uint64_t closed_bit = 1;

// Atomic access to a record's first word: the consumer reads it while producers write it.
std::atomic_ref<std::uint64_t> commit_word(unsigned char* at) noexcept {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(at));
}

std::uint32_t identity_crc(const RingIdentity& identity) noexcept {
  return crc32c(&identity, offsetof(RingIdentity, crc));
}

std::uint64_t random_ring_id() {
  std::uint64_t id = 0;
  while (id == 0) {
    if (::getrandom(&id, sizeof(id), 0) != sizeof(id)) throw FileError("getrandom", errno);
    id &= ~std::uint64_t{15};
  }
  return id;
}

void check_capacity(std::uint64_t capacity) {
  if (capacity >= ring_capacity_min && capacity <= ring_capacity_max && (capacity & (capacity - 1)) == 0) return;
  throw std::invalid_argument("ring capacity must be a power of two from " + std::to_string(ring_capacity_min) +
                              " to " + std::to_string(ring_capacity_max) + " bytes, got " + std::to_string(capacity));
}

// Space is taken before mapping: a full disk must be an error here, not a SIGBUS in push.
void allocate(int fd, const std::string& path, std::uint64_t bytes) {
  int code;
  do {
    code = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  } while (code == EINTR);
  if (code == 0) return;
  struct statvfs free = {};
  std::string available = "unknown";
  if (::statvfs(parent_of(path).c_str(), &free) == 0) available = std::to_string(free.f_bavail * free.f_frsize);
  throw FileError("ring " + path + " needs " + std::to_string(bytes) + " bytes, " + available + " available", code);
}

// One piece of a gap, behind which the next is written.
unsigned char* put_text(unsigned char* at, const char* text) noexcept {
  const std::size_t size = std::strlen(text);
  *at = static_cast<unsigned char>(0xA0 | size);  // msgpack: a text of fewer than 32 bytes
  std::memcpy(at + 1, text, size);
  return at + 1 + size;
}

unsigned char* put_number(unsigned char* at, std::uint64_t number) noexcept {
  *at = 0xCF;  // msgpack: 8 bytes follow, the highest first
  for (int byte = 0; byte < 8; ++byte) at[1 + byte] = static_cast<unsigned char>(number >> (56 - 8 * byte));
  return at + 9;
}

constexpr std::size_t gap_size_max = 128;

std::size_t write_gap(unsigned char* payload, std::uint64_t from, std::uint64_t to, std::uint64_t dropped,
                      const char* reason) noexcept {
  payload[0] = 0x84;  // msgpack: a map of four
  unsigned char* at = put_number(put_text(payload + 1, "gap_from"), from);
  at = put_number(put_text(at, "gap_to"), to);
  at = put_number(put_text(at, "dropped"), dropped);
  return static_cast<std::size_t>(put_text(put_text(at, "reason"), reason) - payload);
}

std::size_t gap_size(const char* reason) noexcept {
  unsigned char payload[gap_size_max];
  return write_gap(payload, 0, 0, 0, reason);
}

}  // namespace

std::uint32_t record_crc(const void* data, std::size_t size, std::uint64_t position) noexcept {
  return crc32c(data, size, static_cast<std::uint32_t>(position) ^ static_cast<std::uint32_t>(position >> 32));
}

bool ring_identity_valid(const RingIdentity& identity) noexcept {
  return identity.magic == ring_magic && identity.version == ring_version && identity.crc == identity_crc(identity) &&
         identity.capacity >= ring_capacity_min && identity.capacity <= ring_capacity_max &&
         (identity.capacity & (identity.capacity - 1)) == 0 && (identity.ring_id & 15) == 0;
}

std::uint64_t ring_clean_word(const RingIdentity& identity, std::uint64_t tail) noexcept {
  return identity.ring_id ^ (tail & ~std::uint64_t{15}) ^ 0x6E61656C63000000 ^ 5;
}

Fd lock_ring(const std::string& path) {
  for (;;) {
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) throw FileError("cannot open ring " + path, errno);
    if (!lock_file(fd.get(), path)) {
      RingIdentity identity = {};
      const auto got = ::pread(fd.get(), &identity, sizeof(identity), 0);
      std::string owner = "another process";
      if (got == sizeof(identity) && ring_identity_valid(identity))
        owner += " (pid " + std::to_string(identity.owner) + ")";
      throw LockedError("ring " + path + " is owned by " + owner + "; give each worker a slot and ring of its own");
    }
    // The owner before us may have replaced the file between our open and our lock.
    struct stat ours = {}, named = {};
    if (::fstat(fd.get(), &ours) != 0) throw FileError("cannot read ring " + path, errno);
    if (::stat(path.c_str(), &named) == 0 && named.st_ino == ours.st_ino && named.st_dev == ours.st_dev) {
      if (!S_ISREG(ours.st_mode)) throw FileError("ring " + path + " is not a regular file", EINVAL);
      return fd;
    }
  }
}

bool ring_has_owner(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (!fd || ::fcntl(fd.get(), F_OFD_GETLK, &lock) != 0) throw FileError("cannot look at ring " + path, errno);
  return lock.l_type != F_UNLCK;
}

bool is_gap(const unsigned char* data, std::size_t size) noexcept {
  return size > gap_begin_size && std::memcmp(data, gap_begin, gap_begin_size) == 0;
}

std::uint64_t gap_dropped(const unsigned char* data, std::size_t size) noexcept {
  constexpr std::size_t place = gap_begin_size + 8 + 1 + 6 + 9 + 1 + 7 + 1;  // gap_to, its number, dropped, its mark
  std::uint64_t number = 0;
  if (!is_gap(data, size) || size < place + 8) return 0;
  for (int byte = 0; byte < 8; ++byte) number = number << 8 | data[place + byte];
  return number;
}

void copy_counters(const RingCounters& from, RingCounters& to) noexcept {
  to.pushed = from.pushed.load();
  to.pushed_bytes = from.pushed_bytes.load();
  to.dropped_full = from.dropped_full.load();
  to.dropped_too_large = from.dropped_too_large.load();
  to.dropped_closed = from.dropped_closed.load();
  to.gap_full = from.gap_full.load();
  to.gap_too_large = from.gap_too_large.load();
  to.high_water_bytes = from.high_water_bytes.load();
}

Ring::Ring(const std::string& path, std::uint64_t capacity, std::uint32_t slot, Fd previous,
           const RingCounters* carried)
    : capacity_(capacity), pid_(process_id()) {
  check_capacity(capacity);
  ring_id_ = random_ring_id();
  const std::string fresh = path + ".new";
  ::unlink(fresh.c_str());
  const Fd mapped(::open(fresh.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!mapped) throw FileError("cannot create ring " + fresh, errno);
  // A mapping keeps the description it was made from, a forked child keeps the mapping: the lock needs one of its own.
  // test_ring.py, "a child that outlives its parent does not keep the ring".
  fd_ = Fd(::open(fresh.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  const std::uint64_t bytes = ring_page + capacity;
  void* base = MAP_FAILED;
  try {
    if (!fd_) throw FileError("cannot open ring " + fresh, errno);
    lock_file(fd_.get(), fresh);  // nobody else may know this file: `previous` is locked
    allocate(mapped.get(), fresh, bytes);
    base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, mapped.get(), 0);
    if (base == MAP_FAILED) throw FileError("cannot map ring " + fresh, errno);
    page_ = static_cast<RingPage*>(base);
    begin(slot, carried);
    if (::rename(fresh.c_str(), path.c_str()) != 0) throw FileError("cannot rename ring " + fresh, errno);
  } catch (...) {
    if (base != MAP_FAILED) ::munmap(base, bytes);
    ::unlink(fresh.c_str());
    throw;
  }
}

Ring::Ring(std::uint64_t capacity, std::uint32_t slot) : capacity_(capacity), pid_(process_id()) {
  check_capacity(capacity);
  ring_id_ = random_ring_id();
  void* base = ::mmap(nullptr, ring_page + capacity, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE,
                      -1, 0);
  if (base == MAP_FAILED) throw FileError("cannot map a ring of " + std::to_string(capacity) + " bytes", errno);
  page_ = static_cast<RingPage*>(base);
  begin(slot, nullptr);
}

void Ring::begin(std::uint32_t slot, const RingCounters* carried) noexcept {
  data_ = reinterpret_cast<unsigned char*>(page_) + ring_page;
  page_->identity = {ring_magic, ring_version, slot, capacity_, ring_id_, wall_ns(), 0,
                     static_cast<std::uint32_t>(pid_)};
  page_->identity.crc = identity_crc(page_->identity);
  if (carried != nullptr) copy_counters(*carried, page_->counters);
}

Ring::~Ring() { ::munmap(page_, ring_page + capacity_); }

Push Ring::refuse(Push why, bool last) noexcept {
  auto& counters = page_->counters;
  if (why == Push::full) {
    observe();
    if (!last) return why;
  }
  auto& counter = why == Push::full        ? counters.dropped_full
                  : why == Push::too_large ? counters.dropped_too_large
                                           : counters.dropped_closed;
  counter.fetch_add(1, std::memory_order_relaxed);
  if (why != Push::closed) {
    // After the count: whoever takes the place finds what belongs to it (report_gaps).
    std::uint64_t none = gap_none;
    gap_from_.compare_exchange_strong(none, tail(), std::memory_order_release, std::memory_order_relaxed);
  }
  return why;
}

void Ring::observe() noexcept {
  auto& mark = page_->counters.high_water_bytes;
  const std::uint64_t head = this->head(), used = tail() - head;  // in this order, so that it is never negative
  std::uint64_t most = mark.load(std::memory_order_relaxed);
  while (most < used && !mark.compare_exchange_weak(most, std::min(used, capacity_), std::memory_order_relaxed)) {
  }
}

// Takes `need` bytes, not across the end, and writes the pad that this may need.
Push Ring::reserve(std::uint64_t need, bool even_closed, std::uint64_t& position) noexcept {
  std::uint64_t word = page_->tail.load(std::memory_order_relaxed), tail, pad;
  for (;;) {
    const std::uint64_t closed = word & closed_bit;
    if (closed && !even_closed) return Push::closed;
    tail = word - closed;
    const std::uint64_t offset = tail & (capacity_ - 1);
    pad = offset + need > capacity_ ? capacity_ - offset : 0;
    const std::uint64_t end = tail + pad + need;
    // Acquire and release on the shared copy: its reader writes where the consumer has read
    // (tests/native/ring_soak.cpp).
    if (end - page_->cached_head.load(std::memory_order_acquire) > capacity_) {
      const std::uint64_t head = page_->head.load(std::memory_order_acquire);
      page_->cached_head.store(head, std::memory_order_release);
      if (end - head > capacity_) {
        // A tail read long ago looks full against a newer head: only the present tail may refuse.
        const std::uint64_t now = page_->tail.load(std::memory_order_relaxed);
        if (now == word) return Push::full;
        word = now;
        continue;
      }
    }
    if (page_->tail.compare_exchange_weak(word, end | closed, std::memory_order_relaxed)) break;
  }
  if (pad != 0) {
    unsigned char* at = data_ + (tail & (capacity_ - 1));
    auto* header = reinterpret_cast<RecordHeader*>(at);
    header->size = static_cast<std::uint32_t>(pad);
    header->crc = 0;
    commit_word(at).store((tail ^ ring_id_) | record_pad, std::memory_order_release);
  }
  position = tail + pad;
  return Push::ok;
}

void Ring::put(std::uint64_t position, const void* data, std::size_t size) noexcept {
  unsigned char* at = data_ + (position & (capacity_ - 1));
  auto* header = reinterpret_cast<RecordHeader*>(at);
  header->size = static_cast<std::uint32_t>(size);
  commit_word(at).store((position ^ ring_id_) | record_reserved, std::memory_order_release);
  if (size != 0) std::memcpy(at + sizeof(RecordHeader), data, size);
  // Of the copy, not of the source: the caller's buffer may change under us.
  header->crc = record_crc(at + sizeof(RecordHeader), size, position);
  commit_word(at).store((position ^ ring_id_) | record_committed, std::memory_order_release);
}

Push Ring::push(const void* data, std::size_t size, bool last) noexcept {
  if (!owned()) return refuse(Push::closed, last);
  if (size > record_bytes_max() - sizeof(RecordHeader)) return refuse(Push::too_large, last);
  std::uint64_t position;
  if (const Push answer = reserve(record_bytes(size), false, position); answer != Push::ok) return refuse(answer, last);
  put(position, data, size);
  page_->counters.pushed.fetch_add(1, std::memory_order_relaxed);
  page_->counters.pushed_bytes.fetch_add(size, std::memory_order_relaxed);
  return Push::ok;
}

bool Ring::report_gaps() noexcept {
  auto& counters = page_->counters;
  const std::uint64_t found = gap_from_.exchange(gap_none, std::memory_order_acquire);
  const std::uint64_t from = found == gap_none ? gap_end_ : found;
  struct Reason {
    const char* name;
    std::atomic<std::uint64_t>& dropped;
    std::atomic<std::uint64_t>& told;
  };
  for (const auto& reason : {Reason{"full", counters.dropped_full, counters.gap_full},
                             Reason{"too_large", counters.dropped_too_large, counters.gap_too_large}}) {
    const std::uint64_t dropped = reason.dropped.load(std::memory_order_relaxed);
    const std::uint64_t told = reason.told.load(std::memory_order_relaxed);
    if (dropped == told) continue;
    std::uint64_t position;
    if (reserve(record_bytes(gap_size(reason.name)), true, position) != Push::ok) {
      std::uint64_t none = gap_none;
      gap_from_.compare_exchange_strong(none, from, std::memory_order_release, std::memory_order_relaxed);
      return false;
    }
    unsigned char payload[gap_size_max];
    put(position, payload, write_gap(payload, from, position, dropped - told, reason.name));
    reason.told.store(dropped, std::memory_order_relaxed);
    gap_end_ = position;
  }
  return true;
}

void Ring::close() noexcept {
  if (owned()) page_->tail.fetch_or(closed_bit, std::memory_order_acq_rel);
}

Run Ring::peek(std::uint64_t cursor, std::uint64_t bytes_max) const noexcept {
  const std::uint64_t mask = capacity_ - 1;
  const auto state_at = [&](std::uint64_t position) {
    return commit_word(data_ + (position & mask)).load(std::memory_order_acquire) ^ position ^ ring_id_;
  };
  if (state_at(cursor) == record_pad) cursor += capacity_ - (cursor & mask);
  Run run = {data_ + (cursor & mask), cursor, cursor, 0, 0, 0};
  while (run.end - run.begin < bytes_max && state_at(run.end) == record_committed) {
    const auto size = reinterpret_cast<const RecordHeader*>(data_ + (run.end & mask))->size;
    if (run.records != 0 && run.end - run.begin + record_bytes(size) > bytes_max) break;
    const bool gap = is_gap(data_ + (run.end & mask) + sizeof(RecordHeader), size);
    run.end += record_bytes(size);
    ++run.records;
    run.gaps += gap;
    run.payload_bytes += gap ? 0 : size;
    if ((run.end & mask) == 0) break;
  }
  return run;
}

void Ring::release(std::uint64_t position) noexcept { page_->head.store(position, std::memory_order_release); }

bool Ring::mark_clean() noexcept {
  const std::uint64_t tail = page_->tail.load(std::memory_order_acquire);
  if (!(tail & closed_bit) || head() != (tail & ~std::uint64_t{15})) return false;
  page_->clean.store(ring_clean_word(page_->identity, tail), std::memory_order_release);
  // Gives the memory back. Data pages are not touched again: every push stops at the closed tail.
  return !fd_ || ::ftruncate(fd_.get(), ring_page) == 0;
}

}  // namespace pairec
