"""The slow twins of core/pick: PAI-Rec's counting filters over lists of candidates, as its contract words them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

U64 = 2**64 - 1


def shuffled(values, seed):
    """Fisher and Yates from the back; splitmix64 from `seed`, its upper half scaled down."""
    values = list(values)
    for left in range(len(values), 1, -1):
        seed = (seed + 0x9E3779B97F4A7C15) & U64
        drawn = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & U64
        drawn = ((drawn ^ (drawn >> 27)) * 0x94D049BB133111EB) & U64
        drawn ^= drawn >> 31
        other = ((drawn >> 32) * left) >> 32
        values[left - 1], values[other] = values[other], values[left - 1]
    return values


@dataclass
class Item:
    """A candidate: `scores` are PAI-Rec's RecallScores, empty unless something was merged into it."""

    slot: int
    item: int
    source: int
    score: float
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def from_many(self):
        return len(self.scores) > 1


def key(score):
    return math.inf if math.isnan(score) else -score


def best_first(items):
    return sorted(items, key=lambda one: key(one.score))


def half_shuffled(items, seed):
    half = len(items) // 2
    return shuffled(items[:half], seed) + items[half:]


def merge(items, place):
    """UniqueFilter: first of each id; RecallScores of those that were met again."""
    kept = {}
    for one in items:
        first = kept.setdefault(one.item, one)
        if first is not one:
            first.scores = first.scores or {first.source: first.score}
            first.scores[one.source] = one.score
    return list(kept.values())


def adjust_count(count, retain, is_shuffled, seed):
    slots = list(range(count))
    if count > retain and is_shuffled:
        slots = shuffled(slots, seed)
    return slots[:retain]


def completely_fair(items, retain):
    lists = {}
    for one in best_first(items):
        lists.setdefault(one.source, []).append(one)
    turns, kept = list(lists), []
    while len(kept) < min(retain, len(items)):
        turn = len(kept) % len(turns)
        waiting = lists[turns[turn]]
        kept.append(waiting.pop(0).slot)
        if not waiting:
            turns[turn] = turns[-1]
            turns.pop()
    return kept


def priority(items, shares, seed, fields=(), least=0):
    """`shares` are (source, count, weight, accumulates); `fields` are lists of values by slot."""
    ordered = best_first(half_shuffled(items, seed))
    quota = min(shares[-1][1], len(items))
    quotas, used = [], []
    for values in fields:
        counts = {}
        for one in items:
            counts[values[one.slot]] = counts.get(values[one.slot], 0) + 1
        total = np.float32(len(items))
        quotas.append({v: max(int(np.float32(n) / total * np.float32(quota)), least) for v, n in counts.items()})
        used.append(dict.fromkeys(counts, 0))
    kept, accumulated, given = [], 0, {}

    def left_of(source):
        return [one for one in ordered if one.source == source and one.slot not in kept]

    for source, count, _, accumulates in shares:
        if not (accumulates and fields):
            of_recall = [one for one in ordered if one.source == source]
            most = max(0, min(len(of_recall), count - (accumulated if accumulates else 0)))
            kept += [one.slot for one in of_recall[:most] if one.slot not in kept]
            accumulated += most if accumulates else 0
            continue
        before = len(kept)
        for one in left_of(source):
            values = [column[one.slot] for column in fields]
            if any(used[at][value] > quotas[at][value] for at, value in enumerate(values)):
                continue
            kept.append(one.slot)
            for at, value in enumerate(values):
                used[at][value] += 1
            if len(kept) >= count:
                break
        given[source] = given.get(source, 0) + len(kept) - before
    if fields and len(kept) < quota:
        for source, count, _, _ in shares:
            left = count - given.get(source, 0)
            for one in left_of(source):
                if left <= 0:
                    break
                kept.append(one.slot)
                left -= 1
                if len(kept) >= quota:
                    break
    return kept


def priority_of_many(items, shares, seed):
    kept, accumulated = {}, 0
    for place, (source, count, _, accumulates) in enumerate(shares):
        listed = [(one.slot, one.score) for one in items if not one.from_many and one.source == source]
        listed += [
            (one.slot, one.scores[source])
            for one in items
            if one.from_many and source in one.scores and one.slot not in kept
        ]
        listed = sorted(half_shuffled(listed, seed + place), key=lambda one: key(one[1]))
        most = max(0, min(len(listed), count - (accumulated if accumulates else 0)))
        for slot, score in listed[:most]:
            kept.setdefault(slot, (slot, source, score))
        accumulated += most if accumulates else 0
    return list(kept.values())


def snake(items, shares, retain, skips):
    """Kept (slot, source, score), and for each of them its visits (source, rank, score)."""
    last = {source: place for place, (source, *_) in enumerate(shares)}
    lists = [[] for _ in shares]
    for one in items:
        scores = {one.source: one.score}
        if one.from_many:
            scores = {**one.scores, **scores}
        for source, score in scores.items():
            if source in last:
                lists[last[source]].append((one, score))
    lists = [sorted(entries, key=lambda entry: key(entry[1])) for entries in lists]
    at, kept, visits = [0] * len(shares), [], {}
    while len(kept) < retain:
        before = len(kept)
        for place, (source, _, weight, _) in enumerate(shares):
            left = weight
            while left > 0 and at[place] < len(lists[place]):
                one, score = lists[place][at[place]]
                known = one.item in visits
                visits.setdefault(one.item, []).append((source, at[place], score))
                at[place] += 1
                if not known:
                    kept.append((one, source, score))
                left -= 1 if skips or not known else 0
        if len(kept) == before:
            break
    kept = kept[:retain]
    return [(one.slot, source, score) for one, source, score in kept], [visits[one.item] for one, *_ in kept]


def group_weight(codes, scores, retain, weight, least=0, most=0, softmax=True, limits=()):
    slots = list(range(len(codes)))
    if len(slots) <= retain:
        return slots
    for values, top in limits:
        seen, left = {}, []
        for slot in slots:
            if seen.get(values[slot], 0) < top:
                seen[values[slot]] = seen.get(values[slot], 0) + 1
                left.append(slot)
        slots = left
    groups = {}
    for slot in slots:
        groups.setdefault(codes[slot], []).append(slot)
    total = {group: sum(scores[slot] for slot in members) * weight for group, members in groups.items()}

    def part(value):
        if not softmax:
            return value
        try:
            return math.exp(value)
        except OverflowError:
            return math.inf

    total = {group: part(value) for group, value in total.items()}

    def counts(of, places):
        whole = 0.0
        for group in of:
            whole += total[group]
        found = {}
        for group in of:
            exact = np.float64(places) * (np.float64(total[group]) / np.float64(whole or 1.0))
            exact = math.floor(abs(exact) + 0.5) * (1 if exact > 0 else -1) if math.isfinite(exact) else 0
            number = max(exact if exact < 2**63 else 0, least, 0)
            found[group] = min(number, most) if most else number, bool(most) and number >= most
        return found

    shares = counts(groups, retain)
    full = [group for group, (_, is_full) in shares.items() if is_full]
    kept = {group: groups[group][: shares[group][0]] for group in (full or groups)}
    if full and sum(map(len, kept.values())) < retain:
        rest = counts([group for group in groups if group not in full], retain - len(full) * most)
        kept |= {group: groups[group][:number] for group, (number, _) in rest.items()}
    kept = {group: kept.get(group, []) for group in groups}
    while (count := sum(map(len, kept.values()))) != retain:
        before = count
        for group, members in kept.items():
            if count == retain:
                break
            if before > retain and len(members) > max(least, 0):
                members.pop()
                count -= 1
            elif before < retain and len(members) < len(groups[group]):
                members.append(groups[group][len(members)])
                count += 1
        if count == before:
            break
    return [slot for members in kept.values() for slot in members]


def diversity_adjust(matches, scores, shares, seed):
    items = [Item(slot, slot, 0, score) for slot, score in enumerate(scores)]
    ordered = [one.slot for one in best_first(half_shuffled(items, seed))]
    kept, accumulated = [], 0
    for matched, (_, count, _, accumulates) in zip(matches, shares, strict=True):
        looked_at = [slot for slot in ordered if matched[slot]]
        looked_at = looked_at[: max(0, count - (accumulated if accumulates else 0))]
        fresh = [slot for slot in looked_at if slot not in kept]
        kept += fresh
        accumulated += len(fresh) if accumulates else 0
    return kept


def unique_codes(codes):
    return [slot for slot, code in enumerate(codes) if code < 0 or code not in codes[:slot]]
