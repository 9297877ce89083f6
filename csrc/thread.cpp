#include "thread.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstddef>
#include <utility>

namespace pairec {
namespace {

constexpr std::size_t marks_max = 4096;
constexpr int niceness = 5;  // behind whoever answers requests

}  // namespace

std::unique_ptr<std::thread> start_thread(const char* name, std::function<void()> body) {
  std::unique_ptr<std::thread> thread;
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread = std::make_unique<std::thread>([body = std::move(body)] {
      // Of this thread alone, which is Linux' reading of "process 0". Best effort.
      ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + niceness);
      body();
    });
  } catch (...) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_setname_np(thread->native_handle(), name);
  return thread;
}

void Ages::look(std::uint64_t tail, std::int64_t now) {
  if (tail == tail_) return;
  tail_ = tail;
  if (marks_.size() < marks_max) {
    marks_.push_back({tail, now});
  } else {
    marks_.back().tail = tail;  // makes them look older than they are, never younger
  }
}

void Ages::done(std::uint64_t position) {
  while (!marks_.empty() && marks_.front().tail <= position) marks_.pop_front();
}

}  // namespace pairec
