"""What is known before a time: neighbours in sequences, profiles, and candidates by the newest of a history."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("pyarrow")

from pairec_fast.binding import Binding
from pairec_fast.build import build
from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.learn.derive import Known
from pairec_fast.query import Query
from pairec_fast.recall.hnsw import HnswConf, HnswRecall
from pairec_fast.recall.kind import UserItemDao
from pairec_fast.recall.similar import UserCollaborativeFilterRecall
from pairec_fast.snapshot import Snapshot
from tests import reference
from tests.positives import random_events, write_world

USERS, ITEMS = 8, 12


def dense(table, items=ITEMS):
    offset, neighbour, weight = table
    out = np.zeros((items, items))
    out[np.repeat(np.arange(items), np.diff(offset)), neighbour] = weight
    return out


def sequence(folder, events, **fields):
    spec = {"name": "seq", "method": "sequence", "count": 100, **fields}
    world, sources = write_world(folder, events, USERS, ITEMS, neighbours=[spec])
    return Known(world, folder, sources, np.inf).neighbours_of("seq")


def test_sequence_by_hand(tmp_path):
    """User 0 goes 0, 1, 2; user 1 goes 1, 0. Directed, lag 2, weight 1 / place, shrink 1, popularity left alone."""
    events = [(0, 0, 1.0), (1, 1, 1.5), (0, 1, 2.0), (0, 2, 3.0), (1, 0, 3.5)]
    fields = {"lag": 2, "decay": 1.0, "shrink": 1.0, "popularity": 0.0}
    table = dense(sequence(tmp_path, events, directed=True, **fields))
    np.testing.assert_allclose(table[:3, :3], np.array([[0, 1, 0.5], [1, 0, 1], [0, 0, 0]]) / [[3], [3], [2]])
    table = dense(sequence(tmp_path, events, directed=False, **fields))
    np.testing.assert_allclose(table[:3, :3], np.array([[0, 2, 0.5], [2, 0, 1], [0.5, 1, 0]]) / [[3], [3], [2]])


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("lag", "decay", "popularity"), [(1, 1.0, 0.0), (5, 0.5, 0.5), (1000, 0.0, 1.0)])
def test_sequence_agrees_with_reference(tmp_path, directed, lag, decay, popularity):
    """An item chosen twice in a row is its own follower: the diagonal is left out."""
    events = random_events(1, USERS, ITEMS, 150)
    table = sequence(tmp_path, events, lag=lag, decay=decay, directed=directed, popularity=popularity)
    expected = reference.sequence(events, ITEMS, lag, decay, directed, 5.0, popularity)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(dense(table), expected, rtol=1e-6)


def test_neighbours_are_cut_after_the_best(tmp_path):
    events = random_events(1, USERS, ITEMS, 150)
    whole, cut = sequence(tmp_path, events), sequence(tmp_path, events, count=3)
    for item in range(ITEMS):
        begin, end = whole[0][item : item + 2]
        np.testing.assert_array_equal(cut[1][cut[0][item] : cut[0][item + 1]], whole[1][begin:end][:3])
        assert (np.diff(whole[2][begin:end]) <= 0).all()


def test_a_history_keeps_its_order_whatever_is_made_of_it(tmp_path):
    """The matrix of who chose what sorts its columns; the history it is made from goes by time."""
    world, sources = write_world(tmp_path, [(0, 5, 1.0), (0, 2, 2.0), (0, 9, 3.0), (0, 1, 4.0)], USERS, ITEMS)
    known = Known(world, tmp_path, sources, np.inf)
    assert known.history[1].tolist() == [5, 2, 9, 1]
    assert known.matrix.indices.tolist() == [1, 2, 5, 9]
    assert known.history[1].tolist() == [5, 2, 9, 1]


@pytest.mark.parametrize("count", [3, 11, 12, 100])
def test_ease_is_cut_after_the_best_and_never_names_itself(tmp_path, count):
    spec = {"name": "ease", "method": "ease", "count": count, "regularization": 2.0}
    world, sources = write_world(tmp_path, random_events(2, USERS, ITEMS, 60), USERS, ITEMS, neighbours=[spec])
    known = Known(world, tmp_path, sources, np.inf)
    chosen = known.matrix.toarray().astype(float)
    inverse = np.linalg.inv(chosen.T @ chosen + 2.0 * np.eye(ITEMS))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, -np.inf)
    offset, neighbour, weight = known.neighbours_of("ease")
    for item in range(ITEMS):
        best = np.sort(expected[item])[::-1][: min(count, ITEMS - 1)]
        np.testing.assert_allclose(weight[offset[item] : offset[item + 1]], best, rtol=1e-5, atol=1e-7)
        assert item not in neighbour[offset[item] : offset[item + 1]]


def test_a_profile_is_the_mean_of_what_was_chosen_against_everybodys(tmp_path):
    """User 0 chose items 1 and 3, genres (1,0,0) and (1/2,1/2,0); user 1 item 2, genre (0,1,0); the others nothing."""
    spec = {"name": "genre", "method": "profile", "column": "genres", "kind": "none"}
    events = [(0, 1, 1.0), (1, 2, 1.0), (0, 3, 2.0)]
    world, sources = write_world(tmp_path, events, USERS, ITEMS, vectors=[spec])
    users, items = Known(world, tmp_path, sources, np.inf).vectors_of("genre")
    np.testing.assert_array_equal(items[[0, 1, 3]], np.float32([[0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]))
    np.testing.assert_allclose(users[:3], [[0.75 / 0.375, 0.25 / 0.625, 0], [0, 1 / 0.625, 0], [0, 0, 0]], rtol=1e-6)


def test_a_profile_needs_a_vector_column(tmp_path):
    spec = {"name": "genre", "method": "profile", "column": "title", "kind": "none"}
    world, sources = write_world(tmp_path, [(0, 1, 1.0)], USERS, ITEMS, vectors=[spec])
    with pytest.raises(ConfigError, match='no vector column "title"; it has genres'):
        Known(world, tmp_path, sources, np.inf).vectors_of("genre")
    for wrong in ({"method": "profile"}, {"method": "als", "column": "genres"}):
        with pytest.raises(ConfigError, match=r"vectors\.genre\.column"):
            write_world(tmp_path, [(0, 1, 1.0)], USERS, ITEMS, vectors=[{"name": "genre", **wrong}])


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    sections = {
        "vectors": [{"name": "genre", "method": "profile", "column": "genres", "kind": "none"}],
        "neighbours": [{"name": "seq", "method": "sequence", "count": 100}],
    }
    write_world(folder, random_events(5, USERS, ITEMS, 80), USERS, ITEMS, **sections)
    (folder / "world.toml").write_text(
        'items = { file = "items.parquet", id = "item_id" }\nusers = { file = "users.parquet", id = "user_id" }\n'
        'interactions = { file = "events.parquet" }\n'
        'vectors = [{ name = "genre", method = "profile", column = "genres", kind = "none" }]\n'
        'neighbours = [{ name = "seq", method = "sequence", count = 100 }]\n'
    )
    return Snapshot.load(build(folder / "world.toml", folder / "snapshots"))


def test_vectors_without_an_index_are_not_searched(snapshot):
    assert snapshot.vectors["genre"].index is None
    with pytest.raises(ConfigError, match=r'RecallConfs\.near\.HnswConf\.Index: "genre" has kind = "none"'):
        HnswRecall("near", HnswConf("genre")).bind(Binding(snapshot))


@pytest.mark.parametrize("newest", [0, 1, 3, 1000])
def test_trigger_count_recalls_by_the_newest_of_the_history(snapshot, newest):
    dao = UserItemDao("local", user2_item_table="history", item2_item_table="seq")
    recall = UserCollaborativeFilterRecall(
        name="similar", user_collaborative_dao_conf=dao, recall_count=5, trigger_count=newest
    ).bind(Binding(snapshot))
    arena = Arena(100, items_max=ITEMS)
    query = Query(snapshot, "u1", 5, {}, history_max=1000)
    assert len(query.history) > 3
    recall(query, arena)
    table = snapshot.neighbours["seq"]
    expected = reference.most_similar(table.offset, table.neighbour, table.weight, query.history[-newest:], 5)
    assert arena.row[: arena.count].tolist() == [row for row, _ in expected]


def test_a_negative_trigger_count_is_refused(snapshot):
    dao = UserItemDao("local", user2_item_table="history", item2_item_table="seq")
    with pytest.raises(ConfigError, match=r"RecallConfs\.similar\.TriggerCount must not be negative, got -1"):
        UserCollaborativeFilterRecall(
            name="similar", user_collaborative_dao_conf=dao, recall_count=5, trigger_count=-1
        ).bind(Binding(snapshot))
