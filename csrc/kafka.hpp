// librdkafka, loaded at run time, and one idempotent producer on it.
//
// Nothing of librdkafka is needed to build: the functions used and their few constants are declared here and in
// kafka.cpp. They have not changed since librdkafka 1.5, the first that knows `batch.size`.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pairec {

// No library was found.
struct KafkaError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Codes of librdkafka that decide what becomes of a record. Negative ones are its own, positive ones the broker's.
namespace kafka_code {
inline constexpr int unknown_partition = -190, unknown_topic = -188, queue_full = -184, purge_queue = -152;
inline constexpr int purge_inflight = -151, fatal = -150, invalid_different_record = -138, none = 0;
inline constexpr int unknown_topic_or_part = 3, invalid_msg_size = 4, msg_size_too_large = 10, topic_exception = 17;
inline constexpr int record_list_too_large = 18, topic_authorization_failed = 29, invalid_timestamp = 32;
inline constexpr int unsupported_for_message_format = 43, policy_violation = 44, invalid_record = 87;
inline constexpr int lowest = -256, highest = 255;  // what counters have places for
}  // namespace kafka_code

struct KafkaApi;  // the functions, by pointer

// Once per path, and kept until the process ends: librdkafka's threads must not outlive its code.
class KafkaLibrary {
 public:
  // The first of `candidates` (paths, or names for the loader) that loads. Throws KafkaError with every reason.
  static const KafkaLibrary& load(const std::vector<std::string>& candidates);
  const std::string& path() const noexcept { return path_; }
  std::string version() const;
  // "MSG_SIZE_TOO_LARGE", "_TRANSPORT".
  std::string error_name(int code) const;
  const KafkaApi& api() const noexcept { return *api_; }

 private:
  KafkaLibrary(std::string path, std::unique_ptr<KafkaApi> api);
  std::string path_;
  std::unique_ptr<KafkaApi> api_;
};

// Who hears of messages. Called by the thread that calls Producer::poll, within it.
class KafkaReports {
 public:
  // `tag` as given to produce; `row` as given, or -1 where the library cannot say; `size` of key and value. Exactly once
  // per accepted message.
  virtual void report(void* tag, int code, int row, std::size_t size) = 0;
  // Something about the connection, in between; `code` fatal when the producer is of no use any more.
  virtual void trouble(int code) = 0;

 protected:
  ~KafkaReports() = default;
};

struct KafkaOptions {
  std::string servers, topic;
  std::int64_t message_timeout_ms;
  std::vector<std::pair<std::string, std::string>> properties;  // instead of our own
};

// The `batch.size` among the properties, or librdkafka's.
std::uint64_t configured_batch_bytes(const KafkaOptions& options) noexcept;

// Which record a message is a row of: the headers by which a reader removes repeats. Decimal text.
struct RowName {
  char ring_id[24], position[24];
  std::uint8_t ring_id_size, position_size;
};
RowName row_name(std::uint64_t ring_id, std::uint64_t position) noexcept;

class Producer {
 public:
  // Its batches have `batch_bytes` at most, or one row (BatchSize). Throws std::invalid_argument: a property that is none
  // or has no such value, or all of them together; the message says which.
  Producer(const KafkaLibrary& library, const KafkaOptions& options, std::uint64_t batch_bytes, KafkaReports& reports);
  // Takes as long as its threads need to end: milliseconds, seconds while one resolves a name. Nothing is reported.
  ~Producer();
  Producer(const Producer&) = delete;
  Producer& operator=(const Producer&) = delete;

  // Copies key, value and headers. 0, or the code why not: then nothing is reported.
  int produce(const std::string& key, const char* value, std::size_t size, const RowName& name, int row,
              void* tag) noexcept;
  // Waits up to `wait_ms` for something to report, then reports all there is.
  void poll(int wait_ms) noexcept;
  // Takes back what was not acknowledged: reported with a purge_ code at the next polls.
  void purge() noexcept;
  // The same of what was not sent either.
  void purge_unsent() noexcept;
  // Asks brokers for the topic's `max.message.bytes`. One question at a time.
  void ask_limit() noexcept;
  // The answer: `unanswered` until it is there, then once the limit, or `untold` if it may not be asked or is unknown.
  std::int64_t limit() noexcept;
  static constexpr std::int64_t unanswered = -1, untold = 0;
  std::uint64_t batch_bytes() const noexcept { return batch_bytes_; }
  int queued() const noexcept;
  // The code of the fatal error, 0 if there is none.
  int fatal() const noexcept;
  // Makes a fatal error of the idempotent producer, for tests.
  void inject_fatal(int code) noexcept;

 private:
  const KafkaApi& api_;
  std::unique_ptr<void, void (*)(void*)> listener_;  // what callbacks are given
  const std::string topic_name_;
  const std::uint64_t batch_bytes_;
  void* producer_ = nullptr;
  void* topic_ = nullptr;
  void* answers_ = nullptr;  // the queue of limit()
};

}  // namespace pairec
