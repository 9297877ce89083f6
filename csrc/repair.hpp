// Segments that a death, a disk or a hand has damaged, made whole again: what can be read of them is kept, and what they
// were lies beside as `.corrupt`.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "segment.hpp"

namespace pairec {

enum class RepairState {
  sound,      // closed and whole: not touched
  in_use,     // a living process is writing it: not touched
  gone,       // it vanished, or its owner closed it, meanwhile
  closed,     // it was left open, and is whole
  removed,    // it was left open, and nothing had been written
  rewritten,  // `.seg` has all that was readable, `kept_as` what was there
  unreadable  // nothing was: moved to `kept_as`
};

struct Repair {
  RepairState state = RepairState::sound;
  std::uint64_t records = 0;         // readable: all of them are kept
  std::int64_t lost = 0;             // as far as the file says how many there were; -1 if it does not
  std::string kept_as;
  std::vector<std::string> errors;   // what was wrong
};

// Repairs one segment of `list_segments`. What is new is written to `.repair`, synced, and takes the old one's place by a
// rename: killed anywhere, all that was readable still is, and running again ends it. Throws FileError.
Repair repair(const std::string& directory, const SegmentFile& file);

// Removes a `.repair` file that a killed repair left; false while a living one is writing it. Throws FileError.
bool remove_leftover(const std::string& path);

}  // namespace pairec
