// How large the batches of a producer may be, so that brokers refuse no row for its neighbours.
//
// Brokers bound the batch, not the message, and refuse it whole. Where the topic's `max.message.bytes` is known, batches
// keep to it: a row that is larger is alone in its batch, and its refusal is meant for it. Where it is not, each refusal
// of a batch with several rows makes batches a quarter as large, down to one row, and time makes them larger again.
#pragma once
#include <algorithm>
#include <cstdint>

namespace pairec {

class BatchSize {
 public:
  static constexpr std::uint64_t usual = 1'000'000;  // librdkafka's default
  static constexpr std::uint64_t one_row = 0;
  static constexpr std::int64_t wait_min = 1'000'000'000, wait_max = 600'000'000'000;

  // `configured` is never exceeded.
  explicit BatchSize(std::uint64_t configured) noexcept : configured_(configured) {}

  // What a producer is to be made with.
  std::uint64_t bytes() const noexcept { return most() < least ? one_row : most(); }

  // Whether a row of `size` bytes, key included, was alone in a batch of a producer made with `bytes`. A batch takes its
  // first message whatever its size, and a second one only below `bytes`. The margin is less than two messages, their
  // headers and the batch's take at least (298 bytes, of the shortest rows), and more than one takes beside key and
  // value (171 at most): a row that breaks the limit by itself is always known to.
  static bool is_alone(std::uint64_t size, std::uint64_t bytes) noexcept { return bytes == one_row || size + 256 > bytes; }

  // The topic's limit, which may have changed.
  void tell(std::uint64_t limit) noexcept {
    limit_ = limit;
    if (limit < refused_) shrunk_ = refused_ = none;  // that is why: nothing else is to be found out
  }

  // A batch with several rows was refused. `dead` are the dead letters so far: sizes that are refused again and again
  // without one are tried ever less often.
  void refuse(std::int64_t now, std::uint64_t dead) noexcept {
    if (grown_) {
      wait_ = dead == dead_ ? std::min(2 * wait_, wait_max) : wait_min;
      dead_ = dead;
    }
    grown_ = false;
    refused_ = most();
    shrunk_ = std::max(refused_ / factor, least / factor);
    grow_at_ = now + wait_;
  }

  // Larger again, after a while without refusals.
  void grow(std::int64_t now) noexcept {
    if (shrunk_ == none || now < grow_at_) return;
    grown_ = true;
    grow_at_ = now + wait_;
    shrunk_ *= factor;
    if (shrunk_ >= std::min(configured_, limit_)) shrunk_ = refused_ = none;
  }

 private:
  static constexpr std::uint64_t none = ~std::uint64_t{0}, factor = 4;
  static constexpr std::uint64_t least = 1024;  // below, few rows fit beside another
  std::uint64_t most() const noexcept { return std::min({configured_, limit_, shrunk_}); }

  std::uint64_t configured_, limit_ = none, shrunk_ = none, refused_ = none, dead_ = 0;
  std::int64_t grow_at_ = 0, wait_ = wait_min;
  bool grown_ = false;
};

}  // namespace pairec
