// What a worker counts, in memory that other processes read: one slot for each worker, of a size that never changes.
//
// A slot is a table that only grows, of what is counted, and cells of 8 bytes that hold the counts. Threads of its
// owner add to cells at once, without a lock; whoever reads sees each cell as it was at some moment. Bytes of a mapping
// that nobody has written are zero, and that is an empty slot.
#pragma once
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace pairec {

inline constexpr std::size_t meter_page = 4096;
inline constexpr std::size_t meter_table_bytes = (508u << 10);
inline constexpr std::size_t meter_gauges_bytes = (64u << 10);
inline constexpr std::size_t meter_cells_max = 1u << 16;
inline constexpr int laps_max = 8;

// `begun` and `ended` count the groups of cells that are added to at one moment; `used` and `cells` what of the table
// and the cells is taken, `refused` how often there was no room. `version` is odd while the gauges are written.
struct MeterHead {
  alignas(64) std::atomic<std::uint64_t> begun;
  alignas(64) std::atomic<std::uint64_t> ended;
  alignas(64) std::atomic<std::uint64_t> used;
  std::atomic<std::uint64_t> cells, refused, version, gauges;
};

// An entry of the table, and behind it `text_bytes` bytes, to the next multiple of 8.
struct MeterEntry {
  std::uint32_t bytes;  // of all of it
  std::uint32_t kind;
  std::uint32_t cell;   // the first
  std::uint32_t cells;
  std::uint32_t text_bytes;
  std::uint32_t unused;
};
static_assert(sizeof(MeterEntry) == 24);

struct MeterSlot {
  MeterHead head;
  alignas(meter_page) unsigned char table[meter_table_bytes];
  std::uint64_t gauges[meter_gauges_bytes / 8];
  alignas(meter_page) std::uint64_t cell[meter_cells_max];
};
static_assert(sizeof(MeterSlot) % meter_page == 0);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic_ref<double>::is_always_lock_free);

inline void meter_add(double* cell, double amount, std::memory_order order = std::memory_order_relaxed) noexcept {
  std::atomic_ref<double>(*cell).fetch_add(amount, order);
}

// The first of the new cells, or -1 if there is no room, which is counted. One thread of the owner at a time.
inline std::int64_t meter_append(MeterSlot& slot, std::uint32_t kind, std::uint32_t cells, const void* text,
                                 std::size_t size) noexcept {
  const std::uint64_t used = slot.head.used.load(std::memory_order_relaxed);
  const std::uint64_t first = slot.head.cells.load(std::memory_order_relaxed);
  const std::size_t bytes = (sizeof(MeterEntry) + size + 7) / 8 * 8;
  if (bytes > meter_table_bytes - used || cells > meter_cells_max - first) {
    slot.head.refused.fetch_add(1, std::memory_order_relaxed);
    return -1;
  }
  const MeterEntry entry{static_cast<std::uint32_t>(bytes), kind, static_cast<std::uint32_t>(first), cells,
                         static_cast<std::uint32_t>(size), 0};
  std::memcpy(slot.table + used, &entry, sizeof entry);
  std::memcpy(slot.table + used + sizeof entry, text, size);
  slot.head.cells.store(first + cells, std::memory_order_relaxed);
  slot.head.used.store(used + bytes, std::memory_order_release);  // only now is there anything to be read
  return static_cast<std::int64_t>(first);
}

// A group begins and ends. Its cells are added to with `release`: who reads one of them and then `begun` finds it begun.
inline void meter_begin(MeterSlot& slot) noexcept { slot.head.begun.fetch_add(1, std::memory_order_relaxed); }
inline void meter_end(MeterSlot& slot) noexcept { slot.head.ended.fetch_add(1, std::memory_order_release); }

// Copies the first `count` cells to `out`; whether no group was under way meanwhile.
inline bool meter_copy(MeterSlot& slot, std::uint64_t* out, std::size_t count) noexcept {
  const std::uint64_t ended = slot.head.ended.load(std::memory_order_acquire);
  for (std::size_t at = 0; at < count; ++at)
    out[at] = std::atomic_ref<std::uint64_t>(slot.cell[at]).load(std::memory_order_acquire);
  return slot.head.begun.load(std::memory_order_relaxed) == ended;
}

// What its last owner began before it died will not end: the next one settles that.
inline void meter_settle(MeterSlot& slot) noexcept {
  slot.head.ended.store(slot.head.begun.load(std::memory_order_relaxed), std::memory_order_relaxed);
  slot.head.version.store(0, std::memory_order_relaxed);
  slot.head.gauges.store(0, std::memory_order_relaxed);
}

// False if they are too many. One thread of the owner at a time. Words are stored with `release`, as cells of a group
// are: who reads one of them and then `version` finds it odd.
inline bool meter_put_gauges(MeterSlot& slot, const void* data, std::size_t size) noexcept {
  if (size > meter_gauges_bytes) return false;
  slot.head.version.fetch_add(1, std::memory_order_relaxed);
  for (std::size_t at = 0; at < size; at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, static_cast<const char*>(data) + at, std::min<std::size_t>(8, size - at));
    std::atomic_ref<std::uint64_t>(slot.gauges[at / 8]).store(word, std::memory_order_release);
  }
  slot.head.gauges.store(size, std::memory_order_release);
  slot.head.version.fetch_add(1, std::memory_order_release);
  return true;
}

// The bytes copied to `out` [meter_gauges_bytes]; -1 if they were written meanwhile.
inline std::int64_t meter_gauges(MeterSlot& slot, std::uint64_t* out) noexcept {
  const std::uint64_t version = slot.head.version.load(std::memory_order_acquire);
  const std::uint64_t size = slot.head.gauges.load(std::memory_order_acquire);
  if (version % 2 || size > meter_gauges_bytes) return -1;
  for (std::size_t at = 0; at < (size + 7) / 8; ++at)
    out[at] = std::atomic_ref<std::uint64_t>(slot.gauges[at]).load(std::memory_order_acquire);
  if (slot.head.version.load(std::memory_order_relaxed) != version) return -1;
  return static_cast<std::int64_t>(size);
}

// `bound` [bounds] ascending; `cell` [bounds + 2]: how many values are at most each bound and above the one before, how
// many are above all, and the sum. One that observes nothing has no cells.
struct MeterHistogram {
  const double* bound;
  std::int32_t bounds;
  std::uint64_t* cell;

  void observe(double value) const noexcept {
    const std::ptrdiff_t bucket = std::lower_bound(bound, bound + bounds, value) - bound;
    std::atomic_ref<std::uint64_t>(cell[bucket]).fetch_add(1, std::memory_order_relaxed);
    meter_add(reinterpret_cast<double*>(cell + bounds + 1), value);
  }
};

// What grows as `value` does, which begins anew at 0 when its process does. `cell` is the value seen last and the sum.
inline void meter_reach(double* cell, double value) noexcept {
  const double before = std::atomic_ref<double>(cell[0]).load(std::memory_order_relaxed);
  std::atomic_ref<double>(cell[0]).store(value, std::memory_order_relaxed);
  meter_add(cell + 1, value >= before ? value - before : value);
}

inline std::int64_t meter_now() noexcept {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// The stages of one request: when each ended, how many candidates it left, and how much of its time was waiting.
// Nanoseconds. A wait within a wait is one.
struct Laps {
  std::int64_t begin;
  std::int64_t end[laps_max], wait[laps_max];
  std::int32_t count[laps_max];
  std::int32_t used, waiting;
  std::int64_t waiting_since;

  void lap(std::int32_t candidates) noexcept {
    if (used == laps_max) return;
    count[used] = candidates;
    end[used++] = meter_now();
  }
  void pause() noexcept {
    if (waiting++ == 0) waiting_since = meter_now();
  }
  void resume() noexcept {
    if (--waiting == 0 && used < laps_max) wait[used] += meter_now() - waiting_since;
  }
};

// What is counted of a stage; anything but the budget may be missing.
struct MeterStage {
  MeterHistogram time, wait;
  double *in, *out, *over;
  std::int64_t budget_ns;
};

// What is counted of each request of a scene. A request is slow that takes longer than `slow_ns`, or ends at `until_ns`
// or later: then it is time to think of others as slow.
struct MeterLine {
  MeterStage stage[laps_max];
  std::int32_t stages;
  MeterStage whole;
  std::atomic<std::int64_t> slow_ns, until_ns;

  static void observe(const MeterStage& stage, std::int64_t ns) noexcept {
    if (stage.time.cell) stage.time.observe(static_cast<double>(ns) * 1e-9);
    if (stage.over && ns > stage.budget_ns) meter_add(stage.over, 1);
  }

  // Whether it is slow. Requires laps.used == stages.
  bool observe(const Laps& laps) const noexcept {
    std::int64_t last = laps.begin;
    std::int32_t count = 0;
    for (std::int32_t at = 0; at < stages; ++at) {
      const MeterStage& one = stage[at];
      observe(one, laps.end[at] - last);
      if (one.wait.cell && laps.wait[at]) one.wait.observe(static_cast<double>(laps.wait[at]) * 1e-9);
      if (one.in && count) meter_add(one.in, count);
      count = laps.count[at];
      if (one.out && count) meter_add(one.out, count);
      last = laps.end[at];
    }
    observe(whole, last - laps.begin);
    return last - laps.begin > slow_ns.load(std::memory_order_relaxed) ||
           last >= until_ns.load(std::memory_order_relaxed);
  }
};

}  // namespace pairec
