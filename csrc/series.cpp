#include "series.hpp"

#include "segment_format.hpp"

namespace pairec {

int SegmentSeries::append(const unsigned char* data, std::uint64_t begin, std::uint64_t end, std::uint32_t records,
                          std::int64_t first_ns, std::int64_t last_ns) {
  if (writer_ == nullptr) {
    try {
      writer_ = std::make_unique<SegmentWriter>(directory_, sink_, slot_, ring_id_, created_ns_, sequence_);
    } catch (const FileError& error) {
      return error.code;
    }
    const std::string path = directory_ + "/" + segment_name(sink_, slot_, ring_id_, sequence_++) + ".seg";
    file_ = {path, slot_, ring_id_, sequence_ - 1, true, created_ns_};
  }
  const int code = writer_->append(data, begin, end, records, first_ns, last_ns);
  if (code != 0) return give_up(code);
  unsynced_ += end - begin;
  return 0;
}

int SegmentSeries::sync() {
  if (unsynced_ == 0) return 0;
  if (const int code = writer_->sync(); code != 0) return give_up(code);
  unsynced_ = 0;
  return 0;
}

void SegmentSeries::close() {
  if (writer_ == nullptr) return;
  if (writer_->finish() != 0) writer_->abandon();
  writer_.reset();
}

int SegmentSeries::give_up(int code) {
  writer_->abandon();
  writer_.reset();
  unsynced_ = 0;
  return code;
}

}  // namespace pairec
