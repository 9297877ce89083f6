// Three producers, the Kafka thread, and readers of counters and positions on one small ring, for the thread sanitizer.
// Usage: deliver_soak LIBRARY SERVERS TOPIC DIRECTORY RECORDS. Compiled and run by tests/test_kafka_faults.py, which takes the
// brokers away meanwhile; the exit code says whether all was acknowledged.
#include <pthread.h>
#include <threads.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "deliver.hpp"
#include "recover.hpp"

// librdkafka starts its threads by these, which this sanitizer does not know: they are pthreads all the same. The
// executable is linked with -rdynamic, so the library finds them here.
extern "C" int thrd_create(thrd_t* thread, thrd_start_t run, void* argument) {
  struct Start {
    thrd_start_t run;
    void* argument;
  };
  const auto begin = [](void* given) -> void* {
    const Start start = *static_cast<Start*>(given);
    delete static_cast<Start*>(given);
    return reinterpret_cast<void*>(static_cast<std::intptr_t>(start.run(start.argument)));
  };
  return ::pthread_create(thread, nullptr, begin, new Start{run, argument}) == 0 ? thrd_success : thrd_error;
}
extern "C" int thrd_join(thrd_t thread, int* answer) {
  void* given = nullptr;
  const bool joined = ::pthread_join(thread, &given) == 0;
  if (answer != nullptr) *answer = static_cast<int>(reinterpret_cast<std::intptr_t>(given));
  return joined ? thrd_success : thrd_error;
}

namespace {

// msgpack of a callback.Record without items.
std::string record(std::uint32_t producer, std::uint32_t number) {
  const auto text = [](const std::string& what) { return static_cast<char>(0xA0 | what.size()) + what; };
  const std::string id = std::to_string(producer) + "-" + std::to_string(number);
  return "\x97" + text("home") + text(id) + "\x01" + text("u" + std::to_string(producer)) + "\x80\x80\x90";
}

}  // namespace

int main(int, char** arguments) {
  using namespace pairec;
  const auto count = static_cast<std::uint32_t>(std::atoi(arguments[5]));
  constexpr std::uint32_t producers = 3;
  constexpr std::int64_t second = 1'000'000'000;
  const std::string directory = arguments[4];
  make_directory(directory);
  Recovery recovery;
  const auto ring = open_ring(directory, "kafka_spill", directory + "/ring", 64 << 10, 0, recovery);
  const KafkaLibrary& library = KafkaLibrary::load({arguments[1]});
  DeliverOptions options = {};
  options.directory = directory;
  options.sink = "kafka";
  options.rotate_bytes = 64 << 10;
  options.sync_ns = second / 100;
  options.stall_ns = second / 5;
  options.unknown_topic_ns = 60 * second;
  options.adopt_ns = second / 10;
  options.kafka = {arguments[2], arguments[3], 10'000, {}};
  Deliverer deliverer(*ring, library, options);
  std::vector<std::thread> threads;
  for (std::uint32_t producer = 0; producer < producers; ++producer) {
    threads.emplace_back([&, producer] {
      for (std::uint32_t number = 0; number < count;) {
        const std::string payload = record(producer, number);
        if (ring->push(payload.data(), payload.size()) == Push::ok) {
          if (++number % 64 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        } else {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      }
    });
  }
  threads.emplace_back([&] {
    for (int round = 0; round < 40; ++round) {
      deliverer.flush(20'000'000);
      const auto& counters = deliverer.counters();
      if (counters.delivered.load() > deliverer.synced()) std::abort();
      if (counters.records.load() > producers * count) std::abort();
      if (round % 13 == 7) deliverer.inject_fatal(47);
    }
  });
  for (auto& thread : threads) thread.join();
  if (!deliverer.flush(30 * second)) return 2;
  if (deliverer.counters().records.load() != producers * count) return 3;
  if (!deliverer.stop(10 * second)) return 4;
  std::puts("all acknowledged");
  return 0;
}
