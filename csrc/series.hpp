// Segments of one sink, written one behind the other: the spill and the dead letters of a flush thread.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "ring.hpp"
#include "segment.hpp"

namespace pairec {

class SegmentSeries {
 public:
  SegmentSeries(const std::string& directory, const std::string& sink, const Ring& ring)
      : directory_(directory), sink_(sink), slot_(ring.slot()), ring_id_(ring.ring_id()), created_ns_(ring.created_ns()) {}

  // Appends one block, to a new segment if none is open. 0 or an errno. After an error, here or in sync(), the segment
  // is given up: what it held since the last sync() is not promised, what it held before stays readable.
  int append(const unsigned char* data, std::uint64_t begin, std::uint64_t end, std::uint32_t records,
             std::int64_t first_ns, std::int64_t last_ns);
  int sync();
  // With its footer; without one if that cannot be written. Only when all is synced.
  void close();

  bool is_open() const noexcept { return writer_ != nullptr; }
  std::uint64_t bytes() const noexcept { return writer_ ? writer_->bytes() : 0; }
  std::uint64_t unsynced_bytes() const noexcept { return unsynced_; }
  // The segment that is or was last open, by the name it is closed under.
  const SegmentFile& file() const noexcept { return file_; }

 private:
  int give_up(int code);

  const std::string directory_, sink_;
  const std::uint32_t slot_;
  const std::uint64_t ring_id_;
  const std::int64_t created_ns_;
  std::uint64_t sequence_ = 0, unsynced_ = 0;
  std::unique_ptr<SegmentWriter> writer_;
  SegmentFile file_ = {};
};

}  // namespace pairec
