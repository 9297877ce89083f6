// A byte ring in a mapped file: many producers, one consumer, no lock; what was pushed survives the death of the
// process.
//
// The file is one header page and `capacity` bytes. A record is a 16-byte header and its payload, 16-byte aligned, at
// an absolute position that never wraps. Its first word is (position XOR ring_id) | state, so bytes of an earlier lap
// never look committed and nothing need be zeroed. Each opening makes a new file with a new ring_id; an old file is
// read and marked clean. A ring without a file is the same in memory of the process alone, and dies with it.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "file.hpp"

namespace pairec {

inline constexpr std::uint64_t ring_capacity_min = 64u << 10;
inline constexpr std::uint64_t ring_capacity_max = std::uint64_t{8} << 30;
inline constexpr std::size_t ring_page = 4096;

enum class Push : int { ok = 0, full = 1, too_large = 2, closed = 3 };

enum RecordState : std::uint64_t { record_reserved = 1, record_committed = 2, record_pad = 3 };

struct RecordHeader {
  std::uint64_t commit;  // (position XOR ring_id) | state
  std::uint32_t size;    // payload bytes; of a pad: all its bytes, to the end of the ring
  std::uint32_t crc;     // CRC-32C of the payload, seeded with the position
};
static_assert(sizeof(RecordHeader) == 16);

constexpr std::uint64_t record_bytes(std::uint64_t size) noexcept {
  return (sizeof(RecordHeader) + size + 15) / 16 * 16;
}

std::uint32_t record_crc(const void* data, std::size_t size, std::uint64_t position) noexcept;

// A gap: records that were refused, told among those that were not. It is a record whose payload is the msgpack map
// {"gap_from", "gap_to", "dropped", "reason"}; a callback is an array, so the two cannot be taken for each other.
// `gap_from` and `gap_to` are positions: the refusals happened between them.
inline constexpr char gap_begin[] = "\x84\xa8" "gap_from\xcf";
inline constexpr std::size_t gap_begin_size = sizeof(gap_begin) - 1;
bool is_gap(const unsigned char* data, std::size_t size) noexcept;
std::uint64_t gap_dropped(const unsigned char* data, std::size_t size) noexcept;

// What never changes after creation; `crc` covers the bytes before it and nothing else.
struct RingIdentity {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t slot;
  std::uint64_t capacity;
  std::uint64_t ring_id;     // random, low 4 bits zero
  std::int64_t created_ns;   // wall clock
  std::uint32_t crc;
  std::uint32_t owner;       // process id, for messages only
};

// Carried from generation to generation. The gap_ counts say how many refusals have been told in gaps.
struct RingCounters {
  std::atomic<std::uint64_t> pushed, pushed_bytes, dropped_full, dropped_too_large, dropped_closed;
  std::atomic<std::uint64_t> gap_full, gap_too_large, high_water_bytes;
};
static_assert(sizeof(RingCounters) == 64);
void copy_counters(const RingCounters& from, RingCounters& to) noexcept;

// Page 0. Bit 0 of `tail` says closed: reserving and closing are one atomic word, so nothing slips in behind a close.
struct RingPage {
  alignas(64) RingIdentity identity;
  alignas(64) std::atomic<std::uint64_t> tail;         // reserved up to
  alignas(64) std::atomic<std::uint64_t> head;         // released up to
  alignas(64) std::atomic<std::uint64_t> cached_head;  // producers' copy of head, never ahead of it
  alignas(64) RingCounters counters;
  alignas(64) std::atomic<std::uint64_t> clean;        // clean_word() when everything accepted has left the ring
};
static_assert(sizeof(RingPage) <= ring_page);

bool ring_identity_valid(const RingIdentity& identity) noexcept;
std::uint64_t ring_clean_word(const RingIdentity& identity, std::uint64_t tail) noexcept;

// Opens (creating it empty) and locks a ring file. Throws LockedError when it has a live owner, FileError.
Fd lock_ring(const std::string& path);

// Whether somebody alive owns the ring file. Takes no lock. Throws FileError, also if there is no such file.
bool ring_has_owner(const std::string& path);

// A contiguous run of committed records, as they lie in the ring: [begin, end), empty when begin == end.
struct Run {
  const unsigned char* data;
  std::uint64_t begin, end;
  std::uint64_t payload_bytes;
  std::uint32_t records;  // gaps included
  std::uint32_t gaps;
};

class Ring {
 public:
  // Replaces the file at `path`, whose lock is `previous`, by a new generation. `carried` (or null) are the counters of
  // the old one. Throws std::invalid_argument: capacity; FileError: no space, with the bytes needed and available.
  Ring(const std::string& path, std::uint64_t capacity, std::uint32_t slot, Fd previous, const RingCounters* carried);
  // Without a file. Throws std::invalid_argument, FileError.
  Ring(std::uint64_t capacity, std::uint32_t slot);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Reserves, copies, commits. Any thread. A record may have capacity / 8 bytes with its header.
  Push push(const void* data, std::size_t size) noexcept { return push(data, size, true); }
  // The same for one who will ask again: a ring that is full is no loss yet, and is not counted.
  Push offer(const void* data, std::size_t size) noexcept { return push(data, size, false); }

  // From here on every push answers closed; those that have reserved still commit.
  void close() noexcept;

  // One consumer: committed records from `cursor` on, at most `bytes_max` (but at least one record), never across the
  // end.
  Run peek(std::uint64_t cursor, std::uint64_t bytes_max) const noexcept;
  // Gives the space before `position` back to producers.
  void release(std::uint64_t position) noexcept;
  // Pushes a gap for what was refused since the last one, also when closed. False if there is no space for it yet. The
  // consumer's thread.
  bool report_gaps() noexcept;
  // Keeps the high-water mark of bytes in use.
  void observe() noexcept;
  // When closed and empty: says so in the file and shrinks it to its header page. False if it holds records.
  bool mark_clean() noexcept;
  // Lets the next owner in. Only after close() and the last peek().
  void unlock() noexcept { fd_.close(); }

  std::uint64_t tail() const noexcept { return page_->tail.load(std::memory_order_acquire) & ~std::uint64_t{15}; }
  std::uint64_t head() const noexcept { return page_->head.load(std::memory_order_acquire); }
  std::uint64_t capacity() const noexcept { return capacity_; }
  std::uint64_t record_bytes_max() const noexcept { return capacity_ / 8; }
  std::uint64_t ring_id() const noexcept { return ring_id_; }
  std::uint32_t slot() const noexcept { return page_->identity.slot; }
  std::int64_t created_ns() const noexcept { return page_->identity.created_ns; }
  const RingCounters& counters() const noexcept { return page_->counters; }
  // False in a forked child.
  bool owned() const noexcept { return pid_ == process_id(); }

 private:
  static constexpr std::uint64_t gap_none = ~std::uint64_t{0};
  Push push(const void* data, std::size_t size, bool last) noexcept;
  Push reserve(std::uint64_t need, bool even_closed, std::uint64_t& position) noexcept;
  void put(std::uint64_t position, const void* data, std::size_t size) noexcept;
  Push refuse(Push why, bool last) noexcept;
  void begin(std::uint32_t slot, const RingCounters* carried) noexcept;

  Fd fd_;
  std::uint64_t capacity_, ring_id_;
  unsigned char* data_;
  RingPage* page_;
  int pid_;
  std::atomic<std::uint64_t> gap_from_{gap_none};  // where the ring was when the first refusal came that no gap tells
  std::uint64_t gap_end_ = 0;                      // of the consumer's thread: the latest gap
};

}  // namespace pairec
