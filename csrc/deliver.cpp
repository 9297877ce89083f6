// The thread and its states. What becomes of a single record is in deliver_rows.cpp.
#include "deliver.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace pairec {
namespace {

constexpr std::int64_t millisecond = 1'000'000, second = 1'000 * millisecond;
constexpr std::int64_t idle_min = millisecond / 2, idle_max = 10 * millisecond;
constexpr std::int64_t backoff_min = 100 * millisecond, backoff_max = 2 * second;
constexpr std::int64_t full_ns = 100 * millisecond;   // a producer that takes nothing for so long is overrun
constexpr std::int64_t gather_ns = 100 * millisecond; // while segments are replayed, records wait so long in the ring
constexpr std::int64_t turn_ns = 50 * millisecond;    // and a segment that all wait for is written so long
constexpr std::int64_t kafka_stop_ns = 5 * second;    // what stop() gives the brokers, at most
constexpr std::uint64_t turn_bytes = 1u << 20;        // or to this size
constexpr std::uint64_t feed_bytes = 256u << 10;      // read in one round, before reports are looked at
constexpr std::uint64_t sync_bytes = 4u << 20;
constexpr std::int64_t never = ~(std::int64_t{1} << 63);
constexpr std::int64_t ask_again_ns = 60 * second;    // for a limit that was not told
constexpr int stuck = 3;                              // stalls that one record may wait while others are acknowledged

}  // namespace

Deliverer::Deliverer(Ring& ring, const KafkaLibrary& library, DeliverOptions options)
    : ring_(ring),
      library_(library),
      options_(std::move(options)),
      batch_(configured_batch_bytes(options_.kafka)),
      producer_(std::make_unique<Producer>(library, options_.kafka, batch_.bytes(), static_cast<KafkaReports&>(*this))),
      backlog_(options_.directory, options_.sink + "_spill", ring),
      spill_(options_.directory, options_.sink + "_spill", ring),
      dead_(options_.directory, options_.sink + "_dead", ring),
      empty_wall_ns_(wall_ns()) {
  counters_.beat_ns.store(monotonic_ns());
  thread_ = start_thread("pairec-kafka", [this] { run(); });
}

Deliverer::~Deliverer() { stop(0); }

bool Deliverer::flush(std::int64_t timeout_ns) {
  const std::uint64_t target = ring_.tail();
  const auto done = [&] { return counters_.delivered.load(std::memory_order_acquire) >= target; };
  std::unique_lock lock(mutex_);
  flush_target_ = std::max(flush_target_, target);
  poked_ = true;
  wake_.notify_one();
  progress_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [&] { return done() || ended_; });
  return done();
}

bool Deliverer::stop(std::int64_t timeout_ns) {
  ring_.close();
  std::unique_lock lock(mutex_);
  if (!stopping_) kafka_until_ = monotonic_ns() + std::min(timeout_ns / 2, kafka_stop_ns);
  stopping_ = poked_ = true;
  wake_.notify_one();
  progress_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [&] { return ended_; });
  aborted_ = poked_ = true;
  wake_.notify_one();
  if (auto thread = std::move(thread_)) {
    lock.unlock();
    thread->join();
    lock.lock();
  }
  return drained_;
}

void Deliverer::run() {
  bool drained = false;
  for (;;) {
    Wishes wishes;
    {
      const std::lock_guard lock(mutex_);
      wishes = {stopping_, aborted_, kafka_until_, flush_target_};
    }
    if (wishes.aborted) break;
    const std::int64_t now = now_ = monotonic_ns();
    drained = step(now, wishes);
    publish(now);
    if (drained) break;
    pause();
  }
  producer_.reset();
  backlog_.leave();
  counters_.hole_ns.store(0, std::memory_order_relaxed);  // nobody looks
  const std::lock_guard lock(mutex_);
  drained_ = drained;
  ended_ = true;
  progress_.notify_all();
}

// One round. True when stopping and nothing is left in the ring.
bool Deliverer::step(std::int64_t now, const Wishes& wishes) {
  taken_ = 0;
  ages_.look(ring_.tail(), now);
  ring_.observe();
  if (producer_ == nullptr && !last_) make_producer(now);
  if (producer_ != nullptr) {
    if (const int code = injected_.exchange(0); code != 0) producer_->inject_fatal(code);
    producer_->poll(0);
  }
  settle(now);
  watch(now);
  look_at_limit(now);
  if (now >= adopt_at_ && !wishes.stopping) {
    adopt_at_ = now + options_.adopt_ns;
    const std::uint64_t before = backlog_.records();
    if (const int code = backlog_.adopt(); code != 0) disk_failed(code, now);
    counters_.adopted.fetch_add(backlog_.records() - before, std::memory_order_relaxed);
    if (state_ == DeliverState::direct && backlog_.unread() != nullptr) state_ = DeliverState::replay;
  }
  const bool crowded = ring_used() > ring_.capacity() / 2;
  if (state_ == DeliverState::direct && (crowded || (full_since_ != 0 && now - full_since_ > full_ns)))
    state_ = DeliverState::replay;
  if (state_ == DeliverState::spill && now >= retry_at_ && producer_ != nullptr && !last_)
    state_ = DeliverState::replay;
  if (state_ == DeliverState::direct) {
    feed_ring(now);
    unspilled_since_ = now;
  }
  if (state_ == DeliverState::replay) replay(now, wishes.stopping);
  const bool hurry = wishes.stopping || ring_.head() < wishes.flush_target;
  if (state_ != DeliverState::direct) spill_ring(now, hurry);
  sync_spill(now, hurry || crowded);
  settle(now);
  return wishes.stopping && finish(now, wishes);
}

// Looks for what does not go as it should: a dead producer, rows that must be sent again, silence.
void Deliverer::watch(std::int64_t now) {
  if (fatal_) {
    if (producer_ != nullptr) counters_.errors.add(producer_->fatal());
    rewind(now);
    fatal_ = false;
    return replace_producer(now);
  }
  if (failed_ || unknown_) return go_down(now);
  if (suspect_) {
    // A whole batch was refused, for its size or for one row in it. What is behind it must not overtake it.
    if (has_run_dry()) {
      batch_.refuse(now, counters_.dead.load(std::memory_order_relaxed));
      rewind(now);
      return replace_producer(now);
    }
  }
  if (window_.empty() || window_.front().outstanding == 0) return;
  const Entry& oldest = window_.front();
  // Replayed records are on disk: they may take nearly as long as the producer itself would wait.
  const std::int64_t patience =
      oldest.segment == nullptr ? options_.stall_ns
                                : std::max(options_.stall_ns, options_.kafka.message_timeout_ms * millisecond / 3 * 2);
  // A queue that is long and moves is no silence; but one partition's must not hide behind the others' acknowledgements.
  const bool silent = now - std::max(oldest.since_ns, reported_at_) > patience;
  if (silent || now - std::max(oldest.since_ns, settled_at_) > stuck * patience) go_down(now);
}

void Deliverer::go_down(std::int64_t now) {
  const bool unknown = unknown_;
  rewind(now);
  if (unknown) producer_.reset();  // a new one asks for the topic again; this one would not for minutes
  state_ = DeliverState::spill;
  probing_ = true;
  backoff_ns_ = std::clamp(2 * backoff_ns_, backoff_min, backoff_max);
  retry_at_ = monotonic_ns() + backoff_ns_;
}

void Deliverer::make_producer(std::int64_t now) {
  if (now < producer_at_) return;
  try {
    producer_ = std::make_unique<Producer>(library_, options_.kafka, batch_.bytes(), static_cast<KafkaReports&>(*this));
    if (asking_) is_told_ = false;
    asking_ = false;
    ask_at_ = 0;
  } catch (const std::exception&) {  // it was made once: no memory or no thread to be had now
    producer_at_ = now + second;
    state_ = DeliverState::spill;
  }
}

void Deliverer::replace_producer(std::int64_t now) {
  producer_.reset();
  make_producer(now);
}

// Takes back what was not sent, and waits for the reports of what was: true when there are none to come.
bool Deliverer::has_run_dry() noexcept {
  if (!purging_ && outstanding_ != 0) producer_->purge_unsent();
  purging_ = true;
  return outstanding_ == 0;
}

// Asks each new producer's brokers for the topic's limit, and makes another producer when its batches are to be of
// another size.
void Deliverer::look_at_limit(std::int64_t now) {
  if (producer_ == nullptr || suspect_) return;
  if (asking_) {
    if (const std::int64_t limit = producer_->limit(); limit != Producer::unanswered) {
      asking_ = false;
      ask_at_ = limit == Producer::untold ? now + ask_again_ns : never;
      is_told_ = limit != Producer::untold;
      if (is_told_) batch_.tell(static_cast<std::uint64_t>(limit));
    }
  } else if (now >= ask_at_) {
    hold_until_ = is_told_ ? now + hold_ns : 0;  // where nobody answered, nobody is waited for again
    producer_->ask_limit();
    asking_ = true;
  }
  batch_.grow(now);
  // Once something was taken back it must be sent again, whatever the size is meanwhile.
  if ((producer_->batch_bytes() == batch_.bytes() && !purging_) || !has_run_dry()) return;
  rewind(now);
  replace_producer(now);
}

// Nothing is handed over that a smaller batch would be needed for.
bool Deliverer::is_held(std::int64_t now) const noexcept {
  return purging_ || (asking_ && now < hold_until_) || producer_->batch_bytes() != batch_.bytes();
}

void Deliverer::feed_ring(std::int64_t now) {
  if (producer_ == nullptr || failed_ || suspect_ || fatal_ || is_held(now)) return;
  if (current_ != nullptr && !push_rows(now)) return;
  const Run run = ring_.peek(cursor_, feed_bytes);
  cursor_ = run.begin;
  while (cursor_ < run.end) {
    const unsigned char* at = run.data + (cursor_ - run.begin);
    const auto size = reinterpret_cast<const RecordHeader*>(at)->size;
    const std::uint64_t begin = cursor_;
    cursor_ += record_bytes(size);
    ++taken_;
    // Refusals that the ring tells of itself are no rows: a topic holds rows only.
    if (ring_delivered_.count(begin) != 0 || is_gap(at + sizeof(RecordHeader), size)) {
      pass_over(nullptr, begin, cursor_, now);
      continue;
    }
    begin_record(nullptr, begin, at + sizeof(RecordHeader), size, now);
    if (current_ != nullptr && !push_rows(now)) return;
    if (failed_ || fatal_) return;
  }
}

void Deliverer::replay(std::int64_t now, bool hurry) {
  if (producer_ == nullptr) return;
  for (std::uint64_t bytes = 0; bytes < feed_bytes;) {
    if (failed_ || suspect_ || fatal_ || unknown_) return;
    if (current_ != nullptr && (is_held(now) || !push_rows(now))) return;
    if (probing_ && !window_.empty()) return;
    SpillSegment* segment = backlog_.unread();
    if (segment == nullptr) {
      if (ring_used() <= ring_.capacity() / 4) state_ = DeliverState::direct;
      return;
    }
    if (segment->writing) {
      // All wait for what is being written now.
      const bool due = hurry || spill_.bytes() >= turn_bytes || now - spill_since_ >= turn_ns;
      if (spill_.unsynced_bytes() != 0 || !due) return;
      close_spill();
      continue;
    }
    if (is_held(now)) return;
    try {
      Record record;
      if (!backlog_.read(*segment, record)) {
        if (segment->in_window == 0) counters_.damaged.fetch_add(backlog_.remove_settled(), std::memory_order_relaxed);
        continue;
      }
      ++taken_;
      bytes += record.size;
      if (segment->delivered.count(record.position) != 0 || is_gap(record.data, record.size)) {
        pass_over(segment, record.position, record.position + record_bytes(record.size), now);
      } else {
        begin_record(segment, record.position, record.data, record.size, now);
      }
    } catch (const FileError& error) {
      // Not damage: the disk does not answer. Sending starts again from what is not settled, after a while.
      disk_failed(error.code, now);
      return go_down(now);
    }
  }
}

// Writes what new records there are to the spill. Records that were sent from the ring come first: they are reported, or
// the rewind that gives them up puts the cursor before them.
void Deliverer::spill_ring(std::int64_t now, bool hurry) {
  const std::uint64_t waiting = ring_.tail() - cursor_;
  if (waiting == 0) unspilled_since_ = now;
  if (ring_entries_ != 0 || now < disk_retry_at_ || waiting == 0) return;
  const bool lazy = state_ == DeliverState::replay && !hurry && !probing_;
  if (lazy && waiting <= ring_.capacity() / 4 && now - unspilled_since_ < gather_ns) return;
  while (spill_.unsynced_bytes() < sync_bytes) {
    Run run = ring_.peek(cursor_, block_bytes_max);
    cursor_ = run.begin;
    if (run.begin == run.end) break;
    // A block is one piece: it ends where a record lies that needs no sending any more.
    std::uint64_t end = run.begin;
    std::uint32_t records = 0;
    while (end < run.end && ring_delivered_.count(end) == 0) {
      end += record_bytes(reinterpret_cast<const RecordHeader*>(run.data + (end - run.begin))->size);
      ++records;
    }
    if (records == 0) {
      cursor_ = ring_delivered_.find(run.begin)->second;
      continue;
    }
    const std::int64_t wall = wall_ns();
    int code = backlog_.lock_own();
    if (code == 0) code = spill_.append(run.data, run.begin, end, records, empty_wall_ns_, wall);
    if (code != 0) return disk_failed(code, now);
    if (spilling_ == nullptr) {
      spilling_ = &backlog_.add(spill_.file(), run.begin, empty_wall_ns_);
      spill_since_ = now;
    }
    if (pending_records_ == 0) unsynced_since_ = now;
    pending_records_ += records;
    cursor_ = end;
    ++taken_;
  }
  unspilled_since_ = now;
  if (cursor_ == ring_.tail()) empty_wall_ns_ = wall_ns();
}

void Deliverer::sync_spill(std::int64_t now, bool hurry) {
  if (state_ == DeliverState::direct && spill_.unsynced_bytes() == 0) return;
  const bool due = hurry || spill_.unsynced_bytes() >= sync_bytes || now - unsynced_since_ >= options_.sync_ns;
  if (spill_.unsynced_bytes() != 0) {
    if (!due) return;
    if (const int code = spill_.sync(); code != 0) return disk_failed(code, now);
    disk_backoff_ns_ = 0;
    spilling_->limit = cursor_;
    spilling_->records += pending_records_;
    spilling_->bytes = spill_.bytes();
    counters_.spilled.fetch_add(pending_records_, std::memory_order_relaxed);
    counters_.released.fetch_add(pending_records_, std::memory_order_relaxed);
    pending_records_ = 0;
    if (spill_.bytes() >= options_.rotate_bytes) close_spill();
  }
  // Only spilled, or acknowledged out of order, lies before the cursor; nothing of the ring is under way.
  if (ring_entries_ != 0 || ring_.head() >= cursor_) return;
  ring_.release(cursor_);
  while (!ring_delivered_.empty() && ring_delivered_.begin()->first < cursor_) {
    counters_.records.fetch_add(1, std::memory_order_relaxed);
    counters_.released.fetch_add(1, std::memory_order_relaxed);
    ring_delivered_.erase(ring_delivered_.begin());
  }
}

void Deliverer::close_spill() {
  if (spilling_ == nullptr) return;
  spill_.close();
  spilling_->writing = false;
  spilling_ = nullptr;
}

// What was appended and not synced is given up, and spilled again from the head after a while. The ring fills meanwhile.
void Deliverer::disk_failed(int code, std::int64_t now) {
  const std::size_t last = counters_.disk_errors.size() - 1;
  counters_.disk_errors[std::min(static_cast<std::size_t>(code), last)].fetch_add(1, std::memory_order_relaxed);
  disk_backoff_ns_ = std::clamp(2 * disk_backoff_ns_, backoff_min, backoff_max);
  disk_retry_at_ = now + disk_backoff_ns_;
  if (spill_.is_open() || spilling_ == nullptr) return;
  spilling_->writing = false;
  if (spilling_->records == 0) spilling_->read_out = true;  // nothing in it is promised
  spilling_ = nullptr;
  pending_records_ = 0;
  cursor_ = ring_.head();
  backlog_.remove_settled();
}

// Stopping: sends what it can for a while, then spills what is left.
bool Deliverer::finish(std::int64_t now, const Wishes& wishes) {
  const bool idle = window_.empty() && ring_.head() == ring_.tail() && spill_.unsynced_bytes() == 0;
  const bool sending = state_ != DeliverState::spill && !probing_ && now < wishes.kafka_until;
  if (!last_ && !sending) {
    last_ = true;
    rewind(now);
    producer_.reset();
    state_ = DeliverState::spill;
  }
  if (!idle || (!last_ && !backlog_.empty())) return false;
  close_spill();
  dead_.close();
  return true;
}

// Nothing can be read although something is reserved: some push has not returned.
void Deliverer::find_hole(std::int64_t now) {
  const Run run = ring_.peek(cursor_, 1);
  if (run.begin != run.end || run.begin == ring_.tail()) {
    counters_.hole_ns.store(0, std::memory_order_relaxed);
  } else if (hole_at_ != run.begin || counters_.hole_ns.load(std::memory_order_relaxed) == 0) {
    hole_at_ = run.begin;
    counters_.hole_ns.store(now, std::memory_order_relaxed);
  }
}

void Deliverer::publish(std::int64_t now) {
  find_hole(now);
  const std::uint64_t delivered = backlog_.own_low(ring_.head());
  ages_.done(delivered);
  counters_.oldest_ns.store(ages_.oldest_ns(), std::memory_order_relaxed);
  counters_.beat_ns.store(now, std::memory_order_relaxed);
  counters_.state.store(static_cast<int>(state_), std::memory_order_relaxed);
  counters_.queued.store(producer_ ? producer_->queued() : 0, std::memory_order_relaxed);
  counters_.spill_records.store(backlog_.records(), std::memory_order_relaxed);
  counters_.spill_bytes.store(backlog_.bytes(), std::memory_order_relaxed);
  counters_.spill_first_ns.store(backlog_.first_ns(), std::memory_order_relaxed);
  if (counters_.delivered.load(std::memory_order_relaxed) == delivered) return;
  counters_.delivered.store(delivered, std::memory_order_release);
  const std::lock_guard lock(mutex_);
  progress_.notify_all();
}

void Deliverer::pause() {
  idle_ns_ = taken_ != 0 ? 0 : std::clamp(2 * idle_ns_, idle_min, idle_max);
  if (producer_ != nullptr && outstanding_ != 0) {
    // Reports wake it. While there is more to send, it does not wait for them.
    const bool more = taken_ != 0 && current_ == nullptr && ring_.tail() - cursor_ > feed_bytes;
    producer_->poll(more ? 0 : static_cast<int>(std::max(idle_ns_, millisecond) / millisecond));
    return;
  }
  if (taken_ != 0) return;
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::nanoseconds(idle_ns_), [&] { return poked_; });
  poked_ = false;
}

}  // namespace pairec
