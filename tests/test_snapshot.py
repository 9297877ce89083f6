"""A snapshot: built from tables, mapped, verified; and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pairec_fast import ConfigError, Snapshot, SnapshotError
from pairec_fast.build import build
from pairec_fast.core import Forest, VectorIndex, crc32c
from pairec_fast.features import FeatureSchema
from pairec_fast.manifest import ArrayInfo, Feature, FileInfo, fingerprint, read_manifest, resolve
from pairec_fast.scene import rehearse
from pairec_fast.score import Model
from pairec_fast.snapshot import Texts

ITEMS = "item_id,price,category,in_stock\na,1.5,tea,true\nb,,tea,false\nc,3,,true\nd,4,cup,true\n"
USERS = "user_id,gender,age\nu,f,30\nv,,\nw,m,20\n"
EVENTS = (
    "user_id,item_id,timestamp,clicked\nu,a,100,1\nu,b,110,0\nu,c,120,1\nv,a,130,1\nv,d,140,1\nw,a,150,0\nu,a,160,1\n"
)
WORLD = """
[items]
file = "items.csv"
id = "item_id"
[users]
file = "users.csv"
id = "user_id"
[interactions]
file = "events.csv"
label = "clicked"
[[lists]]
name = "hot"
[[lists]]
name = "by_gender"
by = "gender"
[[neighbours]]
name = "i2i"
[[aggregates]]
name = "item_clicks"
function = "count"
positives = true
by = ["item"]
[[aggregates]]
name = "gender_category"
function = "mean"
of = "clicked"
by = ["user.gender", "item.category"]
[[vectors]]
name = "taste"
users = "users.npy"
items = "items.npy"
kind = "flat"
"""


@pytest.fixture
def folder(tmp_path):
    for name, text in (("items.csv", ITEMS), ("users.csv", USERS), ("events.csv", EVENTS), ("world.toml", WORLD)):
        (tmp_path / name).write_text(text)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "users.npy", rng.normal(size=(3, 5)).astype(np.float32))
    np.save(tmp_path / "items.npy", rng.normal(size=(4, 5)).astype(np.float32))
    return tmp_path


def made(folder: Path) -> Snapshot:
    return Snapshot.load(build(folder / "world.toml", folder / "snapshots"))


def replace(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))


def test_a_snapshot_holds_what_the_tables_said(folder):
    snapshot = made(folder)
    items, users = snapshot.items, snapshot.users
    assert [items.ids.id(row) for row in range(4)] == ["a", "b", "c", "d"]
    assert [items.columns["price"].value(row) for row in range(4)] == [1.5, None, 3.0, 4.0]
    assert [items.columns["category"].value(row) for row in range(4)] == ["tea", "tea", None, "cup"]
    assert items.columns["in_stock"].values.tolist() == [1, 0, 1, 1]
    assert users.columns["gender"].value(1) is None
    for table in (items, users):
        rows = np.arange(len(table), dtype=np.int32)[::-1]
        for column in table.columns.values():
            assert column.value_of_each(rows) == [column.value(row) for row in rows]
    assert snapshot.time == 161.0


def test_history_is_what_was_chosen_oldest_first_and_once(folder):
    snapshot = made(folder)
    assert [snapshot.history.of(user).tolist() for user in range(3)] == [[2, 0], [0, 3], []]


def test_lists_are_by_clicks_with_ties_by_row(folder):
    snapshot = made(folder)
    rows, scores = snapshot.lists["hot"].of(0)
    assert rows.tolist() == [0, 2, 3, 1]
    assert scores.tolist() == [3, 1, 1, 0]
    group = snapshot.users.columns["gender"].texts.code
    assert snapshot.lists["by_gender"].of(group["f"])[0].tolist() == [0, 2]
    assert snapshot.lists["by_gender"].of(group["m"])[0].tolist() == []


def test_a_list_by_a_column_without_a_single_text_has_no_groups(folder):
    """Parquet keeps a column of nothing but nulls a column of texts."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    users = {"user_id": ["u", "v", "w"], "gender": pa.array([None] * 3, pa.string()), "age": [30, 0, 20]}
    parquet.write_table(pa.table(users), folder / "users.parquet")
    replace(folder, "world.toml", "users.csv", "users.parquet")
    table = made(folder).lists["by_gender"]
    assert table.offset.tolist() == [0] and len(table.rows) == len(table.scores) == 0


def test_aggregates_are_by_item_or_by_both_sides(folder):
    snapshot = made(folder)
    assert snapshot.array("item_clicks").tolist() == [3, 0, 1, 1, 0], "the last: of new items"
    table = snapshot.array("gender_category")
    genders, categories = (snapshot.users.columns["gender"].texts.code, snapshot.items.columns["category"].texts.code)
    assert table[genders["f"], categories["tea"]] == np.float32(2 / 3)
    assert np.isnan(table[genders["m"], categories["cup"]])


def test_current_names_the_newest_and_older_ones_stay(folder):
    first, second = made(folder), made(folder)
    assert first.directory != second.directory
    assert resolve(folder / "snapshots") == second.directory
    assert Snapshot.load(first.directory).fingerprint == first.fingerprint


def test_the_same_sources_give_the_same_fingerprint(folder):
    assert made(folder).fingerprint == made(folder).fingerprint


@pytest.mark.parametrize("keep", [0, 1, 60, -1])
def test_a_truncated_file_is_refused_by_name(folder, keep):
    directory = made(folder).directory
    path = directory / "items.price.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SnapshotError, match=r"items\.price\.npy has .* bytes; manifest\.json says"):
        Snapshot.load(directory)


def test_a_flipped_bit_in_any_file_is_refused(folder):
    directory = made(folder).directory
    for path in sorted(directory.iterdir()):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        broken = directory.parent / "broken"
        shutil.copytree(directory, broken)
        (broken / path.name).write_bytes(data)
        with pytest.raises(SnapshotError):
            Snapshot.load(broken)
        shutil.rmtree(broken)


def test_a_missing_file_a_missing_directory_and_an_empty_one_are_refused(folder, tmp_path):
    directory = made(folder).directory
    (directory / "history.rows.npy").unlink()
    with pytest.raises(SnapshotError, match=r"history\.rows\.npy"):
        Snapshot.load(directory)
    with pytest.raises(SnapshotError, match="not a snapshot"):
        Snapshot.load(tmp_path / "nowhere")
    (folder / "snapshots" / "CURRENT").write_text("../..\n")
    with pytest.raises(SnapshotError, match="CURRENT"):
        Snapshot.load(folder / "snapshots")


def test_an_edited_manifest_and_one_of_another_format_are_refused(folder):
    directory = made(folder).directory
    path = directory / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(manifest | {"time": 5.0}))
    with pytest.raises(SnapshotError, match="fingerprint"):
        Snapshot.load(directory)
    path.write_bytes(msgspec.json.encode(manifest | {"format": 99}))
    with pytest.raises(SnapshotError, match="format 99"):
        Snapshot.load(directory)
    path.write_bytes(b"{")
    with pytest.raises(SnapshotError, match="not a manifest"):
        Snapshot.load(directory)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("items.csv", "b,,tea", "a,,tea", r"items\.csv: line 3: item_id: row 1: id 'a' occurs twice"),
        ("items.csv", "c,3,,true", ",3,,true", r"items\.csv: line 4: item_id is empty"),
        ("events.csv", "v,d,140", "v,zz,140", r"events\.csv: line 6: item_id 'zz' is not in the items table"),
        ("events.csv", "v,d,140", "x,d,140", r"events\.csv: line 6: user_id 'x' is not in the users table"),
        ("events.csv", "140,1", "soon,1", r"events\.csv: line 6: timestamp is 'soon'"),
        ("events.csv", "140,1", ",1", r"events\.csv: line 6: timestamp is nan"),
        ("events.csv", "v,d,140,1", "v,d", r"events\.csv"),
        ("events.csv", "timestamp", "when", r"events\.csv has no column .?timestamp"),
    ],
)
def test_a_bad_table_is_refused_with_file_and_line_and_leaves_nothing(folder, name, old, new, says):
    replace(folder, name, old, new)
    with pytest.raises(SnapshotError, match=says):
        build(folder / "world.toml", folder / "snapshots")
    assert not (folder / "snapshots").exists() or list((folder / "snapshots").iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('label = "clicked"', 'lable = "clicked"', r"lable"),
        ('name = "by_gender"', 'name = "hot"', r'"hot" is taken twice'),
        ('by = "gender"', 'by = "sex"', r"no text column 'sex'"),
        ('["user.gender", "item.category"]', '["user", "item"]', r"too many to keep"),
        ('["user.gender", "item.category"]', '["shop"]', r"aggregates\.gender_category\.by"),
        ('of = "clicked"\n', "", r"needs a column"),
        ('kind = "flat"', 'kind = "tree"', r"kind"),
        ('users = "users.npy"\n', "", r"two NPY files"),
        ("[items]", "[items", r"not TOML"),
        ('file = "items.csv"', 'file = "item.csv"', r"item\.csv"),
    ],
)
def test_a_bad_world_file_is_refused_and_leaves_nothing(folder, old, new, says):
    replace(folder, "world.toml", old, new)
    with pytest.raises((ConfigError, SnapshotError), match=says):
        build(folder / "world.toml", folder / "snapshots")
    assert not (folder / "snapshots").exists() or list((folder / "snapshots").iterdir()) == []


def test_vectors_of_another_shape_or_with_a_nan_are_refused(folder):
    np.save(folder / "items.npy", np.zeros((3, 5), np.float32))
    with pytest.raises(SnapshotError, match=r"items\.npy is float32 \[3, 5\]; float32 \[4, dim\]"):
        build(folder / "world.toml", folder / "snapshots")
    broken = np.zeros((4, 5), np.float32)
    broken[2, 1] = np.nan
    np.save(folder / "items.npy", broken)
    with pytest.raises(SnapshotError, match="row 2 is not finite"):
        build(folder / "world.toml", folder / "snapshots")


def with_lists(folder: Path, columns: str) -> None:
    replace(folder, "world.toml", 'kind = "flat"', f'kind = "flat"\nlists = {columns}')


def forge(directory: Path, name: str, array: np.ndarray) -> None:
    """Another array under that name, with a manifest that fits it."""
    path = directory / f"{name}.npy"
    np.save(path, array)
    manifest = read_manifest(directory)
    info = ArrayInfo(array.dtype.str, list(array.shape))
    data = path.read_bytes()
    forged = msgspec.structs.replace(
        manifest,
        arrays=manifest.arrays | {name: info},
        files=manifest.files | {path.name: FileInfo(len(data), crc32c(data))},
    )
    forged = msgspec.structs.replace(forged, fingerprint=fingerprint(forged))
    (directory / "manifest.json").write_bytes(msgspec.json.encode(forged))


def test_lists_are_of_the_rows_of_an_index_by_a_columns_values(folder):
    with_lists(folder, '["category", "price", "in_stock"]')
    vectors = np.load(folder / "items.npy")
    vectors[1] = 0  # b has no place in the index: a, c, d are 0, 1, 2 there
    np.save(folder / "items.npy", vectors)
    snapshot = made(folder)
    lists, texts = snapshot.vectors["taste"].lists, snapshot.items.columns["category"].texts
    assert {name: lists[name].places.tolist() for name in lists} == {
        "price": [0, 1, 2], "category": [0, 2] if texts.codes.find("tea") == 0 else [2, 0], "in_stock": [0, 1, 2],
    }  # fmt: skip
    assert lists["price"].values.tolist() == [1.5, 3, 4] and lists["price"].first.tolist() == [0, 1, 2, 3]
    assert [texts[code] for code in lists["category"].values.tolist()] == ["tea", "cup"]
    assert lists["in_stock"].values.tolist() == [1] and lists["in_stock"].first.tolist() == [0, 3]
    assert (len(snapshot.vectors["taste"].lists), len(made(folder).vectors["taste"].lists)) == (3, 3)


def test_a_column_that_says_nothing_of_any_item_has_no_list(folder):
    replace(folder, "items.csv", "tea,true\nb,,tea", ",true\nb,,")
    replace(folder, "items.csv", "d,4,cup", "d,4,")
    replace(folder, "items.csv", "a,1.5,,", "a,1.5,,")
    for price in ("1.5", "3", "4"):
        replace(folder, "items.csv", price, "")
    replace(folder, "world.toml", '["user.gender", "item.category"]', '["user.gender"]')
    with_lists(folder, '["price"]')
    lists = made(folder).vectors["taste"].lists["price"]
    assert len(lists) == len(lists.places) == 0 and lists.first.tolist() == [0] and lists.find(1.5) == -1


@pytest.mark.parametrize(
    ("part", "array", "says"),
    [
        ("places", [0, 1, 4], r"places\[2\] is 4, which holds no row"),
        ("places", [0, 1, 1 << 30], r"places\[2\] is 1073741824, which holds no row"),
        ("places", [-1, 1, 3], r"places\[0\] is -1, which holds no row"),
        ("places", [1, 0, 3], r"places\[1\] is 0, which holds no row or does not ascend"),
        ("places", [1, 1, 3], r"places\[1\] is 1, which holds no row or does not ascend"),
        ("places", [0, 1], r"first must run from 0 to the 2 places"),
        ("places", [0, 2, 3], r"taste\.category\.places\.npy is not what items\.category\.npy says"),
        ("first", [0, 2], r"first must run from 0 to the 3 places"),
        ("first", [0, 1 << 40, 3], r"first must ascend"),
        ("first", [0, -5, 3], r"first must ascend"),
        ("first", [0, 3, 3], r"first must ascend: each value has a row"),
        ("first", [1, 2, 3], r"first must run from 0"),
        ("first", [0, 1, 3], r"taste\.category\.first\.npy is not what items\.category\.npy says"),
        ("values", [1, 0], r"values must ascend"),
        ("values", [0, 0], r"values must ascend"),
        ("values", [0, 5], r"taste\.category\.values\.npy is not what items\.category\.npy says"),
        ("places", np.array([0, 1, 3], np.int64), "taste\\.category\\.places"),
        ("first", np.array([0, 2, 3], np.int32), "taste\\.category"),
        ("values", np.array([[0], [1]], np.int32), "taste\\.category"),
    ],
)
def test_forged_lists_are_refused(folder, part, array, says):
    """Their checksums hold: whoever wrote them meant it, or had other tables."""
    with_lists(folder, '["category"]')
    directory = made(folder).directory
    name = f"taste.category.{part}"
    assert (
        np.load(directory / f"{name}.npy").tolist() == {"places": [0, 1, 3], "first": [0, 2, 3], "values": [0, 1]}[part]
    )
    forge(
        directory, name, np.asarray(array, {"first": np.int64}.get(part, np.int32) if isinstance(array, list) else None)
    )
    with pytest.raises(SnapshotError, match=says):
        Snapshot.load(directory)
    if "not what" not in says:
        with pytest.raises(SnapshotError, match=says):
            Snapshot.load(directory, verify=False)


def test_places_between_the_lists_of_partitions_are_refused(folder, tmp_path):
    """A partition ends with places that hold no row: there is nothing an item could be read from."""
    vectors = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    VectorIndex.build(vectors, tmp_path / "index", kind="partition", k=5)
    index = VectorIndex.load(tmp_path / "index")
    rows = np.arange(200, dtype=np.int32)
    places = index.grouped(rows, np.zeros(200)).places
    values, first = np.zeros(1), np.array([0, 1])
    empty = sorted(set(range(places.max())) - set(places.tolist()))
    assert empty, "or there is no such place to forge"
    assert len(index.lists(values, first, places[:1]).filter(0)) == 1
    for place in (empty[0], empty[-1], 1 << 20):
        with pytest.raises(ValueError, match=rf"places\[0\] is {place}, which holds no row"):
            index.lists(values, first, np.array([place], np.int32))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ('["categroy"]', r'vectors\.taste\.lists: .* "categroy" \(did you mean "category"\?\); it has price, category'),
        ('["item_id"]', r"vectors\.taste\.lists: the items table has no text or number column \"item_id\""),
        ('["price", "price"]', r'vectors\.taste\.lists names "price" twice'),
        ('"price"', r"vectors\[0\]\.lists"),
    ],
)
def test_lists_of_columns_that_are_not_there_are_refused_and_leave_nothing(folder, columns, says):
    with_lists(folder, columns)
    with pytest.raises(ConfigError, match=says):
        build(folder / "world.toml", folder / "snapshots")
    assert list(folder.glob("snapshots/*")) == []


def test_lists_want_an_index(folder):
    with_lists(folder, '["price"]')
    replace(folder, "world.toml", '"flat"', '"none"')
    with pytest.raises(ConfigError, match=r'vectors\.taste\.lists: kind = "none" builds no index'):
        build(folder / "world.toml", folder / "snapshots")


@pytest.mark.parametrize("file", ["model.txt", "model.forest"])
def test_a_model_whose_sources_are_bare_names_is_built_in_and_keeps_its_categories(folder, file):
    """As `pairec-fast train` writes them, and compiled: kinds are found out, categories stay those of the training."""
    lightgbm = pytest.importorskip("lightgbm")
    features = [
        Feature("price", "price"),
        Feature("category", "category", ["cup", "pot", "tea"]),
        Feature("gender", "user:gender", ["m", "f"]),
        Feature("hour", "hour"),
    ]
    rng = np.random.default_rng(0)
    matrix = np.stack([rng.normal(size=200), *(rng.integers(0, 3, 200) for _ in range(3))], axis=1)
    names = [feature.name for feature in features]
    data = lightgbm.Dataset(matrix, matrix.sum(axis=1), feature_name=names, categorical_feature=[1, 2])
    lightgbm.train({"min_data_in_leaf": 5, "verbose": -1}, data, 5).save_model(folder / "model.txt")
    Forest.load(folder / "model.txt").save(folder / "model.forest")
    FeatureSchema(features).save(folder / "features.json")
    with (folder / "world.toml").open("a") as world:
        world.write(f'[[models]]\nname = "ranker"\nfile = "{file}"\n')
    snapshot = made(folder)
    rehearse(Model("ranker", snapshot, "ranker"), "ranker", snapshot)
    assert snapshot.manifest.models["ranker"].features == features
    snapshot.golden.clear()
    with pytest.raises(SnapshotError, match="names no golden queries of model 'ranker'"):
        rehearse(Model("ranker", snapshot, "ranker"), "ranker", snapshot)
    FeatureSchema(features[::-1]).save(folder / "features.json")
    with pytest.raises(SnapshotError, match="the two files do not belong together"):
        made(folder)


@pytest.mark.parametrize(
    ("column", "says"),
    [("a/b", r"items\.csv: column 'a/b'"), ("category.text", r"items\.category\.text\.npy would be written twice")],
)
def test_a_column_whose_file_cannot_be_is_refused_and_leaves_nothing(folder, column, says):
    """Else `category.text` would take the place of the texts of `category`, and nothing would say so."""
    replace(folder, "items.csv", "in_stock\n", f"{column}\n")
    with pytest.raises(SnapshotError, match=says):
        build(folder / "world.toml", folder / "snapshots")
    assert list(folder.glob("snapshots/*")) == []


def test_texts_are_the_same_however_many_of_them_were_asked_for_before(monkeypatch):
    monkeypatch.setattr("pairec_fast.snapshot.DECODED_MAX", 3)
    words = ["", "é", "tea", "cup", "a" * 300]
    joined = np.frombuffer("".join(words).encode(), np.uint8)
    texts = Texts(joined, np.cumsum([0, *(len(word.encode()) for word in words)]).astype(np.uint64))
    for _ in range(2):
        assert [texts[code] for code in (4, 0, 1, 2, 3)] == [words[code] for code in (4, 0, 1, 2, 3)]
        for code in (-1, 5):
            with pytest.raises(IndexError):
                texts[code]
    assert len(texts._decoded) == 3
