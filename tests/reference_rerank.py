"""The slow twins of the sorts: PAI-Rec's sentences one after the other, in double, with every matrix formed."""

from __future__ import annotations

import numpy as np


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def gap(values):
    """How far the largest is ahead of the next: a choice closer than rounding is none."""
    values = np.sort(values[np.isfinite(values)])
    return values[-1] - values[-2] if len(values) > 1 else np.inf


def dpp(vectors, relevance, alpha, size, window, normalise=True, positive=True):
    """Places chosen, and by how much the closest choice was decided relative to the largest worth."""
    e = np.asarray(vectors, float)
    e = unit(e) if normalise else e
    f = np.hstack([e, np.ones((len(e), 1))]) / np.sqrt(2) if positive else e
    worth = np.diag(np.exp(alpha * np.asarray(relevance)))
    L = worth @ (f @ f.T) @ worth
    size = min(size, len(L))
    chosen, closest = [], np.inf
    while len(chosen) < size:
        here = []
        wanted = min(window, size - len(chosen))
        left, c = np.diag(L).copy(), np.zeros((0, len(L)))
        left[chosen] = np.nan
        while len(here) < wanted:
            j = int(np.nanargmax(left))
            closest = min(closest, gap(left) / max(left[j], 1e-300))
            here.append(j)
            if len(here) == wanted:
                break
            if left[j] < 1e-10:
                rest = [i for i in range(len(L)) if i not in chosen and i not in here]
                here += rest[: wanted - len(here)]
                break
            row = (L[j] - c[:, j] @ c) / np.sqrt(left[j])
            c = np.vstack([c, row])
            left = left - row**2
            left[j] = np.nan
        chosen += here
    return chosen, closest


def ssd(vectors, quality, gamma, size, window, normalise=True, positive=True, star=False):
    """As `dpp`: vectors are projected one by one, and given back what leaves the window."""
    v = np.array(vectors, float)
    v = unit(v) if normalise else v
    v = np.hstack([v, np.ones((len(v), 1))]) if positive else v
    r = np.asarray(quality, float)
    size, closest = min(size, len(v)), gap(r)
    chosen, kept = [int(np.argmax(r))], []
    volume = gamma * (1 if star else np.linalg.norm(v[chosen[0]]))
    while len(chosen) < size:
        free = [i for i in range(len(v)) if i not in chosen]
        if len(chosen) > window:
            old, projection = kept.pop(0)
            v[free] += projection[free, None] * v[old]
        b = v[chosen[-1]]
        with np.errstate(all="ignore"):
            projection = v @ b / (b @ b)
        projection[~np.isfinite(projection)] = 1.0
        v[free] -= projection[free, None] * b
        kept.append((chosen[-1], projection))
        worth = np.full(len(v), -np.inf)
        worth[free] = r[free] + volume * np.linalg.norm(v[free], axis=1)
        chosen.append(int(np.argmax(worth)))
        closest = min(closest, gap(worth))
        volume *= 1 if star else np.linalg.norm(v[chosen[-1]])
    return chosen, closest


def alike(left, right):
    """Values of a rule: texts are alike when equal; of tuples, every text must be equal and every set share one."""
    if not isinstance(left, tuple):
        return left == right
    return all(bool(a & b) if isinstance(a, set) else a == b for a, b in zip(left, right, strict=True))


def diversity_sort(items, rules, size, explore=0, excluded=(), exclusions=()):
    """PAI-Rec's DiversityRuleSort, sentence by sentence.

    `items` are (name, recall, [the value of the item for each rule]); `rules` are dicts in PAI-Rec's words;
    `exclusions` are (positions from 1 on, names of the items).
    """
    if not rules:
        return [name for name, _, _ in items]
    aside = [item for item in items if item[1] in excluded]
    rest = [(place, item) for place, item in enumerate(item for item in items if item[1] not in excluded)]
    weighs = any(rule.get("Weight", 0) > 0 for rule in rules)
    placed = []

    def allowed(entry):
        position = len(placed) + 1
        return not any(position in positions and entry[1][0] in names for positions, names in exclusions)

    def passes(number, item):
        rule, value = rules[number], item[2][number]
        interval, window = rule.get("IntervalSize", 0), rule.get("WindowSize", 0)
        frequency = rule.get("FrequencySize", 0)
        before = [alike(value, other[2][number]) for other in placed]
        if interval > 0 and len(before) >= interval and all(before[-interval:]):
            return False
        return not (window > frequency > 0 and sum(before[-(window - 1) :]) >= frequency)

    def take(entry):
        rest.remove(entry)
        placed.append(entry[1])

    if rest:
        take(next(filter(allowed, rest), rest[0]))
    while rest and len(placed) < size + 1:
        open_ones = [entry for entry in rest if allowed(entry)]
        if not open_ones:
            break
        if explore > 0:
            open_ones = [entry for entry in open_ones if entry[0] - open_ones[0][0] < explore]
        verdicts = [[passes(number, item) for number in range(len(rules))] for _, item in open_ones]
        whole = [entry for entry, verdict in zip(open_ones, verdicts, strict=True) if all(verdict)]
        worth = [
            sum(rule.get("Weight", 0) for rule, fits in zip(rules, verdict, strict=True) if fits) if weighs else 0
            for verdict in verdicts
        ]
        take(whole[0] if whole else open_ones[worth.index(max(worth))])
    return [name for name, _, _ in placed + [item for _, item in rest] + aside]


def drawn(seed):
    """splitmix64."""
    mask = 2**64 - 1
    seed = (seed + 0x9E3779B97F4A7C15) & mask
    seed = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    seed = ((seed ^ (seed >> 27)) * 0x94D049BB133111EB) & mask
    return seed ^ (seed >> 31)


def mix_sort(items, rules, size, remain=False, seed=0):
    """PAI-Rec's MultiRecallMixSort.

    `rules` are (names of the items it is for, capacity, random, places, name -> place).
    """
    if len(items) < size:
        return list(items)
    queues, rest = [[] for _ in rules], []
    for item in items:
        for queue, (names, capacity, *_) in zip(queues, rules, strict=True):
            if item in names and len(queue) < capacity:
                queue.append(item)
                break
        else:
            rest.append(item)
    page = [None] * size
    for queue, (_, _, random, places, own) in zip(queues, rules, strict=True):
        if random:
            continue
        if not places:
            places = [own[item] for item in queue if own.get(item, -1) > 0]
        waiting = iter(queue)
        for place in places:
            if place <= size:
                item = next(waiting, None)
                if item is None:
                    break
                page[place - 1] = item
    for queue, (_, capacity, random, _, _) in zip(queues, rules, strict=True):
        if not random:
            continue
        part = size // capacity if capacity else 0
        for number, item in enumerate(queue):
            if None not in page:
                break
            place = min(number * part + (drawn(seed) % part if part else 0), size - 1)
            seed += 1
            while page[place] is not None:
                place = (place + 1) % size
            page[place] = item
    for place in range(size):
        if page[place] is None and rest:
            page[place] = rest.pop(0)
    unused = [item for item in items if item not in page]
    for place in range(size):
        if page[place] is None:
            page[place] = unused.pop(0)
    return page + (unused if remain else [])
