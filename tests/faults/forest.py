"""Damage a model's text at random: it is refused with a SnapshotError by line, or scored as the slow twin scores it.

    python -m tests.faults.forest --times 100000 [--seed 7] [--jobs 2] [--share 0.02]

The twin scores a share of what is accepted; of the rest, one row at a time must score as many rows do. Worth the most
under sanitizers, in a clone of its own since it leaves instrumented modules in place:

    PAIREC_SANITIZE=address,undefined python setup.py build_ext --inplace
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \\
        UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 python -m tests.faults.forest --times 1000000

Python itself leaks by design, hence no look for leaks; without the second library, C++ exceptions end the process.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import lightgbm as lgb
import numpy as np

from pairec_fast.core.forest import Forest
from pairec_fast.errors import SnapshotError
from tests import reference

NASTY = ["", "-1", "0", "1", "2147483647", "-2147483648", "2000000000", "99999999999999999999", "nan", "inf", "-inf"]
NASTY += ["1e999", "0.5", "0x10", "+1", "-0", "1e-320", "4294967295", "=", "\0", "\xff", "Tree=1", "end of trees", "\r"]
NASTY += [" ", "10000000000", "sqrt", "sigmoid:0", "num_class:3", "sigmoid:1e999", "custom", "binary", "\xc3\xa9", ":"]
FEATURES = 4
PIECE = 5_000  # a job's share of the times, with a seed of its own


@cache
def model_texts() -> list[str]:
    """Small forests of all the grammar there is, four of them again without their sizes.

    Categories, missing values, a class count, every form of objective, an average, leaves alone, linear leaves.
    """
    rng = np.random.default_rng(5)
    X = rng.normal(size=(400, FEATURES))
    X[:, 0] = rng.integers(0, 70, 400)
    X[rng.random(X.shape) < 0.1] = np.nan
    y = (X[:, 0] % 3 == 1) + np.nan_to_num(X[:, 1]) + 2 * np.isnan(X[:, 2])
    three = np.arange(400) % 3
    bagged = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
    kinds = [
        (y, 3, {}),
        (three, 1, {"objective": "multiclass", "num_class": 3}),
        (three, 2, {"objective": "multiclassova", "num_class": 3, "sigmoid": 0.7}),
        (y, 2, {"objective": "regression", "reg_sqrt": True, "zero_as_missing": True}),
        (y > 0.5, 2, {"objective": "binary", "sigmoid": 7.7063e-05, **bagged}),
        (y, 2, {"objective": "quantile", "min_data_in_leaf": 300}),
        (y, 2, {"linear_tree": True}),
    ]
    texts = []
    for target, trees, params in kinds:
        params = {"num_leaves": 6, "verbose": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1, **params}
        data = lgb.Dataset(X, target, categorical_feature=[0], free_raw_data=False)
        texts.append(lgb.train(params, data, trees).model_to_string().split("\nfeature_importances:")[0])
    texts.append(re.sub(r"objective=.*\n", "", texts[1]))
    unsized = [re.sub(r"tree_sizes=.*\n", "", text) for text in texts]
    return texts[:4] + unsized  # a changed size is refused at once: what lies behind is worth more of the time


def damaged(text: str, rng: np.random.Generator) -> str:
    """One wound: a byte, a span, a number, a line, or the end."""
    at = int(rng.integers(len(text) + 1))
    lines = text.split("\n")
    row = int(rng.integers(len(lines)))
    match rng.integers(7):
        case 0:
            return text[:at] + chr(rng.integers(256)) + text[at + 1 :]
        case 1:
            return text[:at] + text[at + int(rng.integers(1, 9)) :]
        case 2:
            return text[:at]
        case 3:
            lines.insert(int(rng.integers(len(lines))), lines[row])
        case 4:
            del lines[row]
        case _:
            name, equals, value = lines[row].partition("=")
            words = value.split(" ")
            word = int(rng.integers(len(words)))
            words[word] = words[int(rng.integers(len(words)))] if rng.random() < 0.3 else str(rng.choice(NASTY))
            if rng.random() < 0.3:
                words[word] = str(rng.integers(-8, 8))
            lines[row] = name + equals + " ".join(words)
    return "\n".join(lines)


def encoded(text: str, rng: np.random.Generator) -> bytes:
    """Its bytes; one in a thousand is no text of one byte a character."""
    data = text.encode("latin-1")
    if rng.random() > 0.001:
        return data
    return [gzip.compress(data), text.encode("utf-16"), data[::-1], bytes(len(data))][rng.integers(4)]


def piece(times: int, seed: tuple[int, int], share: float) -> Counter:
    """Damage texts `times` times; count what was refused, scored, and scored by the twin too."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(9, FEATURES)) * rng.choice(
        [1, 30, 1e-36, np.nan, np.inf], (9, FEATURES), p=[0.5, 0.3, 0.05, 0.1, 0.05]
    )
    texts = model_texts()
    seen: Counter = Counter(refused=0, scored=0, twin=0)
    for _ in range(times):
        text = texts[rng.integers(len(texts))]
        for _ in range(rng.integers(1, 4)):
            text = damaged(text, rng)
        try:
            forest = Forest.parse(encoded(text, rng))
        except SnapshotError as error:
            assert re.match(r"model text: line \d+: \S", str(error)), error
            seen["refused"] += 1
            continue
        seen["scored"] += 1
        X = np.resize(values, (9, forest.width))
        many = forest.predict(X[np.arange(72) % 9])
        found = forest.predict(X)
        with np.errstate(all="ignore"):
            assert forest.predict(X.astype(np.float32), raw_score=False).shape == found.shape
        single = np.concatenate([forest.predict(X[row : row + 1]) for row in range(9)])
        np.testing.assert_array_equal(found, single, err_msg=text)
        np.testing.assert_array_equal(many, found[np.arange(72) % 9], err_msg=text)
        if rng.random() < share:
            seen["twin"] += 1
            with np.errstate(invalid="ignore"):
                np.testing.assert_array_equal(found, reference.forest_predict(text, X), err_msg=text)
    return seen


def run(times: int, seed: int = 0, share: float = 1.0, jobs: int = 1, loud: bool = False) -> Counter:
    """Damage texts `times` times, in pieces that do not depend on `jobs`; print progress where `loud`."""
    pieces = [(min(PIECE, times - begin), (seed, begin), share) for begin in range(0, times, PIECE)]
    seen: Counter = Counter()
    began = time.monotonic()

    def add(part: Counter) -> None:
        seen.update(part)
        if loud:
            print(f"{dict(seen)} {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    if jobs == 1:
        for one in pieces:
            add(piece(*one))
        return seen
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(piece, *zip(*pieces, strict=True)):
            add(part)
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.02, help="of the accepted texts, scored by the slow twin")
    arguments = parser.parse_args()
    print(dict(run(arguments.times, arguments.seed, arguments.share, arguments.jobs, loud=True)))
