// What becomes of a record: its rows are handed over, reported, and settled in order.
#include <algorithm>
#include <cstring>

#include "deliver.hpp"

namespace pairec {
namespace {

constexpr std::int64_t purge_ns = 2'000'000'000;  // reports of a purge take microseconds; a hung broker's may not
constexpr int bad_record = -199;                        // "_BAD_MSG": not a record of the log

// A batch is refused as a whole for its size or for one message in it: only alone does a row know that it is meant.
bool is_shared(int code) {
  switch (code) {
    case kafka_code::msg_size_too_large:
    case kafka_code::record_list_too_large:
    case kafka_code::invalid_msg_size:
    case kafka_code::invalid_timestamp:
    case kafka_code::invalid_record:
    case kafka_code::invalid_different_record:
      return true;
    default:
      return false;
  }
}

bool is_permanent(int code) {
  switch (code) {
    case kafka_code::topic_exception:
    case kafka_code::topic_authorization_failed:
    case kafka_code::unsupported_for_message_format:
    case kafka_code::policy_violation:
      return true;
    default:
      return false;
  }
}

bool is_unknown_topic(int code) {
  return code == kafka_code::unknown_topic || code == kafka_code::unknown_partition ||
         code == kafka_code::unknown_topic_or_part;
}

// The few forms of msgpack that a dead letter needs.
void put_big_endian(std::string& out, std::uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
}
void put_uint(std::string& out, std::uint64_t value) {
  out.push_back(static_cast<char>(0xCF));
  put_big_endian(out, value, 8);
}
void put_int(std::string& out, std::int32_t value) {
  out.push_back(static_cast<char>(0xD2));
  put_big_endian(out, static_cast<std::uint32_t>(value), 4);
}
void put_text(std::string& out, const std::string& text) {
  out.push_back(static_cast<char>(0xD9));
  out.push_back(static_cast<char>(std::min<std::size_t>(text.size(), 255)));
  out.append(text, 0, 255);
}
void put_bytes(std::string& out, const void* data, std::size_t size) {
  out.push_back(static_cast<char>(0xC6));
  put_big_endian(out, size, 4);
  out.append(static_cast<const char*>(data), size);
}

}  // namespace

void Deliverer::begin_record(SpillSegment* segment, std::uint64_t begin, const unsigned char* data, std::size_t size,
                             std::int64_t now) {
  Entry& entry = window_.emplace_back();
  entry = {segment, begin, begin + record_bytes(size), 0, -1, 0, false, false, now, {}};
  if (segment == nullptr) {
    ++ring_entries_;
  } else {
    ++segment->in_window;
    entry.copy.assign(reinterpret_cast<const char*>(data), size);
    data = reinterpret_cast<const unsigned char*>(entry.copy.data());
  }
  row_ = 0;
  row_ready_ = false;
  if (!expander_.open(data, size)) {
    counters_.errors.add(bad_record);
    entry.code = bad_record;
    entry.whole = true;
    return;
  }
  key_ = expander_.uid();
  name_ = row_name(segment == nullptr ? ring_.ring_id() : segment->file.ring_id, begin);
  current_ = &entry;
}

// A record that was acknowledged before a rewind takes its place in the order without being sent again.
void Deliverer::pass_over(SpillSegment* segment, std::uint64_t begin, std::uint64_t end, std::int64_t now) {
  window_.push_back({segment, begin, end, 0, -1, 0, true, false, now, {}});
  segment == nullptr ? ++ring_entries_ : ++segment->in_window;
}

// Hands over what is left of the current record. False if the producer takes no more now.
bool Deliverer::push_rows(std::int64_t now) {
  Entry& entry = *current_;
  for (;;) {
    if (!row_ready_) {
      text_.clear();
      if (!expander_.next(text_)) {
        if (static_cast<std::size_t>(row_) < expander_.rows()) entry.failed = failed_ = true;  // out of memory
        break;
      }
      row_ready_ = true;
    }
    const int code = producer_->produce(key_, text_.data(), text_.size(), name_, row_, &entry);
    if (code == kafka_code::queue_full) {
      if (full_since_ == 0) full_since_ = now;
      return false;
    }
    full_since_ = 0;
    row_ready_ = false;
    if (code == 0) {
      ++entry.outstanding;
      ++outstanding_;
    } else if (is_shared(code)) {
      counters_.errors.add(code);  // by the client's own limit, which knows which row it means
      if (entry.code == 0) {
        entry.code = code;
        entry.row = row_;
      }
    } else {
      judge(entry, code, row_, key_.size() + text_.size());
      if (entry.failed) break;
    }
    ++row_;
  }
  entry.whole = true;
  current_ = nullptr;
  return true;
}

void Deliverer::report(void* tag, int code, int row, std::size_t size) {
  Entry& entry = *static_cast<Entry*>(tag);
  --entry.outstanding;
  --outstanding_;
  ++taken_;
  judge(entry, code, row, size);
}

void Deliverer::trouble(int code) {
  counters_.errors.add(code);
  if (code == kafka_code::fatal) fatal_ = true;
}

void Deliverer::judge(Entry& entry, int code, int row, std::size_t size) {
  if (code == 0) {
    reported_at_ = now_;
    counters_.rows.fetch_add(1, std::memory_order_relaxed);
    backoff_ns_ = unknown_since_ = 0;
    return;
  }
  const bool purged = code == kafka_code::purge_queue || code == kafka_code::purge_inflight;
  if (!(purging_ && purged)) counters_.errors.add(code);
  bool refused = is_permanent(code);
  if (is_shared(code)) {
    refused = BatchSize::is_alone(size, producer_->batch_bytes());
    suspect_ = suspect_ || !refused;
  } else if (is_unknown_topic(code)) {
    if (unknown_since_ == 0) unknown_since_ = now_;
    refused = now_ - unknown_since_ >= options_.unknown_topic_ns;
    unknown_ = unknown_ || !refused;
  } else if (code == kafka_code::fatal) {
    fatal_ = true;
  } else if (!refused && !purging_) {
    failed_ = true;
  }
  if (!refused) {
    entry.failed = true;
  } else if (entry.code == 0) {
    entry.code = code;
    entry.row = row;
  }
}

// Takes finished records from the front of the window: acknowledged ones are done, refused ones become dead letters.
// The ring is released up to the first that is not finished.
void Deliverer::settle(std::int64_t now) {
  std::size_t count = 0, first_dead = window_.size();
  for (; count < window_.size(); ++count) {
    const Entry& entry = window_[count];
    if (!entry.whole || entry.outstanding != 0 || entry.failed) break;
    if (entry.code == 0) continue;
    if (now < disk_retry_at_) break;
    first_dead = std::min(first_dead, count);
    if (const int code = append_dead(entry); code != 0) {
      disk_failed(code, now);
      count = first_dead;
      break;
    }
  }
  if (first_dead < count) {
    if (const int code = dead_.sync(); code != 0) {
      disk_failed(code, now);
      count = first_dead;
    } else if (dead_.bytes() >= options_.rotate_bytes) {
      dead_.close();
    }
  }
  if (count == 0) return;
  std::uint64_t ring_end = 0;
  for (std::size_t at = 0; at < count; ++at) {
    const Entry& entry = window_.front();
    if (entry.code == 0) {
      counters_.records.fetch_add(1, std::memory_order_relaxed);
    } else {
      counters_.dead.fetch_add(1, std::memory_order_relaxed);
      counters_.dead_codes.add(entry.code);
    }
    if (entry.segment != nullptr) {
      SpillSegment& segment = *entry.segment;
      segment.low = entry.end;
      segment.delivered.erase(entry.begin);
      --segment.in_window;
      if (segment.records != 0) --segment.records;
    } else {
      ring_end = entry.end;
      ring_delivered_.erase(entry.begin);
      --ring_entries_;
      counters_.released.fetch_add(1, std::memory_order_relaxed);
    }
    window_.pop_front();
  }
  if (probing_ && asking_ && is_told_) hold_until_ = now + hold_ns;  // brokers are back: their answer is under way
  probing_ = false;
  settled_at_ = now;
  ++taken_;
  if (ring_end != 0) ring_.release(ring_end);
  const std::uint32_t damaged = backlog_.remove_settled();
  counters_.damaged.fetch_add(damaged, std::memory_order_relaxed);
}

// A dead letter is msgpack: [name of the error, row, ring_id, position, record], in a record of its own.
int Deliverer::append_dead(const Entry& entry) {
  const unsigned char* record = reinterpret_cast<const unsigned char*>(entry.copy.data());
  std::size_t size = entry.copy.size();
  if (entry.segment == nullptr) {
    const Run run = ring_.peek(entry.begin, 1);
    RecordHeader header;
    std::memcpy(&header, run.data, sizeof(header));
    record = run.data + sizeof(header);
    size = header.size;
  }
  const std::uint64_t ring_id = entry.segment == nullptr ? ring_.ring_id() : entry.segment->file.ring_id;
  scratch_.assign(sizeof(RecordHeader), '\0');
  scratch_.push_back(static_cast<char>(0x95));
  put_text(scratch_, entry.code == bad_record ? "_BAD_MSG" : library_.error_name(entry.code));
  put_int(scratch_, entry.row);
  put_uint(scratch_, ring_id);
  put_uint(scratch_, entry.begin);
  put_bytes(scratch_, record, size);
  const std::size_t payload = scratch_.size() - sizeof(RecordHeader);
  RecordHeader header = {};
  header.commit = (dead_position_ ^ ring_.ring_id()) | record_committed;
  header.size = static_cast<std::uint32_t>(payload);
  header.crc = record_crc(scratch_.data() + sizeof(header), payload, dead_position_);
  std::memcpy(scratch_.data(), &header, sizeof(header));
  scratch_.resize(record_bytes(payload), '\0');
  const std::int64_t wall = wall_ns();
  const int code = dead_.append(reinterpret_cast<const unsigned char*>(scratch_.data()), dead_position_,
                                dead_position_ + scratch_.size(), 1, wall, wall);
  if (code == 0) dead_position_ += scratch_.size();
  return code;
}

// Takes back what is under way. Then the window is empty, and reading begins again at the first record that is not
// settled: those behind it that were acknowledged are remembered and not sent again.
void Deliverer::rewind(std::int64_t now) {
  if (outstanding_ != 0 && producer_ != nullptr) {
    purging_ = true;
    producer_->purge();
    const std::int64_t until = monotonic_ns() + purge_ns;
    while (outstanding_ != 0 && monotonic_ns() < until) producer_->poll(10);
    // Without its reports there is no knowing what it holds. Without the producer there is nothing.
    if (outstanding_ != 0) producer_.reset();
  }
  settle(now);
  bool ring_rewound = false;
  const SpillSegment* rewound = nullptr;
  for (const Entry& entry : window_) {
    const bool done = entry.whole && entry.outstanding == 0 && !entry.failed && entry.code == 0;
    if (entry.segment != nullptr) {
      if (rewound != entry.segment) {
        backlog_.rewind(*entry.segment);
        entry.segment->resume = entry.begin;
        rewound = entry.segment;
      }
      if (done) entry.segment->delivered.insert(entry.begin);
      continue;
    }
    if (!ring_rewound) cursor_ = entry.begin;
    ring_rewound = true;
    if (done) ring_delivered_[entry.begin] = entry.end;
  }
  window_.clear();
  current_ = nullptr;
  outstanding_ = ring_entries_ = 0;
  full_since_ = 0;
  failed_ = suspect_ = unknown_ = purging_ = false;
}

}  // namespace pairec
