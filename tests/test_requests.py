"""Training on positives alone: what is asked, what is recalled, and that nothing of the future is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("lightgbm")
pytest.importorskip("pyarrow")

from pairec_fast.binding import Binding
from pairec_fast.build import build
from pairec_fast.core import Arena, Crosses
from pairec_fast.errors import ConfigError
from pairec_fast.features import FeaturePlan
from pairec_fast.learn.ranker import train_ranker
from pairec_fast.learn.requests import Moment, ask, moments
from pairec_fast.query import Query
from pairec_fast.recall.hot import UserGlobalHotRecall
from pairec_fast.recall.kind import Dao, UserItemDao
from pairec_fast.recall.similar import UserCollaborativeFilterRecall
from pairec_fast.snapshot import Snapshot
from tests.positives import DAY, random_events, write_world

USERS, ITEMS = 12, 100
FEATURES = [
    {"name": "share", "source": "aggregate:share"},
    {"name": "lift", "source": "aggregate:lift"},
    {"name": "next_3", "source": "similarity:seq:3"},
    {"name": "genre", "source": "dot:genre"},
]
SECTIONS = {
    "vectors": [{"name": "genre", "method": "profile", "column": "genres", "kind": "none"}],
    "neighbours": [{"name": "seq", "method": "sequence", "count": 100}],
    "lists": [{"name": "hot", "count": 30}, {"name": "group_hot", "by": "gender", "count": 20}],
    "aggregates": [
        {"name": "share", "function": "share", "by": ["item"], "half_life_days": 7},
        {"name": "lift", "function": "lift", "by": ["user.gender", "item"], "prior": 10},
    ],
}
MODEL = {
    "name": "ranker", "features": FEATURES, "rounds": 3, "candidates": {"seq:3": 25, "hot": 20},
    "params": {"min_data_in_leaf": 2, "num_leaves": 4},
}  # fmt: skip


def world_of(folder, seed=1, events=None, **model):
    events = random_events(seed, USERS, ITEMS, 300) if events is None else events
    world, sources = write_world(folder, events, USERS, ITEMS, models=[{**MODEL, **model}], **SECTIONS)
    return world, sources, world.models[0]


def moment_of(folder, world, sources, spec, place=-1):
    return Moment(world, folder, sources, spec, *moments(sources, spec)[place])


def test_cutoffs_split_the_time_and_late_ones_are_left_out(tmp_path):
    """Over 40 days the quantile .99 is less than five days before the end."""
    _, sources, spec = world_of(tmp_path, cutoffs=[0.5, 0.25, 0.99], horizon_days=10)
    cuts = moments(sources, spec)
    assert len(cuts) == 2, "and the others stand in order of time"
    for (past, next_), share in zip(cuts, (0.25, 0.5), strict=True):
        assert abs(len(past) / 300 - share) < 0.01
        time = sources.events.time
        assert time[past].max() < time[next_].min()
        assert time[next_].max() <= np.quantile(time, share) + 10 * DAY
        assert len(np.intersect1d(past, next_)) == 0


def test_all_cutoffs_too_late_is_refused(tmp_path):
    _, sources, spec = world_of(tmp_path, cutoffs=[0.99])
    with pytest.raises(ConfigError, match=r"models\.ranker\.cutoffs: none is 5 days before the last interaction"):
        moments(sources, spec)


def test_hold_last_takes_the_last_of_each_user_rounded_down(tmp_path):
    """Users with 1 to 12 events keep all but floor(n / 5); ties in time go by the order of the file."""
    events = sorted(((user, n % 5, 1.0 + n // 2) for user in range(USERS) for n in range(user + 1)), key=lambda e: e[2])
    _, sources, spec = world_of(tmp_path, events=events, hold_last=0.2)
    ((past, next_),) = moments(sources, spec)
    held = np.bincount(sources.events.user[next_], minlength=USERS)
    assert held.tolist() == [(user + 1) // 5 for user in range(USERS)]
    for user in range(USERS):
        mine = np.flatnonzero(sources.events.user == user)
        np.testing.assert_array_equal(np.intersect1d(mine, next_), mine[len(mine) - held[user] :])
    assert len(past) + len(next_) == len(events)


@pytest.mark.parametrize("cut", [{"cutoffs": [0.3, 0.6]}, {"hold_last": 0.25}])
def test_rows_do_not_change_when_the_future_does(tmp_path, cut):
    """What comes after a cutoff may change labels, never a candidate or a feature."""
    events = random_events(3, USERS, ITEMS, 300)
    (tmp_path / "a").mkdir()
    world, sources, spec = world_of(tmp_path / "a", events=events, **cut)
    past, next_ = moments(sources, spec)[0]
    moment = Moment(world, tmp_path / "a", sources, spec, past, next_)
    users = np.arange(USERS, dtype=np.int32)
    sources.events.item[next_] = 7  # the same events, other films
    other = ask(Moment(world, tmp_path / "a", sources, spec, past, next_), users)
    first = ask(moment, users)
    np.testing.assert_array_equal(first.x.view(np.uint32), other.x.view(np.uint32))
    assert (first.label != other.label).any()


def test_labels_are_what_was_chosen_next_and_misses_are_counted(tmp_path):
    world, sources, spec = world_of(tmp_path, cutoffs=[0.5])
    past, next_ = moments(sources, spec)[0]
    moment = Moment(world, tmp_path, sources, spec, past, next_)
    users = np.arange(USERS, dtype=np.int32)
    requests = ask(moment, users)
    events, begin = sources.events, 0
    for user, size, missed in zip(users, requests.sizes, requests.missed, strict=True):
        seen = set(events.item[past][events.user[past] == user].tolist())
        after = set(events.item[next_][events.user[next_] == user].tolist()) - seen
        rows = moment.recalled.of(int(user))
        assert not seen & set(rows.tolist()), "what was chosen is not brought again"
        hit = requests.label[begin : begin + size] > 0
        assert set(rows[hit].tolist()) == after & set(rows.tolist())
        assert missed == len(after - set(rows.tolist()))
        begin += size
    assert begin == len(requests.label) == len(requests.x)


def test_thinning_keeps_every_positive_and_drops_requests_without_one(tmp_path):
    world, sources, spec = world_of(tmp_path, cutoffs=[0.5])
    moment = moment_of(tmp_path, world, sources, spec)
    users = np.arange(USERS, dtype=np.int32)
    whole = ask(moment, users)
    early = ask(moment, users, 0.3, np.random.default_rng(0))
    late = whole.thinned(0.3, np.random.default_rng(0))
    for name in ("x", "label", "sizes", "missed", "popular", "recent"):
        np.testing.assert_array_equal(getattr(early, name), getattr(late, name))
    assert late.label.sum() == whole.label.sum() and len(late.label) < len(whole.label)
    positives = np.add.reduceat(late.label, np.cumsum(late.sizes) - late.sizes)
    assert (positives > 0).all() and late.sizes.sum() == len(late.label)


def test_candidates_and_features_are_those_the_engine_would_serve(tmp_path):
    """A snapshot built from the events before a cutoff recalls the same rows and assembles the same bits."""
    world, sources, spec = world_of(tmp_path, cutoffs=[0.5])
    past, next_ = moments(sources, spec)[0]
    moment = Moment(world, tmp_path, sources, spec, past, next_)
    events = random_events(1, USERS, ITEMS, 300)
    before = tmp_path / "before"
    before.mkdir()
    write_world(before, [events[place] for place in past], USERS, ITEMS)
    (before / "world.toml").write_text(TOML)
    snapshot = Snapshot.load(build(before / "world.toml", before / "snapshots"))
    plan = FeaturePlan.of_model(snapshot, "ranker")
    dao = UserItemDao("local", user2_item_table="history", item2_item_table="seq")
    similar = UserCollaborativeFilterRecall(
        name="similar", user_collaborative_dao_conf=dao, recall_count=25, trigger_count=3
    )
    hot = UserGlobalHotRecall(name="hot", dao_conf=Dao("local", table_name="hot"), recall_count=20)
    recalls = [similar.bind(Binding(snapshot)), hot.bind(Binding(snapshot, source=1))]
    for user in range(USERS):
        arena = Arena(100, items_max=ITEMS, width=plan.width)
        query = Query(snapshot, f"u{user}", 5, {}, history_max=1000)
        for recall in recalls:
            recall(query, arena)
        seen = snapshot.history.of(user)
        rows = [row for row in arena.row[: arena.count].tolist() if row not in seen]
        trained = ask(moment, np.array([user], np.int32))
        assert moment.recalled.of(user).tolist() == rows
        arena.reset()
        arena.count = len(rows)
        arena.row[: len(rows)] = rows
        Crosses(plan.cross).fill(arena, query.user, query.history)
        cross = arena.features[: len(rows), [place for place, _ in plan.cross]]
        served = plan.matrix(query, np.array(rows, np.int32), cross)
        np.testing.assert_array_equal(np.ascontiguousarray(served).view(np.uint32), trained.x.view(np.uint32))


TOML = """
items = { file = "items.parquet", id = "item_id" }
users = { file = "users.parquet", id = "user_id" }
interactions = { file = "events.parquet" }
vectors = [{ name = "genre", method = "profile", column = "genres", kind = "none" }]
neighbours = [{ name = "seq", method = "sequence", count = 100 }]
lists = [{ name = "hot", count = 30 }, { name = "group_hot", by = "gender", count = 20 }]
[[aggregates]]
name = "share"
function = "share"
by = ["item"]
half_life_days = 7
[[aggregates]]
name = "lift"
function = "lift"
by = ["user.gender", "item"]
prior = 10
[[models]]
name = "ranker"
rounds = 3
hold_last = 0.2
candidates = { "seq:3" = 25, hot = 20 }
params = { min_data_in_leaf = 2, num_leaves = 4 }
features = [
  { name = "share", source = "aggregate:share" },
  { name = "lift", source = "aggregate:lift" },
  { name = "next_3", source = "similarity:seq:3" },
  { name = "genre", source = "dot:genre" },
]
"""


@pytest.mark.parametrize("cut", [{"cutoffs": [0.3, 0.6]}, {"cutoffs": [0.5]}, {"hold_last": 0.25}])
@pytest.mark.parametrize("objective", ["lambdarank", "binary"])
def test_a_ranker_is_trained_and_says_how_good_it_is(tmp_path, cut, objective):
    world, sources, spec = world_of(tmp_path, objective=objective, **cut)
    rankers = [train_ranker(world, tmp_path, sources, spec) for _ in range(2)]
    assert rankers[0].text == rankers[1].text, "the same world gives the same model"
    assert "3 trees" in rankers[0].report and "NDCG@20 0." in rankers[0].report
    assert "num_leaves=5" not in rankers[0].text


@pytest.mark.parametrize("users", [1, 2])
def test_too_few_to_train_and_to_measure_on_are_refused(tmp_path, users):
    """One who asks is measured, so nobody is left to train on; of users with one event each, none asks."""
    events = [(user, item, 1.0 + item) for user in range(users) for item in range(5 if users == 1 else 1)]
    world, sources, spec = world_of(tmp_path, events=events, hold_last=0.2)
    with pytest.raises(ConfigError, match=r"models\.ranker: no request to train on"):
        train_ranker(world, tmp_path, sources, spec)


@pytest.mark.parametrize("candidates", [{"group_hot": 15}, {"genre": 25}, {"seq": 25}])
def test_every_kind_of_source_brings_candidates(tmp_path, candidates):
    world, sources, spec = world_of(tmp_path, cutoffs=[0.5], candidates=candidates)
    moment = moment_of(tmp_path, world, sources, spec)
    assert max(len(moment.recalled.of(user)) for user in range(USERS)) > 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"cutoffs": [0.5], "hold_last": 0.2}, "cutoffs or hold_last"),
        ({}, "cutoffs or hold_last"),
        ({"cutoffs": [0.5], "candidates": {}}, "the model needs candidates"),
        ({"cutoffs": [0.5], "candidates": {"nothing": 3}}, '"nothing" is none of this world\'s'),
        ({"cutoffs": [0.5], "candidates": {"seq:0": 3}}, "how much of the history is used"),
        ({"cutoffs": [0.5], "params": {"num_leaves": 1}}, "LightGBM refuses"),
    ],
)
def test_what_cannot_train_a_ranker_is_said(tmp_path, model, message):
    with pytest.raises(ConfigError, match=message):
        world, sources, spec = world_of(tmp_path, **model)
        train_ranker(world, tmp_path, sources, spec)
