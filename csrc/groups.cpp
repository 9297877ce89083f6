#include "groups.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace pairec {

namespace {

// Leaves the slots that no limit drops in ws.spare, in order. Returns how many.
std::int32_t limited(std::int32_t count, const Limits& limits, Workspace& ws) noexcept {
  std::iota(ws.spare.begin(), ws.spare.begin() + count, 0);
  std::int32_t left = count;
  for (std::int32_t limit = 0; limit < limits.count; ++limit) {
    const std::int32_t* code = limits.code + static_cast<std::int64_t>(limit) * count;
    ws.numbering.clear();
    std::int32_t kept = 0;
    for (std::int32_t i = 0; i < left; ++i) {
      const std::int32_t slot = ws.spare[i];
      const std::int32_t known = ws.numbering.count();
      const std::int32_t value = ws.numbering.of(code[slot]);
      if (value == known) ws.used[value] = 0;
      if (ws.used[value] >= limits.most[limit]) continue;
      ++ws.used[value];
      ws.spare[kept++] = slot;
    }
    left = kept;
  }
  return left;
}

// A group's number of `retain` places. What is no number, or none of 64 bits, is the smallest one to PAI-Rec, so `least`.
std::int32_t places(double part, double total, std::int32_t retain, const GroupShares& shares) noexcept {
  const double exact = std::round(static_cast<double>(retain) * (part / (total == 0.0 ? 1.0 : total)));
  std::int32_t number = 0;
  if (exact > 0.0 && exact < 9223372036854775808.0)
    number = static_cast<std::int32_t>(std::min(exact, 2147483647.0));
  return std::max({number, shares.least, 0});
}

}  // namespace

void group_weight(const Candidates& all, const std::int32_t* code, const GroupShares& shares, const Limits& limits,
                  Workspace& ws) noexcept {
  if (all.count <= shares.retain) {
    std::iota(ws.slots.begin(), ws.slots.begin() + all.count, 0);
    ws.kept = all.count;
    return;
  }
  const std::int32_t count = limited(all.count, limits, ws);
  ws.numbering.clear();
  std::int32_t* size = ws.used.data();  // of each group
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t slot = ws.spare[i];
    const std::int32_t known = ws.numbering.count();
    const std::int32_t group = ws.numbering.of(code[slot]);
    if (group == known) {
      size[group] = 0;
      ws.weight[group] = 0.0;
    }
    ++size[group];
    ws.weight[group] += all.score[slot];
    ws.entries[i] = {0.0, group, i, slot};
  }
  const std::int32_t groups = ws.numbering.count();
  best_first(ws.entries.data(), count);
  for (std::int32_t group = 0; group < groups; ++group) {
    ws.weight[group] *= shares.weight;
    if (shares.softmax) ws.weight[group] = std::exp(ws.weight[group]);
  }

  // First the groups that reach the limit; if there are some, the others share what these leave.
  std::int32_t* keep = ws.numbers.data();  // of each group
  const double total = std::accumulate(ws.weight.begin(), ws.weight.begin() + groups, 0.0);
  std::int64_t kept = 0, full = 0;
  double rest = 0.0;
  for (std::int32_t group = 0; group < groups; ++group) {
    keep[group] = places(ws.weight[group], total, shares.retain, shares);
    if (shares.most > 0 && keep[group] >= shares.most) {
      keep[group] = -1;
      kept += std::min(size[group], shares.most);
      ++full;
    } else {
      rest += ws.weight[group];
    }
  }
  const bool shared_again = full > 0 && kept < shares.retain;
  const auto left = static_cast<std::int32_t>(std::max<std::int64_t>(shares.retain - full * shares.most, -2147483647));
  for (std::int32_t group = 0; group < groups; ++group) {
    if (keep[group] < 0) {
      keep[group] = std::min(size[group], shares.most);
      continue;
    }
    if (shared_again) {
      keep[group] = places(ws.weight[group], rest, left, shares);
      if (shares.most > 0) keep[group] = std::min(keep[group], shares.most);
    } else if (full > 0) {
      keep[group] = 0;
    }
    keep[group] = std::min(keep[group], size[group]);
    kept += keep[group];
  }

  for (bool moved = true; moved && kept != shares.retain;) {
    moved = false;
    const bool too_many = kept > shares.retain;
    for (std::int32_t group = 0; group < groups && kept != shares.retain; ++group) {
      if (too_many ? keep[group] <= std::max(shares.least, 0) : keep[group] >= size[group]) continue;
      const std::int32_t step = too_many ? -1 : 1;
      keep[group] += step;
      kept += step;
      moved = true;
    }
  }
  for (std::int32_t group = 0, at = 0; group < groups; at += size[group], ++group)
    for (std::int32_t i = 0; i < keep[group]; ++i) ws.slots[ws.kept++] = ws.entries[at + i].slot;
}

}  // namespace pairec
