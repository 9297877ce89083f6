"""The quality figures of `bench.movielens`, by hand: a wrong measure would look like a good recommender."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("pyarrow")

from bench.movielens import ITEMS, SIZE, USERS, Judge, Ratings, cut


def ratings(*rows):
    user, item, time = (np.array(column) for column in zip(*rows, strict=True))
    return Ratings(user, item, time.astype(float), np.ones(len(user)))


def test_ndcg_and_hit_by_hand():
    """User 3 holds out films 7 and 9; one is shown second, the other never. User 5 gets fewer than 20, all wrong."""
    judge = Judge(ratings((3, 1, 0)), ratings((3, 7, 1), (3, 9, 2), (5, 2, 1)))
    top = np.full((2, SIZE), -1)
    top[0, :3], top[1, :1] = [8, 7, 6], [4]
    ndcg, hit = judge.figures(top)
    np.testing.assert_allclose(ndcg, [(1 / np.log2(3)) / (1 + 1 / np.log2(3)), 0])
    assert hit.tolist() == [1, 0]
    assert judge.known.tolist() == [True, False]


def test_what_was_seen_is_not_shown_again_and_ties_go_by_film():
    judge = Judge(ratings((3, 0, 0), (3, 2, 0)), ratings((3, 7, 1), (5, 2, 1)))
    top = judge.top(np.zeros(ITEMS))
    assert top[0, :3].tolist() == [1, 3, 4] and top[1, :3].tolist() == [0, 1, 2]


def test_splits_hold_out_the_later_part():
    rng = np.random.default_rng(0)
    time = np.sort(rng.permutation(5000)).astype(float)
    whole = Ratings(rng.integers(0, 40, 5000), rng.integers(0, ITEMS, 5000), time, np.ones(5000))
    for split in ("user", "global"):
        train, held = cut(split, whole)
        assert len(train) + len(held) == 5000
    assert train.time.max() < held.time.min() and len(held) == 1000
    train, held = cut("user", whole)
    for user in range(40):
        mine = train.time[train.user == user], held.time[held.user == user]
        assert mine[0].max() < mine[1].min()
        assert len(mine[1]) == (len(mine[0]) + len(mine[1])) // 5
    assert train.popularity().sum() == len(train) and train.matrix().shape == (USERS, ITEMS)
