// Three producers, the flush thread, one thread that flushes and rotates and one that reads, on one small ring; then
// the log is left with records in it and recovered. For the sanitizers.
// Usage: ring_soak DIRECTORY RECORDS. Compiled and run by tests/faults/races.py; the exit code says what went wrong.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "flush.hpp"
#include "recover.hpp"

namespace {

using namespace pairec;
constexpr std::uint32_t producers = 3;

struct Words {
  std::uint32_t producer, number;
};

std::size_t size_of(std::uint32_t number) { return sizeof(Words) + number % 240; }

// 0, or what is wrong with what the directory holds: each producer's records are 0, 1, 2, ... without a gap.
int check(const std::string& directory, std::map<std::uint32_t, std::uint32_t>& next) {
  DirectoryReader reader(directory, "log");
  for (Record record; reader.next(record);) {
    if (is_gap(record.data, record.size)) continue;
    Words words;
    std::memcpy(&words, record.data, sizeof(words));
    if (record.size != size_of(words.number) || words.producer >= producers) return 3;
    if (next[words.producer]++ != words.number) return 4;
  }
  return 0;
}

void push(Ring& ring, std::uint32_t producer, std::uint32_t begin, std::uint32_t end) {
  std::vector<unsigned char> payload(256, static_cast<unsigned char>(producer));
  for (std::uint32_t number = begin; number < end;) {
    const Words words = {producer, number};
    std::memcpy(payload.data(), &words, sizeof(words));
    if (ring.push(payload.data(), size_of(number)) == Push::ok) ++number;
    else std::this_thread::yield();
  }
}

FlushOptions options_in(const std::string& directory) {
  FlushOptions options = {};
  options.directory = directory;
  options.sink = "log";
  options.rotate_bytes = 1 << 18;
  options.rotate_ns = 60'000'000'000;
  options.sync_ns = 1'000'000;
  return options;
}

int soak(const std::string& directory, std::uint32_t count) {
  Recovery recovery;
  const auto ring = open_ring(directory, "log", directory + "/ring", 64 << 10, 0, recovery);
  Flusher flusher(*ring, options_in(directory));
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads, writers;
  for (std::uint32_t producer = 0; producer < producers; ++producer)
    writers.emplace_back([&, producer] { push(*ring, producer, 0, count); });
  threads.emplace_back([&] {
    for (int round = 0; !done.load(); ++round) {
      flusher.flush(5'000'000);
      if (round % 5 == 0) flusher.rotate(5'000'000);
      const auto& counters = ring->counters();
      if (counters.pushed.load() > std::uint64_t{producers} * count || ring->tail() < ring->head()) wrong = 5;
      if (flusher.counters().records.load() > std::uint64_t{producers} * count) wrong = 6;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  threads.emplace_back([&] {
    while (!done.load()) {
      std::map<std::uint32_t, std::uint32_t> next;
      if (const int code = check(directory, next)) wrong = code;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  });
  for (auto& thread : writers) thread.join();
  done = true;
  for (auto& thread : threads) thread.join();
  if (!flusher.stop(60'000'000'000)) return 2;
  return wrong;
}

// Nothing is flushed but by chance: what the next owner finds is in the ring and in an open segment.
int leave(const std::string& directory, std::uint32_t begin, std::uint32_t end) {
  Recovery recovery;
  const auto ring = open_ring(directory, "log", directory + "/ring", 1 << 20, 0, recovery);
  Flusher flusher(*ring, options_in(directory));
  std::vector<std::thread> writers;
  for (std::uint32_t producer = 0; producer < producers; ++producer)
    writers.emplace_back([&, producer] { push(*ring, producer, begin, end); });
  for (auto& thread : writers) thread.join();
  flusher.stop(0);
  return 0;
}

}  // namespace

int main(int, char** arguments) {
  const std::string directory = arguments[1];
  const std::uint32_t count = static_cast<std::uint32_t>(std::atoi(arguments[2])) / producers, more = count / 10;
  make_directory(directory);
  if (const int code = soak(directory, count)) return code;
  if (const int code = leave(directory, count, count + more)) return code;
  const Recovery recovery = adopt_ring(directory, "log", directory + "/ring", 0);
  if (!recovery.found || !recovery.errors.empty()) return 7;
  std::map<std::uint32_t, std::uint32_t> next;
  if (const int code = check(directory, next)) return code;
  for (std::uint32_t producer = 0; producer < producers; ++producer)
    if (next[producer] != count + more) return 8;
  std::puts("all there, once, in order");
  return 0;
}
