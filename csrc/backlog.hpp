// The spill: segments whose records wait for delivery, oldest first. This worker's own, and those of the dead.
//
// Segments belong to the ring they were spilled from. Who reads or removes a ring's segments holds the lock
// `{sink}-{ring_id}.lock` beside them; the living worker of the ring takes it before its first one, so two workers never
// deliver the same segment and a ring's order is kept. The lock file goes with the last segment.
#pragma once
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ring.hpp"
#include "segment.hpp"

namespace pairec {

struct SpillSegment {
  SegmentFile file;
  bool writing = false;               // by us: not to be read yet
  bool own = false;                   // of this worker's ring
  bool read_out = false;              // every record was handed out
  std::uint64_t low = 0;              // no record before it waits
  std::uint64_t resume = 0;           // reading begins here
  std::uint64_t limit = ~std::uint64_t{0};  // and ends here: what follows was not synced, and is still in the ring
  std::set<std::uint64_t> delivered;  // from `resume` on, out of order
  std::uint64_t records = 0;          // that wait
  std::uint64_t bytes = 0;
  std::uint64_t in_window = 0;        // handed out and not settled
  std::int64_t first_ns = 0;          // wall clock: when the oldest was spilled, at the earliest
  std::unique_ptr<SegmentReader> reader;
};

class Backlog {
 public:
  Backlog(const std::string& directory, const std::string& sink, const Ring& ring)
      : directory_(directory), sink_(sink), ring_id_(ring.ring_id()) {}

  // Before the first segment of this worker's ring. 0 or an errno.
  int lock_own();
  // A new segment of this worker's ring, being written.
  SpillSegment& add(const SegmentFile& file, std::uint64_t begin, std::int64_t now_ns);
  // Takes over what dead workers left. 0 or an errno; what could be had is in the list then.
  int adopt();

  // The first that is not read out; null if there is none.
  SpillSegment* unread();
  // The next record of it that waits, from its place on. False at its end. Throws FileError.
  bool read(SpillSegment& segment, Record& record);
  // Goes back to what of it was handed out and not settled.
  void rewind(SpillSegment& segment);
  // Removes those whose records are all settled; damaged ones are kept as `.corrupt`. Answers how many are damaged.
  std::uint32_t remove_settled();
  // Of a segment that cannot be read now: leaves it to a later adopt().
  void forget(SpillSegment& segment);

  // Lets others have what is left.
  void leave();

  // Position before which no record of this worker's ring waits in the spill; `none` if none does.
  std::uint64_t own_low(std::uint64_t none) const;
  bool empty() const noexcept { return segments_.empty(); }
  std::uint64_t records() const noexcept;
  std::uint64_t bytes() const noexcept;
  std::int64_t first_ns() const noexcept { return segments_.empty() ? 0 : segments_.front().first_ns; }

 private:
  bool lock(std::uint64_t ring_id);
  std::vector<std::uint64_t> locked_rings() const;
  void unlock_unused();
  std::string lock_path(std::uint64_t ring_id) const;

  const std::string directory_, sink_;
  const std::uint64_t ring_id_;
  std::list<SpillSegment> segments_;
  std::map<std::uint64_t, Fd> locks_;
};

}  // namespace pairec
