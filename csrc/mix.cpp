#include "mix.hpp"

#include <algorithm>

#include "vectors.hpp"

namespace pairec {
namespace {

constexpr std::int32_t free_place = -1, of_no_rule = -1;

struct Page {
  const Mix& conf;
  const std::int32_t* input;  // [count] slots
  std::int32_t count;
  std::int32_t* rule_of;      // [count] by position in `input`
  std::int32_t* taken_by;     // [size] position in `input`
  std::uint64_t seed;

  // The next position from `at` on that belongs to `rule`; `count` where there is none.
  std::int32_t next(std::int32_t rule, std::int32_t at) const noexcept {
    while (at < count && rule_of[at] != rule) ++at;
    return at;
  }

  void put_fixed(std::int32_t rule) const noexcept {
    const MixRule& own = conf.rules[rule];
    std::int32_t at = next(rule, 0);
    const auto put = [&](std::int32_t place) {
      if (place > conf.size || at == count) return;
      taken_by[place - 1] = at;
      at = next(rule, at + 1);
    };
    for (std::int32_t i = 0; i < own.place_count; ++i) put(own.place[i]);
    if (own.place_count > 0 || own.own_place == nullptr) return;
    // The places that candidates say are one list, and the candidates fill it in order: as upstream has it.
    for (std::int32_t saying = next(rule, 0); saying < count; saying = next(rule, saying + 1)) {
      const std::int32_t place = own.own_place[input[saying]];
      if (place > 0) put(place);
    }
  }

  void put_random(std::int32_t rule) noexcept {
    const std::int32_t part = conf.rules[rule].capacity > 0 ? conf.size / conf.rules[rule].capacity : 0;
    std::int64_t start = 0;
    for (std::int32_t at = next(rule, 0); at < count; at = next(rule, at + 1)) {
      if (std::find(taken_by, taken_by + conf.size, free_place) == taken_by + conf.size) return;
      const std::uint64_t drawn = mixed(seed++);
      const std::int64_t offset = part > 0 ? static_cast<std::int64_t>(drawn % static_cast<std::uint64_t>(part)) : 0;
      std::int32_t place = static_cast<std::int32_t>(std::min<std::int64_t>(start + offset, conf.size - 1));
      while (taken_by[place] != free_place) place = place + 1 == conf.size ? 0 : place + 1;
      taken_by[place] = at;
      start += part;
    }
  }
};

}  // namespace

void mix(Arena& arena, const Mix& conf, std::int32_t* scratch) noexcept {
  const std::int32_t count = arena.order_count;
  if (count < conf.size) return;
  std::copy(arena.order, arena.order + count, arena.spare);
  Page page{conf, arena.spare, count, scratch, scratch + count, conf.seed};
  std::int32_t* used = scratch + 2 * count;
  std::fill(used, used + conf.rule_count, 0);  // first by rule: how many belong to it
  for (std::int32_t at = 0; at < count; ++at) {
    page.rule_of[at] = of_no_rule;
    for (std::int32_t rule = 0; rule < conf.rule_count; ++rule) {
      const MixRule& one = conf.rules[rule];
      if (!one.match[page.input[at]] || used[rule] >= one.capacity) continue;
      page.rule_of[at] = rule;
      ++used[rule];
      break;
    }
  }
  std::fill(page.taken_by, page.taken_by + conf.size, free_place);
  for (std::int32_t rule = 0; rule < conf.rule_count; ++rule)
    if (!conf.rules[rule].random) page.put_fixed(rule);
  for (std::int32_t rule = 0; rule < conf.rule_count; ++rule)
    if (conf.rules[rule].random) page.put_random(rule);

  std::int32_t at = page.next(of_no_rule, 0);
  for (std::int32_t place = 0; place < conf.size && at < count; ++place) {
    if (page.taken_by[place] != free_place) continue;
    page.taken_by[place] = at;
    at = page.next(of_no_rule, at + 1);
  }
  // As many candidates as places or more, so the unused ones close every gap.
  std::fill(used, used + count, 0);
  for (std::int32_t place = 0; place < conf.size; ++place)
    if (page.taken_by[place] != free_place) used[page.taken_by[place]] = 1;
  std::int32_t unused = 0;
  const auto next_unused = [&] {
    while (unused < count && used[unused]) ++unused;
    return unused;
  };
  for (std::int32_t place = 0; place < conf.size; ++place) {
    if (page.taken_by[place] == free_place) {
      page.taken_by[place] = next_unused();
      used[page.taken_by[place]] = 1;
    }
    arena.order[place] = page.input[page.taken_by[place]];
  }
  std::int32_t done = conf.size;
  if (conf.remain)
    for (; next_unused() < count; ++unused) arena.order[done++] = page.input[unused];
  arena.order_count = done;
}

}  // namespace pairec
