// SnakeFilter: the recalls give their best in turn, each so many a round.
#pragma once
#include "pick.hpp"

namespace pairec {

// Rounds over `shares` [share_count]: each gives the next `weight` of its candidates, best first, until `retain` are
// kept or a round gives none. A candidate that several recalls brought is in the lists of all of them, and kept once: a
// later recall that comes to it passes over it, and with `skips` that uses up one of its weight. Where two shares name
// one recall, the last has its candidates. Equal scores in the order given.
// Writes source and score of what is kept, and ws.visits: numbers below ws.kept are places in ws.slots, others items
// that fell to the cut.
void snake(const Candidates& all, const Share* shares, std::int32_t share_count, std::int32_t retain, bool skips,
           Workspace& ws) noexcept;

}  // namespace pairec
