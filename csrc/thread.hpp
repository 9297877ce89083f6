// What every flush thread needs: a native thread that takes no signals, and the age of what waits for it.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>

namespace pairec {

// Starts `body`, at a lower priority than the caller's. Signals are the interpreter's, whose main thread must be the one
// they interrupt: all are blocked here.
std::unique_ptr<std::thread> start_thread(const char* name, std::function<void()> body);

// When positions of a ring were first seen, to within one look: so that the oldest one still waiting has an age.
class Ages {
 public:
  // Everything before `tail` has been pushed by `now`.
  void look(std::uint64_t tail, std::int64_t now);
  // Nothing before `position` waits any more.
  void done(std::uint64_t position);
  // When the oldest that waits was first seen; 0 if nothing waits.
  std::int64_t oldest_ns() const noexcept { return marks_.empty() ? 0 : marks_.front().seen_ns; }

 private:
  struct Mark {
    std::uint64_t tail;
    std::int64_t seen_ns;
  };
  std::deque<Mark> marks_;
  std::uint64_t tail_ = 0;
};

}  // namespace pairec
