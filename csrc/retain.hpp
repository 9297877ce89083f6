// What segments may take of a disk: how many are kept, and how much space is left alone.
#pragma once
#include <cstdint>
#include <string>

namespace pairec {

struct Removed {
  std::uint64_t files = 0, bytes = 0;
};

// Removes closed segments of `sink`, the oldest first, until they are at most `bytes_max` together and none is older
// than `age_max_ns`; 0 is no bound. The age is that of the last write, against both `wall_ns` and `steady_ns`, a clock
// that no correction moves: one that jumps removes nothing. Open segments and those of other sinks are left alone. What
// somebody else has removed meanwhile is no error. 0 or an errno.
int remove_old_segments(const std::string& directory, const std::string& sink, std::uint64_t bytes_max,
                        std::int64_t age_max_ns, std::int64_t wall_ns, std::int64_t steady_ns, Removed& removed);

struct Space {
  std::uint64_t free = 0, total = 0;  // bytes that this user may still write; of the whole file system
};

// 0 or an errno.
int read_space(const std::string& directory, Space& space) noexcept;

// The least free space below which a log stops writing, where nobody has said: 1 GiB, of a smaller disk 5 %.
std::uint64_t free_bytes_min_of(const Space& space) noexcept;

}  // namespace pairec
