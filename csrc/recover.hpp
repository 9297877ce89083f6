// What a dead process left in its ring and in its open segments, brought into closed segments.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ring.hpp"

namespace pairec {

struct Recovery {
  bool found = false;           // there was a ring with an identity
  bool clean = false;           // it was closed properly: nothing to do
  bool quarantined = false;     // it had no valid identity, and is kept as `.corrupt`, in place of an earlier one
  std::uint32_t slot = 0;
  std::uint64_t records = 0;    // written to a closed segment now; of these counts none includes gaps
  std::uint64_t repeated = 0;   // found in the ring and already in a segment
  std::uint64_t unfinished = 0; // reserved by a push that never returned
  std::uint64_t damaged = 0;    // committed, with a payload that fails its checksum
  std::uint64_t repaired = 0;   // `.open` files closed or removed
  std::vector<std::string> errors;
};

// Reads the ring behind `lock` (which stays locked; the ring file is not written until all is on disk), closes what is
// open, writes what no segment has, then marks the ring clean and shrinks it to its header page. Killed anywhere, it
// can be run again. `counters` (or null) receives the ring's. Throws FileError.
Recovery recover_ring(const std::string& directory, const std::string& sink, const std::string& path, const Fd& lock,
                      std::uint32_t slot, RingCounters* counters);

// Recovers what is at `path`, then begins a new generation there. Throws LockedError, FileError, std::invalid_argument.
std::unique_ptr<Ring> open_ring(const std::string& directory, const std::string& sink, const std::string& path,
                                std::uint64_t capacity, std::uint32_t slot, Recovery& recovery);

// Closes the segments that dead processes left open, then begins a ring without a file. Throws FileError,
// std::invalid_argument.
std::unique_ptr<Ring> open_memory_ring(const std::string& directory, const std::string& sink, std::uint64_t capacity,
                                       std::uint32_t slot, Recovery& recovery);

// Recovers what is at `path` and leaves the ring clean, without opening it. Throws LockedError, FileError.
Recovery adopt_ring(const std::string& directory, const std::string& sink, const std::string& path, std::uint32_t slot);

// Begins a new generation at `path` without a log. Throws like open_ring, and LockedError if the ring holds records.
std::unique_ptr<Ring> open_empty_ring(const std::string& path, std::uint64_t capacity, std::uint32_t slot);

}  // namespace pairec
