"""Damage a model's text at random: it is refused with a SnapshotError, or it is scored as the slow twin scores it.

`python -m tests.faults.forest --times 100000`; worth the most in a build with PAIREC_SANITIZE=address,undefined.
"""

from __future__ import annotations

import argparse
from collections import Counter

import lightgbm as lgb
import numpy as np

from pairec_fast.core.forest import Forest
from pairec_fast.errors import SnapshotError
from tests import reference

NASTY = ["", "-1", "0", "1", "2147483647", "-2147483648", "2000000000", "99999999999999999999", "nan", "-inf", "1e999"]
NASTY += ["0.5", "0x10", "+1", "-0", "1e-320", "4294967295", "=", "\0", "\xff", "Tree=1", "end of trees", "\r", " "]


def model_texts() -> list[str]:
    """A small forest with categories and missing values; as it is, without its sizes, and of three classes."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(400, 4))
    X[:, 0] = rng.integers(0, 70, 400)
    X[rng.random(X.shape) < 0.1] = np.nan
    params = {"num_leaves": 6, "verbose": -1, "num_threads": 1, "min_data_per_group": 5, "cat_smooth": 1}
    y = (X[:, 0] % 3 == 1) + np.nan_to_num(X[:, 1])
    one = lgb.train(params, lgb.Dataset(X, y, categorical_feature=[0]), 3).model_to_string()
    params |= {"objective": "multiclass", "num_class": 3}
    three = lgb.train(params, lgb.Dataset(X, np.arange(400) % 3, categorical_feature=[0]), 1).model_to_string()
    texts = [text.split("\nfeature_importances:")[0] for text in (one, three)]
    unsized = ["\n".join(line for line in text.split("\n") if not line.startswith("tree_sizes")) for text in texts]
    return texts + unsized


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


def run(times: int, seed: int = 0) -> Counter:
    """Damage texts `times` times; count what was refused and what was scored."""
    rng = np.random.default_rng(seed)
    texts = model_texts()
    values = rng.normal(size=(9, 4)) * rng.choice([1, 30, 1e-36, np.nan, np.inf], (9, 4), p=[0.5, 0.3, 0.05, 0.1, 0.05])
    seen = Counter()
    for _ in range(times):
        text = texts[rng.integers(len(texts))]
        for _ in range(rng.integers(1, 4)):
            text = damaged(text, rng)
        try:
            forest = Forest.parse(text.encode("latin-1"))
        except SnapshotError as error:
            assert "line " in str(error) or "codec" in str(error), error
            seen["refused"] += 1
            continue
        seen["scored"] += 1
        X = np.resize(values, (9, forest.width))
        with np.errstate(invalid="ignore"):
            expected = reference.forest_predict(text, X)
        for rows in (slice(1), slice(9), np.arange(72) % 9):  # one row walks the trees, many are scored by labels
            np.testing.assert_array_equal(forest.predict(X[rows]), expected[rows], err_msg=text)
    return seen


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(dict(run(arguments.times, arguments.seed)))
