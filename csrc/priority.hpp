// PriorityAdjustCountFilter and its second version: so many of each recall, the recalls in configured order.
#pragma once
#include "pick.hpp"

namespace pairec {

// What EnsureDiversity asks for: no value of a field may take more than its share of the places.
struct Quotas {
  std::int32_t fields = 0;            // 0: not asked for
  const std::int32_t* code = nullptr;  // [fields, count] equal numbers are equal values
  std::int32_t least = 0;             // a value's quota is at least this
};

// Best first, each recall's `shares` [share_count] in turn; equal scores as the shuffled first half decides. Recalls
// without a share are dropped. With quotas, an accumulating share takes until the whole output reaches its count,
// passing over values that are used up: a value may be used once more than its quota. If fewer came out than
// min(last count, candidates), the shares are gone through again without quotas, each for what its count has left.
// Each slot once, also where two shares name one recall. The workspace needs one list for each source.
void priority(const Candidates& all, const Share* shares, std::int32_t share_count, const Quotas& quotas,
              std::uint64_t seed, Workspace& ws) noexcept;

// The second version: a candidate that several recalls brought may serve any of them, with its score there, once.
// Writes source and score of what is kept.
void priority_of_many(const Candidates& all, const Share* shares, std::int32_t share_count, std::uint64_t seed,
                      Workspace& ws) noexcept;

}  // namespace pairec
