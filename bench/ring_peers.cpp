// What one enqueue costs in C++: the ring in its mapped file, a mutex and a deque, and moodycamel's queue, in turns.
// Usage: ring_peers RING_FILE ENQUEUES ROUNDS PRODUCERS BYTES... Prints one JSON object a line, times in nanoseconds.
// Compiled and run by `python -m bench.bench_ring`.
//
// Each queue has the same work: a producer hands over a copy of its record every 2 us, a consumer looks five thousand
// times a second, copies out what is there and gives the space back. The row `nothing` is what the clock itself costs.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#if __has_include(<concurrentqueue/concurrentqueue.h>)
#define HAS_MOODYCAMEL
#include <concurrentqueue/concurrentqueue.h>
#endif

#include "ring.hpp"

namespace {

using Bytes = std::vector<char>;
using Clock = std::chrono::steady_clock;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

struct Figures {
  std::vector<std::uint32_t> ns;
  std::uint64_t refused = 0;
};

// `enqueue(producer)` answers whether it was taken; `drain()` whether there was anything.
template <typename Enqueue, typename Drain>
void measure(Figures& figures, int producers, int count, Enqueue enqueue, Drain drain) {
  std::atomic<bool> stop{false};
  std::atomic<int> ready{0};
  std::thread consumer([&] {
    while (!stop.load(std::memory_order_acquire))
      if (!drain()) std::this_thread::sleep_for(std::chrono::microseconds(200));
    while (drain()) {
    }
  });
  std::vector<std::vector<std::uint32_t>> taken(static_cast<std::size_t>(producers));
  std::vector<std::uint64_t> refused(taken.size());
  std::vector<std::thread> threads;
  for (int producer = 0; producer < producers; ++producer) {
    threads.emplace_back([&, producer] {
      auto& mine = taken[static_cast<std::size_t>(producer)];
      mine.resize(static_cast<std::size_t>(count));
      ready.fetch_add(1);
      while (ready.load() < producers) std::this_thread::yield();
      std::int64_t due = now_ns();
      for (auto& place : mine) {
        while (now_ns() < due) {
        }
        const std::int64_t begin = now_ns();
        const bool accepted = enqueue(producer);
        const std::int64_t end = now_ns();
        place = static_cast<std::uint32_t>(std::min<std::int64_t>(end - begin, UINT32_MAX));
        if (!accepted) ++refused[static_cast<std::size_t>(producer)];
        due = end + 2000;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  stop.store(true, std::memory_order_release);
  consumer.join();
  for (const auto& mine : taken) figures.ns.insert(figures.ns.end(), mine.begin(), mine.end());
  for (const auto each : refused) figures.refused += each;
}

struct Round {
  const std::string& path;
  const Bytes& record;
  int producers, count;
};

Bytes& sink() {
  static Bytes bytes(1 << 20);
  return bytes;
}

void copy_out(const char* data, std::size_t size) { std::memcpy(sink().data(), data, std::min(size, sink().size())); }

void nothing(const Round& round, Figures& figures) {
  measure(figures, round.producers, round.count, [](int) { return true; }, [] { return false; });
}

void ring(const Round& round, Figures& figures) {
  pairec::Ring ring(round.path, 64 << 20, 0, pairec::lock_ring(round.path), nullptr);
  std::uint64_t cursor = 0;
  measure(
      figures, round.producers, round.count,
      [&](int) { return ring.push(round.record.data(), round.record.size()) == pairec::Push::ok; },
      [&] {
        const pairec::Run run = ring.peek(cursor, 1 << 20);
        if (run.begin == run.end) return false;
        copy_out(reinterpret_cast<const char*>(run.data), run.end - run.begin);
        ring.release(cursor = run.end);
        return true;
      });
}

void mutex_and_deque(const Round& round, Figures& figures) {
  std::mutex mutex;
  std::deque<Bytes> queue, taken;
  measure(
      figures, round.producers, round.count,
      [&](int) {
        Bytes copy(round.record);
        const std::lock_guard lock(mutex);
        queue.push_back(std::move(copy));
        return true;
      },
      [&] {
        {
          const std::lock_guard lock(mutex);
          taken.swap(queue);
        }
        if (taken.empty()) return false;
        for (const auto& each : taken) copy_out(each.data(), each.size());
        taken.clear();
        return true;
      });
}

#ifdef HAS_MOODYCAMEL
void moodycamel_queue(const Round& round, Figures& figures) {
  moodycamel::ConcurrentQueue<Bytes> queue(65536);
  std::vector<moodycamel::ProducerToken> tokens;
  for (int producer = 0; producer < round.producers; ++producer) tokens.emplace_back(queue);
  std::vector<Bytes> taken(256);
  measure(
      figures, round.producers, round.count,
      [&](int producer) { return queue.enqueue(tokens[static_cast<std::size_t>(producer)], Bytes(round.record)); },
      [&] {
        const std::size_t count = queue.try_dequeue_bulk(taken.begin(), taken.size());
        for (std::size_t place = 0; place < count; ++place) copy_out(taken[place].data(), taken[place].size());
        return count > 0;
      });
}
#endif

}  // namespace

int main(int count, char** arguments) {
  if (count < 6) return 2;
  const std::string path = arguments[1];
  const int enqueues = std::atoi(arguments[2]), rounds = std::atoi(arguments[3]), producers = std::atoi(arguments[4]);
  const std::vector<std::pair<std::string, std::function<void(const Round&, Figures&)>>> queues = {
      {"nothing", nothing},
      {"ring", ring},
      {"mutex+deque", mutex_and_deque},
#ifdef HAS_MOODYCAMEL
      {"moodycamel", moodycamel_queue},
#endif
  };
  for (int place = 5; place < count; ++place) {
    const Bytes record(static_cast<std::size_t>(std::atoi(arguments[place])), 'x');
    std::map<std::string, Figures> figures;
    for (int round = 0; round < rounds; ++round)
      for (const auto& [name, run] : queues) run({path, record, producers, enqueues}, figures[name]);
    for (const auto& [name, run] : queues) {
      auto& [ns, refused] = figures[name];
      std::sort(ns.begin(), ns.end());
      const auto at = [&ns](double part) { return ns[static_cast<std::size_t>(part * double(ns.size() - 1))]; };
      std::printf(
          "{\"queue\": \"%s\", \"bytes\": %zu, \"producers\": %d, \"p50\": %u, \"p99\": %u, \"p99.9\": %u, "
          "\"refused\": %llu}\n",
          name.c_str(), record.size(), producers, at(0.5), at(0.99), at(0.999),
          static_cast<unsigned long long>(refused));
    }
  }
  return 0;
}
