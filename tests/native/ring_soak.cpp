// Three producers, the flush thread and a reader of counters on one small ring, for the thread sanitizer.
// Usage: ring_soak DIRECTORY RECORDS. Compiled and run by tests/test_ring.py; the exit code says whether all went well.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "flush.hpp"
#include "recover.hpp"

int main(int, char** arguments) {
  using namespace pairec;
  const std::string directory = arguments[1];
  const std::uint32_t count = static_cast<std::uint32_t>(std::atoi(arguments[2]));
  constexpr std::uint32_t producers = 3;
  make_directory(directory);
  Recovery recovery;
  const auto ring = open_ring(directory, "log", directory + "/ring", 64 << 10, 0, recovery);
  FlushOptions options = {directory, "log", 0, 1 << 20, 60'000'000'000, 1'000'000};
  {
    Flusher flusher(*ring, options);
    std::vector<std::thread> threads;
    for (std::uint32_t producer = 0; producer < producers; ++producer) {
      threads.emplace_back([&, producer] {
        std::vector<std::uint32_t> payload(64);
        for (std::uint32_t number = 0; number < count;) {
          payload[0] = producer;
          payload[1] = number;
          const Push push = ring->push(payload.data(), 8 + number % 240);
          if (push == Push::ok) ++number;
          else std::this_thread::yield();
        }
      });
    }
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        flusher.flush(5'000'000);
        if (round % 5 == 0) flusher.rotate(5'000'000);
        if (flusher.counters().records.load() > producers * count) std::abort();
      }
    });
    for (auto& thread : threads) thread.join();
    if (!flusher.stop(30'000'000'000)) return 2;
  }
  std::map<std::uint32_t, std::uint32_t> next;
  DirectoryReader reader(directory, "log");
  for (Record record; reader.next(record);) {
    std::uint32_t head[2];
    std::memcpy(head, record.data, sizeof(head));
    if (is_gap(record.data, record.size)) continue;
    if (record.size != 8 + head[1] % 240 || next[head[0]]++ != head[1]) return 3;
  }
  for (std::uint32_t producer = 0; producer < producers; ++producer)
    if (next[producer] != count) return 4;
  std::puts("all there, once, in order");
  return 0;
}
