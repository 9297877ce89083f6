// GroupWeightCountFilter: so many of each group, by what its candidates score together.
#pragma once
#include "pick.hpp"

namespace pairec {

struct GroupShares {
  std::int32_t retain;
  double weight;
  std::int32_t least;  // of a group
  std::int32_t most;   // of a group; 0: no limit
  bool softmax;        // shares by exp(weight * sum of scores); else by weight * sum of scores
};

// At most `most[limit]` candidates of each value of code[limit], in the order given.
struct Limits {
  std::int32_t count = 0;
  const std::int32_t* code = nullptr;  // [count, candidates]
  const std::int32_t* most = nullptr;  // [count]
};

// Groups are the values of `code` [count], in the order of their first candidates, which is the order of the output;
// each keeps its first candidates. A group's number is its share of `retain`, rounded, at least `least`; groups that
// reach `most` are cut there first, and the rest of `retain` is shared among the others. Then one of each group in turn
// goes or comes until `retain` are kept. It ends where that cannot be: when all groups have `least` or less and there
// are still too many, and when there are no more candidates.
// Does nothing to `retain` or fewer candidates.
void group_weight(const Candidates& all, const std::int32_t* code, const GroupShares& shares, const Limits& limits,
                  Workspace& ws) noexcept;

}  // namespace pairec
