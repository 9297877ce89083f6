// Which candidates go on and in what order, where a filter counts instead of testing: what PAI-Rec's counting filters
// share, and the simple ones among them. Plain columns in, slots out; all memory is a Workspace's.
#pragma once
#include <cstdint>
#include <limits>
#include <vector>

namespace pairec {

// The live slots, borrowed. `next` and what goes with it tell what UniqueFilter merged: the first candidate of an item
// stands for all of them, and from its place a chain leads through the places of the others.
struct Candidates {
  std::int32_t count = 0;
  const std::int32_t* item = nullptr;    // [count] equal numbers are one item
  const std::uint8_t* source = nullptr;  // [count] which recall it counts for
  const double* score = nullptr;         // [count] a NaN counts as minus infinity
  const std::int32_t* place = nullptr;   // [count] where recall put it; null if nothing was merged
  const std::int32_t* next = nullptr;          // [places] the next place of the same item, or -1
  const std::uint8_t* came_source = nullptr;   // [places] what recall wrote there
  const double* came_score = nullptr;          // [places]
};

// One entry of AdjustCountConfs.
struct Share {
  std::int32_t source;  // 0 to 255, or -1: a recall that the scene does not have
  std::int32_t count;
  std::int32_t weight;
  bool accumulates;     // `count` is for all accumulating entries so far together
};

// A candidate in one of the lists that a kernel takes from.
struct Entry {
  double score;
  std::int32_t list;
  std::int32_t position;  // decides between equal scores
  std::int32_t slot;
};

// Numbers of any size to 0, 1, 2 ... in the order they are first asked for. Empties in one increment.
class Numbering {
 public:
  void prepare(std::int32_t most);  // may throw bad_alloc
  void clear() noexcept;
  std::int32_t of(std::int32_t key) noexcept;  // at most `most` different keys between two clears
  std::int32_t count() const noexcept { return count_; }

 private:
  struct Cell {
    std::uint32_t stamp = 0;
    std::int32_t key = 0;
    std::int32_t number = 0;
  };
  std::vector<Cell> cells_;
  std::uint32_t now_ = 0;
  std::int32_t count_ = 0;
};

// A visit of the snake: the item's number, the source it was visited for, its rank and score there.
struct Visit {
  std::int32_t number;
  std::int32_t rank;
  double score;
  std::uint8_t source;
};

// All memory a kernel of this file, or of priority, snake and groups, needs. Grows in `prepare` alone.
struct Workspace {
  std::vector<Entry> entries;
  std::vector<std::int32_t> slots;   // out: what is kept, in order
  std::vector<std::uint8_t> source;  // out: the recall each counts for now
  std::vector<double> score;         // out: and its score there
  std::vector<Visit> visits;
  std::vector<std::uint8_t> taken;
  std::vector<std::int32_t> spare;
  std::vector<std::int32_t> begin;   // where each list begins
  std::vector<std::int32_t> numbers;
  std::vector<std::int32_t> used;
  std::vector<double> weight;
  Numbering numbering;
  std::int32_t kept = 0;             // out: of slots, source and score
  std::int32_t visited = 0;          // out: of visits

  // Room for `count` candidates with `entries_most` entries in `lists` lists, and with values of `fields` fields. May
  // throw bad_alloc.
  void prepare(std::int32_t count, std::int64_t entries_most, std::int32_t lists, std::int32_t fields);
};

// A permutation of `values` [count] drawn from `seed`: Fisher and Yates from the back, numbers from splitmix64.
void shuffle(std::int32_t* values, std::int32_t count, std::uint64_t seed) noexcept;

// What a score is sorted by: a NaN has no order.
inline double ordered(double score) noexcept {
  return score == score ? score : -std::numeric_limits<double>::infinity();
}

// By list, in a list by score, the highest first; equal scores by position.
void best_first(Entry* entries, std::int64_t count) noexcept;

// Fills ws.entries [count] with the candidates, all in list 0, best first. With `shuffled`, the first half changes places
// before, which decides between equal scores.
void ranked(const Candidates& all, bool shuffled, std::uint64_t seed, Workspace& ws) noexcept;

// The score of the candidate in `slot` for `source`; false if that recall did not bring it. Of several scores that one
// recall gave an item, the last counts.
bool score_for(const Candidates& all, std::int32_t slot, std::uint8_t source, double& score) noexcept;

// Whether more than one recall brought the candidate in `slot`.
bool from_many(const Candidates& all, std::int32_t slot) noexcept;

// UniqueFilter: the first slot of each item, and in `next` [places] the chains that lead from the place of each to those
// of the slots merged into it. Copies source and score to their places.
void merge(const std::int32_t* item, const std::int32_t* place, const std::uint8_t* source, const double* score,
           std::int32_t count, std::int32_t* next, std::uint8_t* came_source, double* came_score,
           Workspace& ws) noexcept;

// AdjustCountFilter: the first `retain`, of a permutation with `shuffled`. Not more than there are.
void adjust_count(std::int32_t count, std::int32_t retain, bool shuffled, std::uint64_t seed, Workspace& ws) noexcept;

// CompletelyFairFilter: the recalls, in the order of their best candidates, give one in turn until `retain` are taken;
// the place of a recall that has no more is taken by the last one.
void completely_fair(const Candidates& all, std::int32_t retain, Workspace& ws) noexcept;

// DiversityAdjustCountFilter: for each of `shares` [share_count] the best candidates that it `matches`
// [share_count, count], each used once. One that is used already still counts against the number looked at.
void diversity_adjust(const Candidates& all, const Share* shares, std::int32_t share_count, const std::uint8_t* matches,
                      std::uint64_t seed, Workspace& ws) noexcept;

// DimensionFieldUniqueFilter: the first slot of each `code` [count]; of negative codes all.
void unique_codes(const std::int32_t* code, std::int32_t count, Workspace& ws) noexcept;

}  // namespace pairec
