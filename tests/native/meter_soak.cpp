// Three threads count in one slot, in groups and alone, a fourth registers series and writes gauges, and a fifth reads
// all of it and holds it against its laws. For the sanitizers.
// Usage: meter_soak TIMES. Compiled and run by tests/test_meter.py; the exit code says what went wrong.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "meter.hpp"

namespace {

using namespace pairec;
constexpr int counting = 3, bounds = 5, last = 25;  // the cells of a group are far apart
constexpr double bound[bounds] = {1e-6, 2e-6, 4e-6, 8e-6, 16e-6};

void count(MeterSlot& slot, const MeterLine& line, int times) {
  for (int turn = 0; turn < times; ++turn) {
    meter_begin(slot);
    for (const int cell : {0, last})
      meter_add(reinterpret_cast<double*>(slot.cell + cell), 1, std::memory_order_release);
    meter_end(slot);
    Laps laps{};
    laps.begin = 0;
    for (int stage = 0; stage < 2; ++stage) {
      laps.pause();
      laps.resume();
      laps.lap(turn % 3);
      laps.end[stage] = (stage + 1) * (turn % 20'000);
    }
    line.observe(laps);
    meter_reach(reinterpret_cast<double*>(slot.cell + 2), turn);
  }
}

// 0, or what is wrong.
int read(MeterSlot& slot, const std::atomic<bool>& done, std::uint64_t& whole) {
  std::vector<std::uint64_t> cells(last + 1), gauges(meter_gauges_bytes / 8);
  std::uint64_t before = 0;
  while (!done.load()) {
    if (meter_copy(slot, cells.data(), cells.size())) {
      if (cells[0] != cells[last]) return 3;
      ++whole;
    }
    std::uint64_t counted = 0;
    for (int bucket = 0; bucket <= bounds; ++bucket) counted += cells[4 + bucket];
    if (counted < before) return 4;
    before = counted;
    const std::int64_t size = meter_gauges(slot, gauges.data());
    for (std::int64_t at = 1; at < size / 8; ++at)
      if (gauges[at] != gauges[0]) return 5;
    const std::uint64_t used = slot.head.used.load(std::memory_order_acquire);
    for (std::uint64_t at = 0; at < used;) {
      MeterEntry entry;
      std::memcpy(&entry, slot.table + at, sizeof entry);
      if (entry.kind != 1 || entry.bytes == 0 || entry.bytes % 8) return 6;
      at += entry.bytes;
      if (at > used) return 7;
    }
  }
  return 0;
}

}  // namespace

int main(int, char** arguments) {
  const int times = std::atoi(arguments[1]);
  const auto memory = std::make_unique<MeterSlot>();
  MeterSlot& slot = *memory;
  std::memset(static_cast<void*>(&slot), 0, sizeof slot);
  if (meter_append(slot, 1, 4, "xyz", 3) != 0) return 8;
  MeterLine line{};
  line.stages = 2;
  for (int stage = 0; stage < 2; ++stage) {
    const std::int64_t first = meter_append(slot, 1, bounds + 2, "histogram", 9);
    line.stage[stage].time = {bound, bounds, slot.cell + first};
    line.stage[stage].over = reinterpret_cast<double*>(slot.cell + meter_append(slot, 1, 1, "o", 1));
    line.stage[stage].out = reinterpret_cast<double*>(slot.cell + meter_append(slot, 1, 1, "c", 1));
    line.stage[stage].budget_ns = 10'000;
  }
  if (meter_append(slot, 1, 4, "more", 4) != last - 3) return 8;
  std::atomic<bool> done{false};
  std::uint64_t whole = 0;
  int wrong = 0;
  std::thread reader([&] { wrong = read(slot, done, whole); });
  std::thread registrar([&] {
    std::vector<std::uint64_t> words(500);
    for (std::uint64_t turn = 1; !done.load(); ++turn) {
      std::fill(words.begin(), words.end(), turn);
      meter_put_gauges(slot, words.data(), 8 * (1 + turn % 500));
      meter_append(slot, 1, 1, "some series of some length", 1 + turn % 26);
      line.slow_ns.store(static_cast<std::int64_t>(turn), std::memory_order_relaxed);
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> threads;
  for (int one = 0; one < counting; ++one) threads.emplace_back(count, std::ref(slot), std::cref(line), times);
  for (std::thread& one : threads) one.join();
  done.store(true);
  reader.join();
  registrar.join();
  if (wrong) return wrong;
  std::uint64_t counted = 0;
  for (int bucket = 0; bucket <= bounds; ++bucket) counted += slot.cell[4 + bucket];
  double added;
  std::memcpy(&added, slot.cell, sizeof added);
  std::printf("%llu\n", static_cast<unsigned long long>(whole));
  const auto expected = static_cast<std::uint64_t>(counting) * static_cast<std::uint64_t>(times);
  return counted == expected && added == static_cast<double>(expected) && meter_append(slot, 1, 1u << 20, "", 0) == -1 ? 0 : 9;
}
