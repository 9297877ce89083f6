#include "kafka.hpp"

#include "batch_size.hpp"

#include <dlfcn.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <map>
#include <mutex>

namespace pairec {
namespace {

// The public layout of a message in a report. Its last field is the tag of produce().
struct Message {
  int err;
  void* topic;
  std::int32_t partition;
  void* payload;
  std::size_t len;
  void* key;
  std::size_t key_len;
  std::int64_t offset;
  void* tag;
};

using ReportCallback = void (*)(void* producer, const Message* message, void* opaque);
using ErrorCallback = void (*)(void* producer, int code, const char* reason, void* opaque);
using LogCallback = void (*)(const void* producer, int level, const char* facility, const char* text);

constexpr int type_producer = 0, conf_ok = 0;
// How producev() is told what its arguments are.
constexpr int arg_end = 0, arg_topic = 2, arg_value = 4, arg_key = 5, arg_tag = 6, arg_flags = 7, arg_header = 9;
constexpr int flag_copy = 2;
constexpr int purge_queued = 1, purge_queued_and_in_flight = 3;
constexpr int describe_configs = 5, topic_resource = 2;
constexpr int ask_timeout_ms = 3'600'000;  // the longest there is: brokers that come back late answer too
constexpr int version_min = 0x01050000;

}  // namespace

struct KafkaApi {
  int (*version)();
  const char* (*version_str)();
  const char* (*err2name)(int);
  void* (*conf_new)();
  void (*conf_destroy)(void*);
  int (*conf_set)(void*, const char*, const char*, char*, std::size_t);
  void (*conf_set_opaque)(void*, void*);
  void (*conf_set_dr_msg_cb)(void*, ReportCallback);
  void (*conf_set_error_cb)(void*, ErrorCallback);
  void (*conf_set_log_cb)(void*, LogCallback);
  void* (*create)(int, void*, char*, std::size_t);
  void (*destroy)(void*);
  void* (*topic_new)(void*, const char*, void*);
  void (*topic_destroy)(void*);
  int (*producev)(void*, ...);
  int (*poll)(void*, int);
  int (*purge)(void*, int);
  int (*outq_len)(void*);
  int (*fatal_error)(void*, char*, std::size_t);
  int (*test_fatal_error)(void*, int, const char*);
  int (*message_headers)(const Message*, void**);
  int (*header_get_last)(const void*, const char*, const void**, std::size_t*);
  void* (*queue_new)(void*);
  void (*queue_destroy)(void*);
  void* (*queue_poll)(void*, int);
  int (*event_error)(void*);
  void (*event_destroy)(void*);
  void* (*admin_options_new)(void*, int);
  int (*admin_options_set_request_timeout)(void*, int, char*, std::size_t);
  void (*admin_options_destroy)(void*);
  void* (*config_resource_new)(int, const char*);
  void (*config_resource_destroy)(void*);
  void (*describe)(void*, void**, std::size_t, void*, void*);
  const void* (*describe_result)(void*);
  const void* const* (*describe_resources)(const void*, std::size_t*);
  int (*config_resource_error)(const void*);
  const void* const* (*config_resource_configs)(const void*, std::size_t*);
  const char* (*config_entry_name)(const void*);
  const char* (*config_entry_value)(const void*);
};

namespace {

template <typename Function>
void find(void* handle, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  if (function == nullptr) throw KafkaError(std::string("it has no ") + name);
}

std::unique_ptr<KafkaApi> bind(const std::string& path) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw KafkaError(::dlerror());
  auto api = std::make_unique<KafkaApi>();
  find(handle, "rd_kafka_version", api->version);
  find(handle, "rd_kafka_version_str", api->version_str);
  if (api->version() < version_min) throw KafkaError(std::string("version ") + api->version_str() + " is before 1.5");
  find(handle, "rd_kafka_err2name", api->err2name);
  find(handle, "rd_kafka_conf_new", api->conf_new);
  find(handle, "rd_kafka_conf_destroy", api->conf_destroy);
  find(handle, "rd_kafka_conf_set", api->conf_set);
  find(handle, "rd_kafka_conf_set_opaque", api->conf_set_opaque);
  find(handle, "rd_kafka_conf_set_dr_msg_cb", api->conf_set_dr_msg_cb);
  find(handle, "rd_kafka_conf_set_error_cb", api->conf_set_error_cb);
  find(handle, "rd_kafka_conf_set_log_cb", api->conf_set_log_cb);
  find(handle, "rd_kafka_new", api->create);
  find(handle, "rd_kafka_destroy", api->destroy);
  find(handle, "rd_kafka_topic_new", api->topic_new);
  find(handle, "rd_kafka_topic_destroy", api->topic_destroy);
  find(handle, "rd_kafka_producev", api->producev);
  find(handle, "rd_kafka_poll", api->poll);
  find(handle, "rd_kafka_purge", api->purge);
  find(handle, "rd_kafka_outq_len", api->outq_len);
  find(handle, "rd_kafka_fatal_error", api->fatal_error);
  find(handle, "rd_kafka_test_fatal_error", api->test_fatal_error);
  find(handle, "rd_kafka_message_headers", api->message_headers);
  find(handle, "rd_kafka_header_get_last", api->header_get_last);
  find(handle, "rd_kafka_queue_new", api->queue_new);
  find(handle, "rd_kafka_queue_destroy", api->queue_destroy);
  find(handle, "rd_kafka_queue_poll", api->queue_poll);
  find(handle, "rd_kafka_event_error", api->event_error);
  find(handle, "rd_kafka_event_destroy", api->event_destroy);
  find(handle, "rd_kafka_AdminOptions_new", api->admin_options_new);
  find(handle, "rd_kafka_AdminOptions_set_request_timeout", api->admin_options_set_request_timeout);
  find(handle, "rd_kafka_AdminOptions_destroy", api->admin_options_destroy);
  find(handle, "rd_kafka_ConfigResource_new", api->config_resource_new);
  find(handle, "rd_kafka_ConfigResource_destroy", api->config_resource_destroy);
  find(handle, "rd_kafka_DescribeConfigs", api->describe);
  find(handle, "rd_kafka_event_DescribeConfigs_result", api->describe_result);
  find(handle, "rd_kafka_DescribeConfigs_result_resources", api->describe_resources);
  find(handle, "rd_kafka_ConfigResource_error", api->config_resource_error);
  find(handle, "rd_kafka_ConfigResource_configs", api->config_resource_configs);
  find(handle, "rd_kafka_ConfigEntry_name", api->config_entry_name);
  find(handle, "rd_kafka_ConfigEntry_value", api->config_entry_value);
  return api;
}

// A value may be a secret: what the library says of it is passed on only where it cannot be.
bool is_secret(const std::string& name) {
  for (const char* part : {"password", "secret", "key", "pem", "token", "jaas", "oauth", "config"})
    if (name.find(part) != std::string::npos) return true;
  return false;
}

struct Conf {
  explicit Conf(const KafkaApi& functions) : api(functions), conf(functions.conf_new()) {}
  ~Conf() {
    if (conf != nullptr) api.conf_destroy(conf);
  }
  void set(const std::string& name, const std::string& value) {
    char text[512] = "";
    if (api.conf_set(conf, name.c_str(), value.c_str(), text, sizeof(text)) == conf_ok) return;
    throw std::invalid_argument("librdkafka property \"" + name + "\": " + (is_secret(name) ? "refused" : text));
  }
  const KafkaApi& api;
  void* conf;
};

int row_of(const KafkaApi& api, const Message* message) {
  void* headers = nullptr;
  const void* text = nullptr;
  std::size_t size = 0;
  int row = -1;
  if (api.message_headers(message, &headers) == 0 && api.header_get_last(headers, "row", &text, &size) == 0)
    std::from_chars(static_cast<const char*>(text), static_cast<const char*>(text) + size, row);
  return row;
}

// librdkafka hands back one pointer: the reports' own, and what the callbacks need beside it.
struct Listener {
  KafkaReports& reports;
  const KafkaApi& api;
};

void on_report(void*, const Message* message, void* opaque) {
  auto& listener = *static_cast<Listener*>(opaque);
  const int row = message->err == 0 ? -1 : row_of(listener.api, message);
  listener.reports.report(message->tag, message->err, row, message->key_len + message->len);
}

void on_error(void*, int code, const char*, void* opaque) {
  static_cast<Listener*>(opaque)->reports.trouble(code);
}

// Its words may hold host names and addresses, and it repeats itself while brokers are down: the counters say it once.
void on_log(const void*, int, const char*, const char*) {}

}  // namespace

KafkaLibrary::KafkaLibrary(std::string path, std::unique_ptr<KafkaApi> api)
    : path_(std::move(path)), api_(std::move(api)) {}

const KafkaLibrary& KafkaLibrary::load(const std::vector<std::string>& candidates) {
  static std::mutex mutex;
  static auto& loaded = *new std::map<std::string, std::unique_ptr<KafkaLibrary>>();
  const std::lock_guard lock(mutex);
  std::string reasons;
  for (const auto& path : candidates) {
    if (const auto at = loaded.find(path); at != loaded.end()) return *at->second;
    try {
      auto api = bind(path);
      const auto& place = loaded[path] = std::unique_ptr<KafkaLibrary>(new KafkaLibrary(path, std::move(api)));
      return *place;
    } catch (const KafkaError& error) {
      reasons += "; " + path + ": " + error.what();
    }
  }
  throw KafkaError("librdkafka was not found: pip install 'pairec_fast[kafka]', or install librdkafka1 from the system" +
                   reasons);
}

std::string KafkaLibrary::version() const { return api_->version_str(); }

std::string KafkaLibrary::error_name(int code) const {
  const char* name = api_->err2name(code);
  return name == nullptr ? std::to_string(code) : name;
}

std::uint64_t configured_batch_bytes(const KafkaOptions& options) noexcept {
  std::uint64_t bytes = BatchSize::usual;
  for (const auto& [name, value] : options.properties)  // what is no number, the producer refuses
    if (name == "batch.size") std::from_chars(value.data(), value.data() + value.size(), bytes);
  return bytes;
}

Producer::Producer(const KafkaLibrary& library, const KafkaOptions& options, std::uint64_t batch_bytes,
                   KafkaReports& reports)
    : api_(library.api()),
      listener_(new Listener{reports, library.api()}, [](void* old) { delete static_cast<Listener*>(old); }),
      topic_name_(options.topic),
      batch_bytes_(batch_bytes) {
  Conf conf(api_);
  // Bounds: a report comes for every message, and memory stays small however long a broker is away.
  conf.set("bootstrap.servers", options.servers);
  conf.set("enable.idempotence", "true");
  conf.set("acks", "all");
  conf.set("message.timeout.ms", std::to_string(options.message_timeout_ms));
  conf.set("linger.ms", "5");
  conf.set("queue.buffering.max.messages", "100000");
  conf.set("queue.buffering.max.kbytes", "65536");
  conf.set("socket.timeout.ms", "10000");
  conf.set("reconnect.backoff.max.ms", "1000");
  // As Java producers do. An empty key is one as any other: its rows keep their order in one partition.
  conf.set("partitioner", "murmur2");
  bool compression = false;
  for (const auto& [name, value] : options.properties) {
    compression = compression || name == "compression.type" || name == "compression.codec";
    conf.set(name, value);
  }
  if (!compression) conf.set("compression.type", "lz4");
  if (batch_bytes == BatchSize::one_row) {
    conf.set("batch.num.messages", "1");
  } else {
    conf.set("batch.size", std::to_string(batch_bytes));
  }
  api_.conf_set_opaque(conf.conf, listener_.get());
  api_.conf_set_dr_msg_cb(conf.conf, on_report);
  api_.conf_set_error_cb(conf.conf, on_error);
  api_.conf_set_log_cb(conf.conf, on_log);
  char text[512] = "";
  producer_ = api_.create(type_producer, conf.conf, text, sizeof(text));
  if (producer_ == nullptr) throw std::invalid_argument(std::string("librdkafka makes no producer of these properties: ") + text);
  conf.conf = nullptr;  // the producer's now
  topic_ = api_.topic_new(producer_, options.topic.c_str(), nullptr);
  if (topic_ != nullptr) answers_ = api_.queue_new(producer_);
  if (answers_ != nullptr) return;
  if (topic_ != nullptr) api_.topic_destroy(topic_);
  api_.destroy(producer_);
  throw std::invalid_argument("librdkafka takes no topic of this name: \"" + options.topic + "\"");
}

Producer::~Producer() {
  api_.purge(producer_, purge_queued_and_in_flight);
  api_.queue_destroy(answers_);
  api_.topic_destroy(topic_);
  api_.destroy(producer_);
}

int Producer::produce(const std::string& key, const char* value, std::size_t size, const RowName& name, int row,
                      void* tag) noexcept {
  char text[12];
  const auto end = std::to_chars(text, text + sizeof(text), row).ptr;
  // As ssize_t: what librdkafka reads from its argument list for a header.
  const auto ring_id_size = static_cast<ssize_t>(name.ring_id_size);
  const auto position_size = static_cast<ssize_t>(name.position_size);
  return api_.producev(producer_, arg_topic, topic_, arg_key, key.data(), key.size(), arg_value, value, size, arg_flags,
                       flag_copy, arg_header, "ring_id", name.ring_id, ring_id_size, arg_header, "position",
                       name.position, position_size, arg_header, "row", text, static_cast<ssize_t>(end - text),
                       arg_tag, tag, arg_end);
}

void Producer::poll(int wait_ms) noexcept { api_.poll(producer_, wait_ms); }

void Producer::purge() noexcept { api_.purge(producer_, purge_queued_and_in_flight); }

void Producer::purge_unsent() noexcept { api_.purge(producer_, purge_queued); }

void Producer::ask_limit() noexcept {
  char text[128];
  void* options = api_.admin_options_new(producer_, describe_configs);
  void* resource = api_.config_resource_new(topic_resource, topic_name_.c_str());
  if (options != nullptr && resource != nullptr) {
    api_.admin_options_set_request_timeout(options, ask_timeout_ms, text, sizeof(text));
    api_.describe(producer_, &resource, 1, options, answers_);
  }
  if (resource != nullptr) api_.config_resource_destroy(resource);
  if (options != nullptr) api_.admin_options_destroy(options);
}

std::int64_t Producer::limit() noexcept {
  void* event = api_.queue_poll(answers_, 0);
  if (event == nullptr) return unanswered;
  std::int64_t bytes = untold;
  const void* result = api_.event_error(event) == 0 ? api_.describe_result(event) : nullptr;
  std::size_t resources = 0, entries = 0;
  const void* const* resource = result == nullptr ? nullptr : api_.describe_resources(result, &resources);
  if (resources == 1 && api_.config_resource_error(*resource) == 0) {
    const void* const* entry = api_.config_resource_configs(*resource, &entries);
    for (std::size_t at = 0; at < entries; ++at) {
      const char* value = api_.config_entry_value(entry[at]);
      if (value == nullptr || std::strcmp(api_.config_entry_name(entry[at]), "max.message.bytes") != 0) continue;
      std::from_chars(value, value + std::strlen(value), bytes);
    }
  }
  api_.event_destroy(event);
  return std::max(bytes, untold);
}

int Producer::queued() const noexcept { return api_.outq_len(producer_); }

int Producer::fatal() const noexcept {
  char text[8];  // the library writes there whenever there is an error
  return api_.fatal_error(producer_, text, sizeof(text));
}

void Producer::inject_fatal(int code) noexcept { api_.test_fatal_error(producer_, code, "made by a test"); }

RowName row_name(std::uint64_t ring_id, std::uint64_t position) noexcept {
  RowName name = {};
  const auto write = [](char* at, std::size_t size, std::uint64_t number) {
    return static_cast<std::uint8_t>(std::to_chars(at, at + size, number).ptr - at);
  };
  name.ring_id_size = write(name.ring_id, sizeof(name.ring_id), ring_id);
  name.position_size = write(name.position, sizeof(name.position), position);
  return name;
}

}  // namespace pairec
