#include "flush.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "retain.hpp"

namespace pairec {
namespace {

constexpr std::uint64_t sync_bytes_max = 4u << 20;
constexpr std::int64_t millisecond = 1'000'000;
constexpr std::int64_t idle_min = millisecond / 2, idle_max = 10 * millisecond;
constexpr std::int64_t gather = 2 * millisecond;  // a pause between small blocks, so that they become larger ones
constexpr std::int64_t backoff_min = 100 * millisecond, backoff_max = 2'000 * millisecond;
constexpr std::int64_t gap_pause = 100 * millisecond;  // between gaps: one tells all refusals since the last
constexpr std::int64_t rest_max = 500 * millisecond;  // a thread that waits for a disk still shows that it lives
constexpr std::int64_t disk_pause = 200 * millisecond, retain_pause = 10'000 * millisecond;

}  // namespace

Flusher::Flusher(Ring& ring, FlushOptions options)
    : ring_(ring),
      options_(std::move(options)),
      empty_wall_ns_(wall_ns()),
      sync_bytes_(std::min(sync_bytes_max, ring.capacity() / 4)),
      steady_ns_(wall_ns() - monotonic_ns()) {
  counters_.heartbeat_ns = monotonic_ns();
  thread_ = start_thread("pairec-flush", [this] { run(); });
}

Flusher::~Flusher() { stop(0); }

bool Flusher::flush(std::int64_t timeout_ns) { return wait(false, timeout_ns); }

bool Flusher::rotate(std::int64_t timeout_ns) { return wait(true, timeout_ns); }

bool Flusher::wait(bool rotate, std::int64_t timeout_ns) {
  const std::uint64_t target = ring_.tail();
  std::unique_lock lock(mutex_);
  flush_target_ = std::max(flush_target_, target);
  const std::uint64_t ticket = rotate ? ++rotate_wanted_ : 0;
  poked_ = true;
  wake_.notify_one();
  const auto done = [&] { return ring_.head() >= target && rotate_done_ >= ticket; };
  progress_.wait_for(lock, std::chrono::nanoseconds(timeout_ns), [&] { return done() || ended_; });
  // A thread that drained everything and ended has closed its segment too.
  return done() || drained_;
}

bool Flusher::stop(std::int64_t timeout_ns) {
  ring_.close();
  std::unique_lock lock(mutex_);
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

void Flusher::run() {
  for (;;) {
    Wishes wishes;
    {
      const std::lock_guard lock(mutex_);
      wishes = {stopping_, aborted_, flush_target_, rotate_wanted_};
    }
    if (wishes.aborted) break;
    const std::int64_t now = monotonic_ns();
    step(now, wishes);
    if (wishes.stopping && told_ && segment_ == nullptr && ring_.head() == ring_.tail()) {
      const std::lock_guard lock(mutex_);
      drained_ = true;
      break;
    }
    pause(now);
  }
  segment_.reset();  // after an abort it stays `.open`: the next owner of the slot closes it
  const std::lock_guard lock(mutex_);
  ended_ = true;
  progress_.notify_all();
}

void Flusher::step(std::int64_t now, const Wishes& wishes) {
  taken_ = 0;
  counters_.heartbeat_ns.store(now, std::memory_order_relaxed);
  ring_.observe();
  if (wishes.stopping || now >= gap_at_) {
    told_ = ring_.report_gaps();
    if (told_) gap_at_ = now + gap_pause;
  }
  look(now);
  look_at_disk(now);
  remove_old(now);
  if (now < retry_at_) return;
  // At the end what was accepted is written even so: the ring bounds it, and its memory may not outlive us long.
  std::uint64_t bytes;
  if (!low_ || wishes.stopping) {
    do {
      bytes = drain(now);
      taken_ += bytes;
    } while (bytes != 0 && unsynced_bytes_ < sync_bytes_ && segment_->bytes() < options_.rotate_bytes);
  } else {
    counters_.hole_ns.store(0, std::memory_order_relaxed);  // nobody looks
  }
  if (now < retry_at_) return;
  const bool asked = rotate_answered_ < wishes.rotate_wanted;
  const bool hurry = wishes.stopping || asked || ring_.head() < wishes.flush_target;
  const bool old = segment_ != nullptr && now - segment_since_ >= options_.rotate_ns;
  const bool large = segment_ != nullptr && segment_->bytes() >= options_.rotate_bytes;
  const bool due = unsynced_bytes_ >= sync_bytes_ || now - unsynced_since_ >= options_.sync_ns;
  if (unsynced_bytes_ != 0 && (due || hurry || old || large) && !sync()) return;
  const bool turn = asked && ring_.head() >= wishes.flush_target;
  const bool last = wishes.stopping && told_ && ring_.head() == ring_.tail();
  if (segment_ != nullptr && unsynced_bytes_ == 0 && (turn || old || large || last)) close_segment();
  if (!turn) return;
  rotate_answered_ = wishes.rotate_wanted;
  const std::lock_guard lock(mutex_);
  rotate_done_ = wishes.rotate_wanted;
  progress_.notify_all();
}

// Notes since when there are records not on disk, to within one pause.
void Flusher::look(std::int64_t now) {
  ages_.look(ring_.tail(), now);
  counters_.oldest_ns.store(ages_.oldest_ns(), std::memory_order_relaxed);
}

// Appends one block. Answers its bytes, 0 when there is none or it failed.
std::uint64_t Flusher::drain(std::int64_t now) {
  const std::int64_t wall = wall_ns();
  const std::uint64_t used = (segment_ ? segment_->bytes() : sizeof(SegmentHeader)) + sizeof(BlockHeader);
  const std::uint64_t room = options_.rotate_bytes > used ? options_.rotate_bytes - used : 1;
  const Run run = ring_.peek(cursor_, std::min(block_bytes_max, room));
  cursor_ = run.begin;
  if (run.begin == run.end) {
    find_hole(now);
    if (cursor_ == ring_.tail()) empty_wall_ns_ = wall;
    return 0;
  }
  counters_.hole_ns.store(0, std::memory_order_relaxed);
  if (segment_ == nullptr) {
    try {
      segment_ = std::make_unique<SegmentWriter>(options_.directory, options_.sink, options_.slot, ring_.ring_id(),
                                                 ring_.created_ns(), sequence_++);
    } catch (const FileError& error) {
      fail(error.code, false);
      return 0;
    }
    segment_since_ = now;
  }
  const int code = segment_->append(run.data, run.begin, run.end, run.records, empty_wall_ns_, wall_ns());
  if (code != 0) {
    fail(code, false);
    return 0;
  }
  if (unsynced_bytes_ == 0) unsynced_since_ = now;
  cursor_ = run.end;
  unsynced_bytes_ += run.end - run.begin;
  unsynced_records_ += run.records - run.gaps;
  unsynced_payload_ += run.payload_bytes;
  return run.end - run.begin;
}

// Nothing can be read although something is reserved: some push has not returned. It is waited for however long that
// takes, since whatever is behind it was promised in its order; but it is not waited for in silence.
void Flusher::find_hole(std::int64_t now) {
  if (cursor_ == ring_.tail()) {
    counters_.hole_ns.store(0, std::memory_order_relaxed);
  } else if (hole_at_ != cursor_ || counters_.hole_ns.load(std::memory_order_relaxed) == 0) {
    hole_at_ = cursor_;
    counters_.hole_ns.store(now, std::memory_order_relaxed);
  }
}

void Flusher::look_at_disk(std::int64_t now) {
  if (options_.free_bytes_min == 0 || now < disk_at_) return;
  disk_at_ = now + disk_pause;
  Space space;
  if (read_space(options_.directory, space) != 0) return;  // writing will tell what is wrong
  const bool automatic = options_.free_bytes_min == FlushOptions::free_bytes_auto;
  const bool low = space.free < (automatic ? free_bytes_min_of(space) : options_.free_bytes_min);
  counters_.free_bytes.store(space.free, std::memory_order_relaxed);
  counters_.low_water.store(low, std::memory_order_relaxed);
  if (low && !low_) counters_.low_water_times.fetch_add(1, std::memory_order_relaxed);
  low_ = low;
}

void Flusher::remove_old(std::int64_t now) {
  if ((options_.retain_bytes == 0 && options_.retain_ns == 0) || now < retain_at_) return;
  const std::int64_t fraction = options_.retain_ns == 0 ? retain_pause : options_.retain_ns / 4;
  retain_at_ = now + std::clamp(fraction, 100 * millisecond, retain_pause);
  Removed removed;
  const int code = remove_old_segments(options_.directory, options_.sink, options_.retain_bytes, options_.retain_ns,
                                       wall_ns(), now + steady_ns_, removed);
  if (code != 0) count(code);
  counters_.removed.fetch_add(removed.files, std::memory_order_relaxed);
  counters_.removed_bytes.fetch_add(removed.bytes, std::memory_order_relaxed);
}

int Flusher::timed_sync() {
  const std::int64_t begin = monotonic_ns();
  const int code = segment_->sync();
  const auto took = static_cast<std::uint64_t>(monotonic_ns() - begin);
  counters_.sync_sum_ns.fetch_add(took, std::memory_order_relaxed);
  if (took > counters_.sync_most_ns.load(std::memory_order_relaxed)) counters_.sync_most_ns.store(took);
  counters_.syncs.fetch_add(1, std::memory_order_relaxed);
  return code;
}

bool Flusher::sync() {
  if (const int code = timed_sync(); code != 0) {
    fail(code, true);
    return false;
  }
  backoff_ns_ = 0;
  release();
  return true;
}

void Flusher::release() {
  ring_.release(cursor_);
  counters_.records.fetch_add(unsynced_records_, std::memory_order_relaxed);
  counters_.bytes.fetch_add(unsynced_payload_, std::memory_order_relaxed);
  unsynced_bytes_ = unsynced_records_ = unsynced_payload_ = 0;
  ages_.done(cursor_);
  counters_.oldest_ns.store(ages_.oldest_ns(), std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  progress_.notify_all();
}

// Everything in it is synced and released, so a footer that cannot be written loses no record.
void Flusher::close_segment() {
  if (const int code = segment_->finish(); code != 0) {
    count(code);
    segment_->abandon();
  } else {
    counters_.segments.fetch_add(1, std::memory_order_relaxed);
  }
  retain_at_ = 0;  // there is one more
  segment_.reset();
}

// Leaves the segment and begins again at head, in a new one, after a while. After a failed fdatasync nothing more is
// asked of that file: the kernel may have dropped the pages, and a second fdatasync would answer 0.
void Flusher::fail(int code, bool in_sync) {
  count(code);
  if (segment_ != nullptr && !in_sync && unsynced_bytes_ != 0) {
    code = timed_sync();
    if (code == 0) release();
    else count(code);
    in_sync = code != 0;
  }
  if (segment_ != nullptr && !in_sync && segment_->blocks() != 0) {
    close_segment();
  } else if (segment_ != nullptr) {
    segment_->abandon();
    segment_.reset();
  }
  cursor_ = ring_.head();
  unsynced_bytes_ = unsynced_records_ = unsynced_payload_ = 0;
  backoff_ns_ = std::clamp(2 * backoff_ns_, backoff_min, backoff_max);
  retry_at_ = monotonic_ns() + backoff_ns_;
}

void Flusher::count(int code) noexcept {
  const std::size_t last = counters_.errors.size() - 1;
  counters_.errors[std::min(static_cast<std::size_t>(code), last)].fetch_add(1, std::memory_order_relaxed);
}

void Flusher::pause(std::int64_t now) {
  idle_ns_ = taken_ != 0 ? 0 : std::clamp(2 * idle_ns_, idle_min, idle_max);
  std::int64_t rest = taken_ != 0 ? gather : idle_ns_;
  const bool filling = taken_ >= block_bytes_max / 4 || ring_.tail() - cursor_ > ring_.capacity() / 4;
  if (unsynced_bytes_ != 0) rest = std::min(rest, std::max<std::int64_t>(unsynced_since_ + options_.sync_ns - now, 0));
  if (now < retry_at_) {
    rest = retry_at_ - now;
  } else if (filling && taken_ != 0) {
    return;
  }
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::nanoseconds(std::min(rest, rest_max)), [&] { return poked_; });
  poked_ = false;
}

}  // namespace pairec
