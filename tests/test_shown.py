"""Records of automatic callbacks, made natively: the bytes that `callback.encode` makes of the same properties."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from pairec_fast.callback import Record, encode
from pairec_fast.core import Arena, IdMap, Shown, build_slots, read_segments
from pairec_fast.core.rerank import set_order
from pairec_fast.messages import RecommendRequest
from pairec_fast.reply import shown_of
from pairec_fast.snapshot import Column, Texts
from tests.test_items import WHOLE
from tests.worlds import FIRST, own_snapshots

IDS = ["a", "", "ü" * 15, "x" * 31, "y" * 32, "z" * 300, "日本", "i7"]
WORDS = ["", "plain", "é", "w" * 31, "w" * 32, "w" * 255, "w" * 256, "w" * 70_000]
NUMBERS = {
    "i1": [-128, -33, -32, -1, 0, 1, 127, 5], "i2": [-32768, -129, 0, 128, 255, 256, 32767, 5],
    "i4": [-(2**31), -32769, 0, 65535, 65536, 2**31 - 1, 7, 5],
    "i8": [-(2**63), -(2**31) - 1, 0, 2**32, 2**63 - 1, 1, 2, 3],
    "u1": [0, 127, 128, 255, 1, 2, 3, 4], "u2": [0, 127, 128, 256, 65535, 1, 2, 3],
    "u4": [0, 65536, 2**32 - 1, 1, 2, 3, 4, 5], "u8": [0, 2**32, 2**63, 2**64 - 1, 1, 2, 3, 4],
    "f4": [0.1, np.nan, -0.0, np.inf, 1e-45, 3.4e38, 2.0, 0.5],
    "f8": [0.1, np.nan, -0.0, -np.inf, 5e-324, 1.7e308, 2.0, 0.5],
    "?": [True, False, True, True, False, False, True, False],
}  # fmt: skip


def vocabulary(texts):
    encoded = [text.encode() for text in texts]
    offset = np.concatenate([[0], np.cumsum([len(text) for text in encoded])]).astype(np.uint64)
    return np.frombuffer(b"".join(encoded), np.uint8), offset


def id_map(ids):
    text, offset = vocabulary(ids)
    return IdMap(text, offset, build_slots(text, offset))


def text_column(words, codes):
    return Column("text", np.array(codes, np.int32), Texts(*vocabulary(words)))


def stored(columns):
    return {name: (one.values, one.texts.stored if one.texts is not None else None) for name, one in columns.items()}


def shown(columns, outputs=(), ids=IDS):
    return Shown("scene", "finger", id_map(ids), stored(columns), outputs)


def arena_of(rows, scores=None, outputs=()):
    """An answer of `rows`, in an order that is not that of the slots."""
    count = len(rows)
    arena = Arena(max(count, 1), items_max=len(IDS) + 9, algos=max(1, len(outputs)))
    arena.count = count
    backwards = np.arange(count, dtype=np.int32)[::-1].copy()
    arena.row[:count] = np.array(rows, np.int32)[backwards]
    arena.score[:count] = (np.zeros(count) if scores is None else np.array(scores))[backwards]
    for algo, values in enumerate(outputs):
        arena.algo_score[algo, :count] = np.array(values)[backwards]
    set_order(arena, backwards)
    return arena


def expected(columns, rows, positions, scores, outputs, features=None):
    entries = []
    for position in positions:
        row, score = rows[position], scores[position]
        entry = {name: value for name, one in columns.items() if (value := one.value(row)) is not None}
        entry |= {"item_id": IDS[row], "score": score if abs(score) <= 1.7e308 else 0.0}
        entries.append(entry | {"algo_scores": {name: values[position] for name, values in outputs.items()}})
    return encode(Record("scene", "r", 7, "u", features or {}, {}, entries, "exp", "finger", list(positions)))


def made(columns, rows, positions, scores, outputs, features=None):
    names = list(outputs)
    taken = shown(columns, names).items(arena_of(rows, scores, list(outputs.values())), positions)
    return taken.record("r", "u", msgspec.msgpack.encode(features or {}), "exp", 7)


def every_column():
    columns = {f"of {kind}": Column("number", np.array(values, kind), None) for kind, values in NUMBERS.items()}
    return columns | {"word": text_column(WORDS, [3, -1, 0, 7, 1, 2, 4, 5]), "n" * 40: text_column(WORDS, range(8))}


def test_every_type_and_size_is_written_as_msgspec_writes_it():
    columns, rows = every_column(), list(range(8))
    scores = [0.5, np.nan, np.inf, -np.inf, 1.8e308, -0.0, 1e-300, 3.0]
    outputs = {"first": [float(n) for n in range(8)], "": [np.nan, np.inf, 0.5, -1.0, 2.0, 3.0, 4.0, 5.0]}
    for positions in (range(8), [7, 0], [3], []):
        assert made(columns, rows, positions, scores, outputs) == expected(columns, rows, positions, scores, outputs)


@pytest.mark.parametrize("count", [0, 11, 12, 13, 14, 40])
@pytest.mark.parametrize("missing", [0, 1, 5])
def test_heads_of_items_with_few_and_with_many_columns_of_which_some_are_missing(count, missing):
    """A map of up to 15 has a head of one byte; columns that are missing do not count."""
    columns = {
        f"c{number}": Column("number", np.full(8, np.nan if number < missing else number, "f8"), None)
        for number in range(count)
    }
    assert made(columns, [1], [0], [1.0], {}) == expected(columns, [1], [0], [1.0], {})


def test_random_columns_and_orders():
    chosen = np.random.default_rng(3)
    for _ in range(300):
        columns = {name: one for name, one in every_column().items() if chosen.random() < 0.5}
        count = int(chosen.integers(0, 40))
        rows, scores = chosen.integers(0, 8, count).tolist(), chosen.normal(size=count).tolist()
        outputs = {f"o{n}": chosen.normal(size=count).tolist() for n in range(chosen.integers(0, 18))}
        positions = sorted(chosen.choice(count, chosen.integers(0, count + 1), replace=False).tolist())
        features = {"city": "ü", "list": ["a", 1.5], "n": 2**40}
        wanted = expected(columns, rows, positions, scores, outputs, features)
        assert made(columns, rows, positions, scores, outputs, features) == wanted


@pytest.mark.parametrize("row", [-1, 8, 2**31 - 1])
def test_an_item_beyond_the_table_is_for_the_other_way(row):
    assert shown({}).items(arena_of([0, row]), [0, 1]).record("r", "u", b"\x80", "", 1) is None
    assert shown({}).items(arena_of([0, row]), [0]).record("r", "u", b"\x80", "", 1) is not None


def test_a_text_that_came_later_is_for_the_other_way():
    column = text_column(WORDS, [0] * 8)
    one = shown({"word": column})
    taken = one.items(arena_of([0]), [0])
    column.values[0] = column.texts.put("new")
    assert taken.record("r", "u", b"\x80", "", 1) is None


@pytest.mark.parametrize("broken", [("\ud800", "u", ""), ("r", "\ud800", ""), ("r", "u", "\ud800")])
def test_a_text_without_utf8_is_for_the_other_way(broken):
    request_id, uid, experiment = broken
    assert shown({}).items(arena_of([0]), [0]).record(request_id, uid, b"\x80", experiment, 1) is None


def test_what_does_not_fit_is_refused():
    arena = arena_of([0, 1])
    for positions in ([2], [-1], [0, 5]):
        with pytest.raises(ValueError, match="positions must be below 2, got"):
            shown({}).items(arena, positions)
    with pytest.raises(ValueError, match="the arena has 1 columns of scores, not 2"):
        shown({}, ("a", "b")).items(arena, [0])
    short, strided = np.zeros(7), np.zeros(16)[::2]
    for values in (short, strided, np.zeros((8, 2)), np.zeros(8, "f2"), np.zeros(8, "S3"), np.zeros(8, object)):
        with pytest.raises(ValueError, match="column 'bad' must be"):
            Shown("s", "f", id_map(IDS), {"bad": (values, None)}, ())
    text, offset = vocabulary(WORDS)
    for wrong in (offset[::-1].copy(), offset + np.uint64(1), offset[:0]):
        with pytest.raises(ValueError, match="column 'bad': offset does not fit its text"):
            Shown("s", "f", id_map(IDS), {"bad": (np.zeros(8, np.int32), (text, wrong))}, ())
    with pytest.raises(ValueError, match="column 'bad' must be i4"):
        Shown("s", "f", id_map(IDS), {"bad": (np.zeros(8, np.int64), (text, offset))}, ())


# In an engine


def logged_world(world, **callback):
    world.scene["default"] |= {"AutoInvokeCallBack": True}
    world.callback |= callback


def one_record(world, engine, **request):
    """What a recommendation leaves, but for its time."""
    before = sum(1 for _ in read_segments(world.log))
    engine.recommend(FIRST | {"size": 20, "request_id": "r", "features": {"page": "home", "empty": ""}} | request)
    (log,) = engine.logs._logs.values()
    assert log.flush()
    ((payload, _, _),) = list(read_segments(world.log))[before:]
    parts = msgspec.msgpack.decode(payload)
    parts[2] = 0
    return parts


@pytest.mark.parametrize("callback", [{}, {"UseUserFeatures": False}, {"ItemSize": 3}, {"ItemSizeRate": 30}], ids=str)
def test_both_ways_leave_the_same(world, callback):
    logged_world(world, **callback)
    with world.engine() as engine:
        scene = engine._bound.scenes["home_feed", "default"]
        native = scene.shown
        for uid in ("u00042", "u00001", "stranger"):
            scene.shown = native
            one = one_record(world, engine, uid=uid)
            scene.shown = None
            other = one_record(world, engine, uid=uid)
            assert one == other and list(one[6][0]) == list(other[6][0]) and len(one[6][0]) > 5


def test_items_that_came_after_the_snapshot_are_logged_with_what_is_known_of_them(world, shared_world):
    logged_world(world)
    own_snapshots(world, shared_world)
    world.scene["rerank"] = {"RecallNames": ["ContextItemRecall"]}
    listed = [{"item_id": "i000012"}, {"item_id": "late"}]
    with world.engine() as engine:
        engine.add_items([{"item_id": "late", **WHOLE, "category": "never seen"}])
        entries = one_record(world, engine, category="rerank", item_list=listed)[6]
        by_id = {entry["item_id"]: entry for entry in entries}
        assert set(by_id) == {"i000012", "late"} and by_id["late"]["category"] == "never seen"
        assert by_id["late"].keys() == by_id["i000012"].keys() - {"age_days"}, "nobody has said when it came"


def test_a_column_with_a_name_of_its_own_meaning_or_of_vectors_is_for_the_other_way():
    snapshot = SimpleNamespace(fingerprint="f", items=SimpleNamespace(ids=id_map(IDS)))
    number, vector = Column("number", np.zeros(8), None), Column("vector", np.zeros((8, 2), np.float32), None)
    assert shown_of("s", snapshot, {"price": number}, ()) is not None
    assert shown_of("s", snapshot, {"v": vector}, ()) is None
    for name in ("item_id", "score", "algo_scores"):
        assert shown_of("s", snapshot, {name: number}, ()) is None


def test_features_that_cannot_be_logged_are_counted_as_invalid(world):
    logged_world(world, UseUserFeatures=False)
    with world.engine() as engine:
        request = RecommendRequest(**FIRST, features={"x": object()})
        _, after = engine.feed(request)
        after()
        assert 'log_dropped_total{source="automatic",scene="home_feed",reason="invalid"} 1' in engine.metrics_text()
    assert world.records() == []
