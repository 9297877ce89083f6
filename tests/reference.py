"""The slow twin of every kernel: the plainest code that gives the right answer, in NumPy or pure Python."""

from __future__ import annotations

import itertools
import math
import struct

import numpy as np


def rank_score(text, values):
    """PAI-Rec's default RankScore of one row: `values` name -> float, missing names 0. None where it divides by zero.

    Another algorithm than the package's: write the zeros that stand for missing operands, then shunting-yard.
    """
    import re

    precedence = {"+": 20, "-": 20, "*": 40, "/": 40, "%": 40, "^": 60, "#": 80}
    written = []
    for token in re.findall(r"\$\{[^}]*\}|[0-9][0-9._e]*|[-+*/%^#()]", text):
        wants_operand = not written or (written[-1] in precedence or written[-1] == "(")
        if wants_operand and (token in precedence or token == ")"):
            written.append("0")
        written.append(token)

    numbers, waiting = [], []

    def whole(x):
        return int(x) if -(2.0**63) <= x < 2.0**63 else -(2**63)

    def power(a, b):
        """C's pow, which math.pow is but for its errors; np.power may be another in the last bit."""
        odd = math.isfinite(b) and math.fmod(b, 2) in (1, -1)
        try:
            return math.pow(a, b)
        except OverflowError:
            return -math.inf if a < 0 and odd else math.inf
        except ValueError:
            return math.nan if a != 0 else math.copysign(math.inf, a) if odd else math.inf

    def apply(operator):
        b, a = numbers.pop(), numbers.pop()
        if (operator == "/" and b == 0) or (operator == "%" and whole(b) == 0):
            raise ZeroDivisionError
        with np.errstate(all="ignore"):
            a, b = np.float64(a), np.float64(b)
            if operator == "%":
                remainder = abs(whole(a)) % abs(whole(b))
                numbers.append(float(-remainder if whole(a) < 0 else remainder))
            elif operator == "#":
                numbers.append(a if a != 0 else b)
            else:
                operation = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": power}[operator]
                numbers.append(operation(a, b))

    try:
        for token in written:
            if token == "(":
                waiting.append(token)
            elif token == ")":
                while waiting[-1] != "(":
                    apply(waiting.pop())
                waiting.pop()
            elif token in precedence:
                while waiting and waiting[-1] != "(" and precedence[waiting[-1]] >= precedence[token]:
                    apply(waiting.pop())
                waiting.append(token)
            elif token.startswith("${"):
                numbers.append(values.get(token[2:-1], 0.0))
            else:
                numbers.append(float(token.replace("_", "")))
        while waiting:
            apply(waiting.pop())
    except ZeroDivisionError:
        return None
    return float(numbers.pop())


def forest_trees(text):
    """The trees of a LightGBM model's text, and how many there are in a round.

    Of each: a dict of its numbers by name, and goes_left(x, node) of a row.

    Source: LightGBM's `tree.h`, NumericalDecision and CategoricalDecision; a dense value within 1e-35f of zero is zero.
    """
    near_zero = float(np.float32(1e-35))
    header, *blocks = text.split("\nend of trees\n")[0].split("\nTree=")
    fields = dict(line.partition("=")[::2] for line in header.split("\n"))
    trees = []
    for block in blocks:
        words_of = {name: value.split() for name, _, value in (line.partition("=") for line in block.split("\n"))}
        if len(words_of["leaf_value"]) == 1:  # whatever else it says
            words_of = {name: words_of.get(name, []) for name in ("leaf_value", "leaf_count")}
        elif int(words_of["num_cat"][0]) == 0:
            words_of["cat_boundaries"] = words_of["cat_threshold"] = []
        names = "split_feature", "decision_type", "left_child", "right_child", "cat_boundaries", "cat_threshold"
        tree = {name: [int(word) for word in words_of.get(name, [])] for name in names}
        names = "leaf_value", "threshold", "leaf_count", "internal_count"
        tree |= {name: [float(word) for word in words_of.get(name, [])] for name in names}

        def goes_left(x, node, tree=tree):
            kind, bounds, threshold = tree["decision_type"][node], tree["cat_boundaries"], tree["threshold"][node]
            x = x[tree["split_feature"][node]]
            if kind & 1:
                if np.isnan(x) or not -1 < x < 2**31:
                    return False
                number = int(threshold)
                set_words = tree["cat_threshold"][bounds[number] : bounds[number + 1]]
                return int(x) < 32 * len(set_words) and bool(set_words[int(x) // 32] >> int(x) % 32 & 1)
            missing = ("none", "zero", "nan")[kind >> 2]
            x = 0.0 if abs(x) <= near_zero or (np.isnan(x) and missing != "nan") else x
            if (missing == "zero" and x == 0.0) or (missing == "nan" and np.isnan(x)):
                return bool(kind & 2)
            return x <= threshold

        trees.append((tree, goes_left))
    return trees, int(fields["num_tree_per_iteration"])


def forest_predict(text: str, X: np.ndarray) -> np.ndarray:
    """Raw scores of a LightGBM model's text, [n] or [n, classes] float64, a row at a time."""
    trees, classes = forest_trees(text)
    out = np.zeros((len(X), classes))
    for number, (tree, goes_left) in enumerate(trees):
        for row, x in enumerate(np.asarray(X, np.float64)):
            node = 0 if len(tree["leaf_value"]) > 1 else -1
            while node >= 0:
                node = tree["left_child" if goes_left(x, node) else "right_child"][node]
            out[row, number % classes] += tree["leaf_value"][~node]
    return out if classes > 1 else out[:, 0]


def forest_explain(text: str, X: np.ndarray) -> np.ndarray:
    """[n, classes, width + 1] float64, by Shapley's own definition: over all sets of the features of a tree.

    What a tree is worth when some features are known: a split of another one is taken both ways, in the proportion of
    the rows of its children.
    """
    trees, classes = forest_trees(text)
    width = np.shape(X)[1]
    out = np.zeros((len(X), classes, width + 1))

    def worth(tree, goes_left, x, known, node):
        if node < 0:
            return tree["leaf_value"][~node]
        left, right = tree["left_child"][node], tree["right_child"][node]
        if tree["split_feature"][node] in known:
            return worth(tree, goes_left, x, known, left if goes_left(x, node) else right)
        share = (tree["leaf_count"][~left] if left < 0 else tree["internal_count"][left]) / tree["internal_count"][node]
        worths = [worth(tree, goes_left, x, known, child) for child in (left, right)]
        return share * worths[0] + (1 - share) * worths[1]

    for number, (tree, goes_left) in enumerate(trees):
        root = 0 if len(tree["leaf_value"]) > 1 else -1
        features = sorted(set(tree["split_feature"]))
        sets = [set(some) for size in range(len(features) + 1) for some in itertools.combinations(features, size)]
        for row, x in enumerate(np.asarray(X, np.float64)):
            worth_of = {frozenset(known): worth(tree, goes_left, x, known, root) for known in sets}
            to = out[row, number % classes]
            to[width] += worth_of[frozenset()]
            for known, feature in itertools.product(sets, features):
                if feature not in known:
                    orders = math.factorial(len(known)) * math.factorial(len(features) - len(known) - 1)
                    gain = worth_of[frozenset(known | {feature})] - worth_of[frozenset(known)]
                    to[feature] += orders / math.factorial(len(features)) * gain
    return out


def score_trees(trees, X, *, classes=1, base=None, single=False):
    """Raw scores [n] or [n, classes] float64 of imported trees, a row at a time.

    Numeric splits go left if x <= threshold; splits by category if x, cut to an integer, is in the set. Any other
    category goes right: also what is no integer of 32 bits. NaN goes as the split says. A sum begins at its `base`.
    """
    rounded = np.float32 if single else np.float64
    out = np.zeros((len(X), classes))

    def goes_right(tree, split, x):
        if np.isnan(x):
            return tree.nan_right[split]
        if split in tree.sets:
            return not (-1 < x < 2**31 and int(x) in tree.sets[split])
        return not x <= tree.threshold[split]

    for row, x in enumerate(np.asarray(X, np.float64)):
        sums = [rounded(each) for each in (base if base is not None else [0.0] * classes)]
        for number, tree in enumerate(trees):
            node = 0 if len(tree.feature) else -1
            while node >= 0:
                node = (tree.right if goes_right(tree, node, x[tree.feature[node]]) else tree.left)[node]
            sums[number % classes] += rounded(tree.value[~node])
        out[row] = sums
    return out if classes > 1 else out[:, 0]


# --- index -----------------------------------------------------------------------------------------------------------


def prepared(vectors: np.ndarray, metric: str) -> np.ndarray:
    """[n, dim] float32, each divided by its length under cosine; squares summed in float64, in order."""
    if metric != "cosine":
        return vectors
    length = np.sqrt(np.cumsum(vectors.astype(np.float64) ** 2, axis=1)[:, -1:])
    return (vectors / length).astype(np.float32)


def nearest(
    vectors: np.ndarray, query: np.ndarray, k: int, metric: str, allow: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest rows, best first, equal scores by smaller row: rows int32 and scores float32, to the last bit.

    Lane i is added to partial sum i mod 16, in the order of i; 16 sums fold to 8 (i and i + 8), 4, 2, 1.
    """
    count = len(vectors)
    stored, asked = prepared(vectors, metric), prepared(query[None], metric)
    sums = folded((asked - stored) ** 2 if metric == "l2" else asked * stored)
    score = (-sums if metric == "l2" else sums) + np.float32(0)
    rows = np.arange(count, dtype=np.int32) if allow is None else np.flatnonzero(allow).astype(np.int32)
    rows = rows[np.lexsort((rows, -score[rows]))][:k]
    return rows, score[rows]


def folded(terms: np.ndarray) -> np.ndarray:
    """Sums of float32 terms [n, dims]: lane i to partial sum i mod 16, in order; 16 sums fold to 8, 4, 2, 1."""
    sums = np.zeros((len(terms), 16), np.float32)
    for lane in range(terms.shape[1]):
        sums[:, lane % 16] += terms[:, lane]
    for half in (8, 4, 2, 1):
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


def query_codes(query: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """A query in 127ths of its largest lane, and what one of them is worth."""
    unit = np.abs(query).max() / np.float32(127)
    codes = np.rint(query / unit) if unit > 0 else np.zeros_like(query)
    return np.clip(codes, -127, 127).astype(np.int64), unit


def block_codes(blocks: np.ndarray, bits: int) -> np.ndarray:
    """Codes [16 blocks, dims] of blocks [blocks, lines, 16 lanes, 4 dims], one by one: 8 bits from -128 on, or 0 to 15.

    A line of 4 bits holds two fours of dims: the low halves of its bytes, then the high ones.
    """
    count, lines = blocks.shape[:2]
    codes = np.zeros((16 * count, 4 * lines * 8 // bits), np.int64)
    for block, line, lane, dim in np.ndindex(blocks.shape):
        byte, row = int(blocks[block, line, lane, dim]), 16 * block + lane
        if bits == 8:
            codes[row, 4 * line + dim] = byte - 128
        else:
            codes[row, 8 * line + dim] = byte & 15
            codes[row, 8 * line + 4 + dim] = byte >> 4
    return codes


def plane_words(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Rows in two planes of int8 as numbers of 16 bits."""
    return 256 * high.astype(np.int64) + low


def nearest_by_planes(query, words, scale, base=None, square=None):
    """Scores, to the last bit, of rows of 16 bits [n, dims] with a scale (each); `square`: by squared distance.

    A score is the dot times the scale of its row, plus `base`, which for squared distances holds twice the product with
    what the row is a difference from.
    """
    wide = np.zeros(words.shape[1], np.float32)
    wide[: len(query)] = query
    twice = np.float32(1 if square is None else 2)
    score = folded(wide * words.astype(np.float32)) * (twice * np.asarray(scale, np.float32) / np.float32(256))
    if base is not None:
        score = score + base
    if square is not None:
        score = np.minimum(score - square - np.cumsum(wide * wide, dtype=np.float32)[-1], np.float32(0))
    return score + np.float32(0)


# idmap, recall, filter


def find(ids, id):
    """Row of `id` in the list `ids`, or -1."""
    return ids.index(id) if id in ids else -1


def add(candidates, rows, scores, source, candidates_max):
    """`candidates`, a list of (row, source, score), with those of `rows` that are new, while there is room."""
    for row, score in zip(rows, scores, strict=True):
        if len(candidates) < candidates_max and row not in [candidate[0] for candidate in candidates]:
            candidates.append((int(row), source, float(score)))
    return candidates


def similar_sums(offset, neighbour, weight, history):
    """Row -> sum of the weights from the rows of `history` to it, added in that order in double."""
    sums = {}
    for row in history:
        for at in range(offset[row], offset[row + 1]):
            sums[int(neighbour[at])] = sums.get(int(neighbour[at]), 0.0) + float(weight[at])
    return sums


def most_similar(offset, neighbour, weight, history, k):
    """The `k` largest of `similar_sums` as (row, sum), best first; equal sums by lower row."""
    sums = similar_sums(offset, neighbour, weight, history)
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:k]


def drop_exposed(rows, exposed):
    return [int(row) for row in rows if row not in set(exposed.tolist())]


def keep_allowed(rows, allowed):
    return [int(row) for row in rows if allowed[row]]


# features


def cross_dot(users, items, user, item):
    if user < 0:
        return np.float32(np.nan)
    total = 0.0
    for left, right in zip(users[user].tolist(), items[item].tolist(), strict=True):
        total += left * right
    return np.float32(total)


def cross_cell(values, user_group, item_group, user, item):
    if user < 0:
        return np.float32(np.nan)
    line = user if user_group is None else user_group[user]
    column = item if item_group is None else item_group[item]
    return np.float32(np.nan) if line < 0 or column < 0 else values[line, column]


def cross_similarity(offset, neighbour, weight, history, item, newest=0):
    """Over the whole history the sum; over the newest of it the mean."""
    if len(history) == 0:
        return np.float32(np.nan)
    used = history[-newest:]
    return np.float32(similar_sums(offset, neighbour, weight, used).get(int(item), 0.0) / (len(used) if newest else 1))


# rerank


def top_k(score, row, size):
    return np.lexsort((row, -np.nan_to_num(score, nan=-np.inf, posinf=np.inf, neginf=-np.inf)))[:size]


# checksum


def crc32c(data, seed=0):
    """Bit by bit: the reflected Castagnoli polynomial, starting and ending inverted."""
    crc = seed ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def read_segment(data: bytes) -> list[tuple[int, int, bytes]]:
    """Records of one undamaged segment file as (ring_id, position, payload), by the format and nothing else.

    File header 64 bytes; blocks of an 80-byte header (magic PBLK, ring_id at 16, first position at 24, stored bytes at
    48) and the ring's bytes; a 64-byte footer (magic PFOT). A record: word (position ^ ring_id | 2), size, checksum,
    payload, padded to 16.
    """
    records, at = [], 64
    while data[at : at + 4] == b"PBLK":
        ring_id, position = struct.unpack_from("<QQ", data, at + 16)
        (stored,) = struct.unpack_from("<I", data, at + 48)
        at += 80
        end = at + stored
        while at < end:
            word, size = struct.unpack_from("<QI", data, at)
            assert word == (position ^ ring_id) | 2
            records.append((ring_id, position, data[at + 16 : at + 16 + size]))
            taken = 16 + -(-size // 16) * 16
            at, position = at + taken, position + taken
    assert data[at : at + 4] == b"PFOT" and len(data) == at + 64
    return records


def aggregate(keys, times, values, at_keys, at_times, window=0.0, half_life=0.0):
    """(number, sum, last) of the events of each key strictly before each time."""
    number, total, last = [], [], []
    for key, time in zip(at_keys, at_times, strict=True):
        past = (keys == key) & (times < time)
        last.append(times[past].max() if past.any() else np.nan)
        if window:
            past &= times >= time - window
        weight = np.exp2((times[past] - time) / half_life) if half_life else np.ones(past.sum())
        number.append(weight.sum())
        total.append((weight * values[past]).sum())
    return np.array(number), np.array(total), np.array(last)


# what is known before a time: (user, item, time in days) events, in order of time


def counted(events, fits, time, half_life=0.0):
    """How many earlier events fit, each halved every `half_life` days."""
    past = [day for user, item, day in events if day < time and fits(user, item)]
    return sum(0.5 ** ((time - day) / half_life) if half_life else 1.0 for day in past)


def share(events, fits, time, half_life=0.0):
    total = counted(events, lambda user, item: True, time, half_life)
    return counted(events, fits, time, half_life) / total if total else np.nan


def lift(events, group_of, group, item, time, prior, half_life=0.0):
    """The study's words: (C[g,i] + prior q_i) / (N_g + prior) / q_i."""
    total = counted(events, lambda user, other: True, time, half_life)
    if not total:
        return np.nan
    usual = (counted(events, lambda user, other: other == item, time, half_life) + 1e-3) / total
    both = counted(events, lambda user, other: group_of[user] == group and other == item, time, half_life)
    mine = counted(events, lambda user, other: group_of[user] == group, time, half_life)
    return (both + prior * usual) / (mine + prior) / usual


def sequence(events, items, lag, decay, directed, shrink, popularity):
    """[items, items]: what is chosen up to `lag` places after what, pair by pair."""
    table = np.zeros((items, items))
    for user in {user for user, _, _ in events}:
        mine = [item for who, item, _ in events if who == user]
        for place, one in enumerate(mine):
            for distance, other in enumerate(mine[place + 1 : place + 1 + lag], start=1):
                table[one, other] += distance**-decay
                if not directed:
                    table[other, one] += distance**-decay
    chosen = np.array([sum(item == one for _, item, _ in events) for one in range(items)]) + shrink
    return table / chosen[:, None] / chosen[None, :] ** popularity


def join(into, other, candidates_max):
    """`into` and `other` are lists of (item, whatever); `other` in its order. Returns the joined list and, of each of
    `other`, where its item lies in it: -1 where there was no room."""
    joined, place = list(into), {}
    for slot, (item, _) in enumerate(into):
        place.setdefault(item, slot)
    targets = []
    for entry in other:
        if entry[0] not in place and len(joined) < candidates_max:
            place[entry[0]] = len(joined)
            joined.append(entry)
        targets.append(place.get(entry[0], -1))
    return joined, targets
