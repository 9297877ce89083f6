"""The slow twins of what recalls do with lists that live stores hold."""

from __future__ import annotations

import math

from pairec_fast.expression.convert import to_float


def entries(text, separator=",", colons=-1, skip_null=False):
    """(id, label, first, last) of each entry."""
    found = []
    for part in text.split(separator):
        pieces = part.split(":")
        if not pieces[0] or len(pieces) > 3 or (skip_null and pieces[0] == "null"):
            continue
        if colons >= 0 and len(pieces) != colons + 1:
            continue
        label, tail = [*pieces[1:], "", ""][:2]
        found.append((pieces[0], label, to_float(label, math.nan), to_float(tail, math.nan)))
    return found


def merged(rows, weights, largest, k):
    """(row, weight), best first."""
    total = {}
    for row, weight in zip(rows, weights, strict=True):
        if row < 0:
            continue
        if row not in total:
            total[row] = weight
        else:
            total[row] = max(total[row], weight) if largest else total[row] + weight
    return sorted(total.items(), key=lambda entry: (-entry[1], entry[0]))[:k]


def in_turn(lists, k):
    """(row, score) taken from each of `lists` of such pairs in turn."""
    lists, taken = [list(one) for one in lists], {}
    while any(lists) and len(taken) < k:
        for one in lists:
            while one and (one[0][0] < 0 or one[0][0] in taken):
                one.pop(0)
            if one and len(taken) < k:
                row, score = one.pop(0)
                taken[row] = score
    return list(taken.items())
