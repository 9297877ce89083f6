// The flush thread: ring -> blocks -> segment files -> fdatasync -> release. One per ring; needs no interpreter.
#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "ring.hpp"
#include "segment.hpp"
#include "thread.hpp"

namespace pairec {

struct FlushOptions {
  std::string directory, sink;
  std::uint32_t slot;
  std::uint64_t rotate_bytes;
  std::int64_t rotate_ns;  // age at which a segment is closed
  std::int64_t sync_ns;    // a written block waits this long for its fdatasync, at most
  // Closed segments of the sink, of whichever ring, are removed beyond these; 0 is no bound.
  std::uint64_t retain_bytes = 0;
  std::int64_t retain_ns = 0;
  // With less free space than this nothing is written until the end; records wait in the ring. 0 is no mark.
  std::uint64_t free_bytes_min = 0;

  static constexpr std::uint64_t free_bytes_auto = ~std::uint64_t{0};  // free_bytes_min_of the disk
};

struct FlushCounters {
  std::atomic<std::uint64_t> records{0}, bytes{0}, segments{0};  // on disk as far as fdatasync can tell; closed
  std::array<std::atomic<std::uint32_t>, 136> errors{};          // by errno; the last place is for what is beyond
  std::atomic<std::uint64_t> removed{0}, removed_bytes{0};       // segments, by retention
  // Of the disk; whether that is under the mark now, and how often it has come there.
  std::atomic<std::uint64_t> free_bytes{0}, low_water{0}, low_water_times{0};
  std::atomic<std::uint64_t> syncs{0}, sync_sum_ns{0}, sync_most_ns{0};  // what fdatasync took, failed ones too
  // Monotonic times; 0 is none: when the oldest record not yet on disk was first seen, since when a push that has not
  // returned holds up what is behind it, when the thread last looked around.
  std::atomic<std::int64_t> oldest_ns{0}, hole_ns{0}, heartbeat_ns{0};
};

class Flusher {
 public:
  Flusher(Ring& ring, FlushOptions options);
  // Stops without draining if stop() was not called.
  ~Flusher();

  // Waits until everything pushed before is on disk; false at the timeout or if the thread has stopped short of it.
  bool flush(std::int64_t timeout_ns);
  // The same, and the segment it lies in is closed.
  bool rotate(std::int64_t timeout_ns);
  // Closes the ring, drains it, closes the segment, ends the thread. False if the timeout came first: what is left
  // stays in the ring for the next owner. Takes one disk call longer than the timeout at worst.
  bool stop(std::int64_t timeout_ns);

  const FlushCounters& counters() const noexcept { return counters_; }

 private:
  // What others want of the thread, read once per step.
  struct Wishes {
    bool stopping, aborted;
    std::uint64_t flush_target, rotate_wanted;
  };

  void run();
  void step(std::int64_t now, const Wishes& wishes);
  void look(std::int64_t now);
  std::uint64_t drain(std::int64_t now);
  bool sync();
  int timed_sync();
  void find_hole(std::int64_t now);
  void look_at_disk(std::int64_t now);
  void remove_old(std::int64_t now);
  void close_segment();
  void fail(int code, bool in_sync);
  void count(int code) noexcept;
  void release();
  void pause(std::int64_t now);
  bool wait(bool rotate, std::int64_t timeout_ns);

  Ring& ring_;
  const FlushOptions options_;
  FlushCounters counters_;

  std::mutex mutex_;
  std::condition_variable wake_, progress_;
  // Under mutex_.
  bool stopping_ = false, aborted_ = false, ended_ = false, poked_ = false;
  std::uint64_t flush_target_ = 0, rotate_wanted_ = 0, rotate_done_ = 0;

  // The thread's own.
  std::unique_ptr<SegmentWriter> segment_;
  std::uint64_t cursor_ = 0, sequence_ = 0, unsynced_bytes_ = 0, unsynced_records_ = 0, unsynced_payload_ = 0;
  std::int64_t segment_since_ = 0, unsynced_since_ = 0, backoff_ns_ = 0, retry_at_ = 0;
  std::int64_t empty_wall_ns_ = 0;  // the ring had nothing at this time
  std::int64_t idle_ns_ = 0;
  std::int64_t gap_at_ = 0;
  bool told_ = false;  // no refusal waits for a gap
  std::uint64_t taken_ = 0, sync_bytes_;
  Ages ages_;
  std::uint64_t rotate_answered_ = 0;
  bool drained_ = false;
  std::uint64_t hole_at_ = 0;
  std::int64_t disk_at_ = 0, retain_at_ = 0;
  bool low_ = false;
  const std::int64_t steady_ns_;  // add to the monotonic clock: wall time as it was when this began

  std::unique_ptr<std::thread> thread_;
};

}  // namespace pairec
