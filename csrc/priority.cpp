#include "priority.hpp"

#include <algorithm>

namespace pairec {

namespace {

constexpr std::int32_t kSources = 256;

// Groups the entries [count] by source, keeping their order: those of `source` are begin[source] to begin[source + 1].
void by_source(const Candidates& all, std::int32_t count, Workspace& ws) noexcept {
  for (std::int32_t i = 0; i < count; ++i) {
    ws.entries[i].list = all.source[ws.entries[i].slot];
    ws.entries[i].position = i;
    ws.entries[i].score = 0.0;  // the position alone decides: it has the order of scores already
  }
  best_first(ws.entries.data(), count);
  std::int32_t at = 0;
  for (std::int32_t source = 0; source <= kSources; ++source) {
    while (at < count && ws.entries[at].list < source) ++at;
    ws.begin[source] = at;
  }
}

void take(std::int32_t slot, Workspace& ws) noexcept {
  ws.taken[slot] = 1;
  ws.slots[ws.kept++] = slot;
}

// How often each value may be used and is: ws.spare of fields * values. Codes are dense here.
struct Used {
  const Quotas& quotas;
  std::int32_t count;
  std::int32_t* most;  // [numbers] quota of a value
  std::int32_t* now;   // [numbers]
  const std::int32_t* number;  // [fields, count]

  bool has_room(std::int32_t slot) const noexcept {
    for (std::int32_t field = 0; field < quotas.fields; ++field) {
      const std::int32_t value = number[static_cast<std::int64_t>(field) * count + slot];
      if (now[value] > most[value]) return false;
    }
    return true;
  }
  void use(std::int32_t slot) noexcept {
    for (std::int32_t field = 0; field < quotas.fields; ++field)
      ++now[number[static_cast<std::int64_t>(field) * count + slot]];
  }
};

}  // namespace

void priority(const Candidates& all, const Share* shares, std::int32_t share_count, const Quotas& quotas,
              std::uint64_t seed, Workspace& ws) noexcept {
  const std::int32_t count = all.count;
  ranked(all, true, seed, ws);
  by_source(all, count, ws);
  std::fill(ws.taken.begin(), ws.taken.begin() + count, std::uint8_t{0});
  const std::int32_t quota = std::min(shares[share_count - 1].count, count);

  // Values of all fields get numbers of their own, field after field, so that one array counts them all.
  const std::int64_t cells = static_cast<std::int64_t>(quotas.fields) * count;
  Used used{quotas, count, ws.used.data(), ws.used.data() + cells, ws.numbers.data()};
  std::int32_t numbers = 0;
  for (std::int32_t field = 0; field < quotas.fields; ++field) {
    const std::int64_t row = static_cast<std::int64_t>(field) * count;
    ws.numbering.clear();
    std::fill(used.now + numbers, used.now + numbers + count, 0);
    for (std::int32_t slot = 0; slot < count; ++slot)
      ++used.now[ws.numbers[row + slot] = numbers + ws.numbering.of(quotas.code[row + slot])];
    for (std::int32_t value = numbers; value < numbers + ws.numbering.count(); ++value) {
      // In float32, as PAI-Rec has it: a share of a quota is a small number, and its last unit decides an item.
      const float share = static_cast<float>(used.now[value]) / static_cast<float>(count);
      used.most[value] = std::max(static_cast<std::int32_t>(share * static_cast<float>(quota)), quotas.least);
      used.now[value] = 0;
    }
    numbers += ws.numbering.count();
  }

  std::int32_t given[kSources] = {};  // what a recall gave to accumulating shares
  std::int64_t accumulated = 0;
  for (std::int32_t share = 0; share < share_count; ++share) {
    const Share& conf = shares[share];
    if (conf.source < 0) continue;
    const std::int32_t begin = ws.begin[conf.source], end = ws.begin[conf.source + 1];
    if (!conf.accumulates || quotas.fields == 0) {
      const std::int64_t left = conf.count - (conf.accumulates ? accumulated : 0);
      const auto most = static_cast<std::int32_t>(std::clamp<std::int64_t>(left, 0, end - begin));
      for (std::int32_t i = begin; i < begin + most; ++i)
        if (!ws.taken[ws.entries[i].slot]) take(ws.entries[i].slot, ws);
      if (conf.accumulates) accumulated += most;
      continue;
    }
    const std::int32_t before = ws.kept;
    for (std::int32_t i = begin; i < end; ++i) {
      const std::int32_t slot = ws.entries[i].slot;
      if (ws.taken[slot] || !used.has_room(slot)) continue;
      take(slot, ws);
      used.use(slot);
      if (ws.kept >= conf.count) break;
    }
    given[conf.source] += ws.kept - before;
  }
  if (quotas.fields == 0 || ws.kept >= quota) return;
  for (std::int32_t share = 0; share < share_count; ++share) {
    const Share& conf = shares[share];
    if (conf.source < 0) continue;
    std::int32_t left = conf.count - given[conf.source];
    for (std::int32_t i = ws.begin[conf.source]; i < ws.begin[conf.source + 1] && left > 0; ++i) {
      if (ws.taken[ws.entries[i].slot]) continue;
      take(ws.entries[i].slot, ws);
      if (ws.kept >= quota) break;
      --left;
    }
  }
}

void priority_of_many(const Candidates& all, const Share* shares, std::int32_t share_count, std::uint64_t seed,
                      Workspace& ws) noexcept {
  constexpr std::uint8_t kTaken = 1, kMany = 2;
  const std::int32_t count = all.count;
  for (std::int32_t slot = 0; slot < count; ++slot) ws.taken[slot] = from_many(all, slot) ? kMany : 0;
  std::int64_t accumulated = 0;
  for (std::int32_t share = 0; share < share_count; ++share) {
    const Share& conf = shares[share];
    if (conf.source < 0) continue;
    const auto source = static_cast<std::uint8_t>(conf.source);
    // First those of this recall alone, then those of several: the order in which the shuffle finds them.
    std::int32_t listed = 0;
    for (std::int32_t slot = 0; slot < count; ++slot)
      if (all.source[slot] == source && !(ws.taken[slot] & kMany)) ws.spare[listed++] = slot;
    double score = 0.0;
    for (std::int32_t slot = 0; slot < count; ++slot)
      if (ws.taken[slot] == kMany && score_for(all, slot, source, score)) ws.spare[listed++] = slot;
    shuffle(ws.spare.data(), listed / 2, seed + static_cast<std::uint64_t>(share));
    for (std::int32_t position = 0; position < listed; ++position) {
      const std::int32_t slot = ws.spare[position];
      score = all.score[slot];
      if (ws.taken[slot] & kMany) score_for(all, slot, source, score);
      ws.entries[position] = {ordered(score), 0, position, slot};
    }
    best_first(ws.entries.data(), listed);
    const std::int64_t left = conf.count - (conf.accumulates ? accumulated : 0);
    const auto most = static_cast<std::int32_t>(std::clamp<std::int64_t>(left, 0, listed));
    for (std::int32_t i = 0; i < most; ++i) {
      const std::int32_t slot = ws.entries[i].slot;
      if (ws.taken[slot] & kTaken) continue;
      ws.source[ws.kept] = source;
      ws.score[ws.kept] = ws.entries[i].score;
      ws.slots[ws.kept++] = slot;
      ws.taken[slot] |= kTaken;
    }
    if (conf.accumulates) accumulated += most;
  }
}

}  // namespace pairec
