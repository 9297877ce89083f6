// The flush thread for Kafka: ring -> rows -> librdkafka -> delivery reports -> release. One per ring.
//
// DIRECT: records are produced from the ring, which keeps them until every row is reported: the report moves the head.
// SPILL: brokers do not answer. Everything that is not reported is written to spill segments, synced, and released.
// REPLAY: segments are produced, oldest first; new records go through the spill behind them. A segment is removed when
// all its records are reported. When the last one has been produced, new records follow directly behind it.
// What a broker refuses for good goes to a segment of dead letters, and the flow goes on. At least once: a record may be
// sent twice, with the same headers.
#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "backlog.hpp"
#include "batch_size.hpp"
#include "expand.hpp"
#include "kafka.hpp"
#include "ring.hpp"
#include "series.hpp"
#include "thread.hpp"

namespace pairec {

struct DeliverOptions {
  std::string directory, sink;    // segments `{sink}_spill-…` and `{sink}_dead-…`
  std::uint64_t rotate_bytes;     // at which a segment of either is closed
  std::int64_t sync_ns;           // a spilled block waits this long for its fdatasync, at most
  std::int64_t stall_ns;          // without acknowledgements for so long, records are spilled
  std::int64_t unknown_topic_ns;  // for so long a topic may be unknown before its records are dead letters
  std::int64_t adopt_ns;          // how often to look for what dead workers left
  KafkaOptions kafka;
};

enum class DeliverState : int { direct, spill, replay };

class CodeCounts {
 public:
  void add(int code) noexcept { counts_[place(code)].fetch_add(1, std::memory_order_relaxed); }
  std::uint32_t get(int code) const noexcept { return counts_[place(code)].load(std::memory_order_relaxed); }

 private:
  static std::size_t place(int code) noexcept {
    code = code < kafka_code::lowest || code > kafka_code::highest ? kafka_code::highest : code;
    return static_cast<std::size_t>(code - kafka_code::lowest);
  }
  std::array<std::atomic<std::uint32_t>, kafka_code::highest - kafka_code::lowest + 1> counts_{};
};

struct DeliverCounters {
  std::atomic<std::uint64_t> records{0}, rows{0};         // acknowledged
  std::atomic<std::uint64_t> dead{0};                     // records refused for good
  std::atomic<std::uint64_t> spilled{0};                  // records ever written to the spill by this thread
  std::atomic<std::uint64_t> released{0};                 // records that have left the ring, by either way
  std::atomic<std::uint64_t> spill_records{0}, spill_bytes{0};  // waiting there now, those of dead workers included
  std::atomic<std::uint64_t> adopted{0};                  // records taken over from dead workers
  std::atomic<std::uint64_t> damaged{0};                  // spill segments kept as `.corrupt`
  std::atomic<std::int64_t> spill_first_ns{0};            // wall clock: oldest of them; 0 none
  std::atomic<std::int64_t> oldest_ns{0};                 // monotonic: oldest undelivered of this ring; 0 none
  std::atomic<std::int64_t> beat_ns{0};                   // monotonic: the thread's last round
  std::atomic<std::int64_t> hole_ns{0};                   // monotonic: since when a push holds up all behind it; 0 none
  std::atomic<std::uint64_t> delivered{0};                // position: all before it is acknowledged or a dead letter
  std::atomic<int> queued{0}, state{0};
  CodeCounts errors, dead_codes;                          // of librdkafka and brokers
  std::array<std::atomic<std::uint32_t>, 136> disk_errors{};  // by errno; the last place is for what is beyond
};

class Deliverer : private KafkaReports {
 public:
  // Throws like Producer.
  Deliverer(Ring& ring, const KafkaLibrary& library, DeliverOptions options);
  // Stops without draining if stop() was not called.
  ~Deliverer();

  // Waits until everything pushed before is acknowledged or a dead letter; false at the timeout. What is on its way into
  // the spill is synced at once, also with no time to wait.
  bool flush(std::int64_t timeout_ns);
  // Closes the ring, waits up to half the timeout for acknowledgements (5 s at most), spills the rest, ends the thread.
  // False if the timeout came first: what is left stays in the ring for the next owner.
  bool stop(std::int64_t timeout_ns);

  // Everything before it is acknowledged, a dead letter, or in the spill as far as fdatasync can tell.
  std::uint64_t synced() const noexcept { return ring_.head(); }
  const DeliverCounters& counters() const noexcept { return counters_; }
  // Makes a fatal error of the producer, for tests.
  void inject_fatal(int code) noexcept { injected_.store(code); }

 private:
  struct Wishes {
    bool stopping, aborted;
    std::int64_t kafka_until;
    std::uint64_t flush_target;
  };
  // A record that was handed to the producer, in order.
  struct Entry {
    SpillSegment* segment;  // null: it lies in the ring
    std::uint64_t begin, end;
    std::uint32_t outstanding;  // rows without report
    std::int32_t row;           // the first that was refused
    int code;                   // why; 0 none was
    bool whole;                 // every row was handed over
    bool failed;                // to be sent again
    std::int64_t since_ns;
    std::string copy;           // of a record in the spill
  };

  // deliver.cpp: the thread and its states.
  void run();
  bool step(std::int64_t now, const Wishes& wishes);
  bool finish(std::int64_t now, const Wishes& wishes);
  void watch(std::int64_t now);
  void go_down(std::int64_t now);
  void feed_ring(std::int64_t now);
  void replay(std::int64_t now, bool hurry);
  void spill_ring(std::int64_t now, bool hurry);
  void sync_spill(std::int64_t now, bool hurry);
  void close_spill();
  void disk_failed(int code, std::int64_t now);
  void make_producer(std::int64_t now);
  void replace_producer(std::int64_t now);
  bool has_run_dry() noexcept;
  void look_at_limit(std::int64_t now);
  bool is_held(std::int64_t now) const noexcept;
  void find_hole(std::int64_t now);
  void publish(std::int64_t now);
  void pause();

  // deliver_rows.cpp: what becomes of a record.
  void begin_record(SpillSegment* segment, std::uint64_t begin, const unsigned char* data, std::size_t size,
                    std::int64_t now);
  void pass_over(SpillSegment* segment, std::uint64_t begin, std::uint64_t end, std::int64_t now);
  bool push_rows(std::int64_t now);
  void report(void* tag, int code, int row, std::size_t size) override;
  void trouble(int code) override;
  void judge(Entry& entry, int code, int row, std::size_t size);
  void settle(std::int64_t now);
  int append_dead(const Entry& entry);
  void rewind(std::int64_t now);
  std::uint64_t ring_used() const noexcept { return ring_.tail() - ring_.head(); }

  Ring& ring_;
  const KafkaLibrary& library_;
  const DeliverOptions options_;
  DeliverCounters counters_;
  std::atomic<int> injected_{0};

  std::mutex mutex_;
  std::condition_variable wake_, progress_;
  // Under mutex_.
  bool stopping_ = false, aborted_ = false, ended_ = false, poked_ = false, drained_ = false;
  std::int64_t kafka_until_ = 0;
  std::uint64_t flush_target_ = 0;

  // The thread's own.
  BatchSize batch_;
  std::unique_ptr<Producer> producer_;
  DeliverState state_ = DeliverState::replay;
  Backlog backlog_;
  SegmentSeries spill_, dead_;
  SpillSegment* spilling_ = nullptr;  // the segment that is being written
  Expander expander_;
  std::string key_, text_, scratch_;
  RowName name_ = {};
  std::deque<Entry> window_;
  Entry* current_ = nullptr;  // rows of it are still to be handed over
  int row_ = 0;
  bool row_ready_ = false;    // text_ holds row_, which the producer did not take yet
  std::uint64_t cursor_ = 0;  // of the ring: everything before is in the window, spilled or released
  std::map<std::uint64_t, std::uint64_t> ring_delivered_;  // begin -> end of records in the ring, out of order
  std::uint64_t ring_entries_ = 0, outstanding_ = 0, taken_ = 0, dead_position_ = 0;
  std::uint64_t pending_records_ = 0;  // appended to the spill and not synced
  std::uint64_t hole_at_ = 0;
  bool probing_ = false, purging_ = false, fatal_ = false, suspect_ = false, unknown_ = false, failed_ = false;
  static constexpr std::int64_t hold_ns = 500'000'000;  // for the topic's limit sending waits so long, at most
  bool asking_ = false;    // for the topic's limit
  bool is_told_ = true;    // the last question for it had an answer, or was none yet
  bool last_ = false;      // stopping, and no more will be sent
  std::int64_t now_ = 0, full_since_ = 0, unspilled_since_ = 0, unsynced_since_ = 0, spill_since_ = 0;
  std::int64_t retry_at_ = 0, backoff_ns_ = 0, disk_retry_at_ = 0, disk_backoff_ns_ = 0, adopt_at_ = 0;
  std::int64_t unknown_since_ = 0, idle_ns_ = 0, producer_at_ = 0, empty_wall_ns_;
  std::int64_t reported_at_ = 0, settled_at_ = 0, hold_until_ = 0, ask_at_ = 0;
  Ages ages_;

  std::unique_ptr<std::thread> thread_;
};

}  // namespace pairec
