"""Tables: what a column becomes, and what is said when a file cannot be used."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.errors import SnapshotError

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

from pairec_fast.learn.table import TextColumn, TextLists, read_array, read_table  # noqa: E402


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_columns_become_numbers_and_text(tmp_path):
    content = "\ufeffuser_id,price,count,kind,ok,when\n007,1.5,3,x,true,1970-01-02 00:00:00\n\n"
    content += '8,,4,"a\nb",false,\n9,2,5,,true,\n'
    frame = read_table(write(tmp_path / "t.csv", content), text=["user_id", "absent"])
    assert frame.names == ["user_id", "price", "count", "kind", "ok", "when"]
    assert len(frame) == 3
    assert frame.text("user_id").values() == ["007", "8", "9"], "an id keeps its zeros"
    np.testing.assert_array_equal(frame.numbers("price"), [1.5, np.nan, 2.0])
    assert frame.numbers("count").dtype == np.int64
    assert frame.numbers("ok").dtype == np.bool_
    assert frame.text("kind").codes.tolist() == [0, 1, -1], "an empty text is null"
    np.testing.assert_array_equal(frame.numbers("when"), [86_400.0, np.nan, np.nan])
    assert [frame.place(row) for row in range(3)] == ["line 2", "line 4", "line 6"]


def test_csv_type_is_inferred_from_all_rows_not_from_the_first_block(tmp_path):
    """Pyarrow reads a megabyte at a time: the last line alone makes the column floating."""
    path = write(tmp_path / "t.csv", "price,pad\n" + f"1,{'x' * 100}\n" * 30_000 + "2.5,x\n")
    price = read_table(path).numbers("price")
    assert price.dtype == np.float64 and price[-1] == 2.5 and len(price) == 30_001


def test_parquet_columns_of_every_kind(tmp_path):
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int32()),
            "u": pa.array([1, 2], pa.uint8()),
            "f": pa.array([1, None], pa.float32()),
            "vector": pa.array([[1.0, 2.0], [3.0, 4.0]]),
            "fixed": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
            "word": pa.array(["x", None]).dictionary_encode(),
            "words": pa.array([["a", "b"], None]),
            "time": pa.array([1_000, 2_000], pa.timestamp("ms")),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    frame = read_table(tmp_path / "t.parquet")
    assert {name: frame.numbers(name).dtype.name for name in ("i", "u", "f", "time")} == {
        "i": "float64", "u": "int64", "f": "float32", "time": "int64",
    }  # fmt: skip
    assert frame.numbers("time").tolist() == [1, 2]
    for name in ("vector", "fixed"):
        assert frame.vectors(name).dtype == np.float32
        assert frame.vectors(name).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert frame.text("word").values() == ["x", None]
    words = frame.column("words")
    assert isinstance(words, TextLists) and words.values() == [["a", "b"], []]
    assert words.offsets.tolist() == [0, 2, 2]
    assert read_table(tmp_path / "t.parquet", columns=["u", "i"]).names == ["u", "i"]


def test_text_in_many_row_groups_shares_one_vocabulary(tmp_path):
    words = [f"w{number % 7}" for number in range(1000)]
    pq.write_table(pa.table({"word": words}), tmp_path / "t.parquet", row_group_size=90)
    column = read_table(tmp_path / "t.parquet").text("word")
    assert isinstance(column, TextColumn) and column.codes.dtype == np.int32
    assert column.vocabulary == [f"w{number}" for number in range(7)]
    assert column.values() == words


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "is empty"),
        ("t.csv", "a,b\n", "no rows: a, b"),
        ("t.csv", "a,b\n1,2\n\n3\n", r"line 4 has 1 fields, the header 2: 3"),
        ("t.csv", 'a,b\n1,"x\ny"\n3,4,5\n', r"line 4 has 3 fields"),
        ("t.csv", "a,b,a\n1,2,3\n", 'columns 1 and 3 are both called "a"'),
        ("t.csv", ",b\n1,2\n", "column 1 has no name"),
        ("t.csv", "a;b\n1;2\n", "commas between the columns"),
        ("t.csv", 'a,b\n1,x\n2,"y\n3,z\n', "line 3 opens a quote that is never closed"),
        ("t.csv", b"a,b\n1,\xff\xfe\n", "UTF8"),
        ("t.txt", "a,b\n1,2\n", "'.txt'; .csv or .parquet would be right"),
        ("t.parquet", "hello", "is not a readable Parquet file"),
    ],
)
def test_bad_file_is_named_with_its_place(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(SnapshotError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1.0], [1.0, 2.0]]), "row 1: c has 2 numbers where others have 1"),
        (pa.array([None, [1.0, 2.0]]), "row 0: c has 0 numbers where others have 2"),
        (pa.array([{"a": 1}]), "c holds struct"),
        (pa.array([b"\xff"]), "UTF8"),
        (pa.array([], pa.int64()), "no rows"),
    ],
)
def test_bad_parquet_column_is_named(tmp_path, column, message):
    pq.write_table(pa.table({"c": column}), tmp_path / "t.parquet")
    with pytest.raises(SnapshotError, match=message):
        read_table(tmp_path / "t.parquet")


def test_missing_file_and_column_suggest_the_nearest(tmp_path):
    path = write(tmp_path / "events.csv", "price,kind\n1,x\n")
    with pytest.raises(SnapshotError, match=r"no such file \(did you mean .*events.csv"):
        read_table(tmp_path / "event.csv")
    with pytest.raises(SnapshotError, match=r'"prise" \(did you mean "price"\?\) nor "zzz"; it has price, kind'):
        read_table(path).require(["kind", "prise", "zzz"])
    with pytest.raises(SnapshotError, match="did you mean"):
        read_table(path, columns=["knd"])
    with pytest.raises(SnapshotError, match="line 2: kind is 'x'; a number would be right"):
        read_table(path).numbers("kind")
    with pytest.raises(SnapshotError, match="price holds int64"):
        read_table(path).text("price")


def test_array_is_mapped_read_only_and_never_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    array = read_array(tmp_path / "a.npy")
    assert isinstance(array, np.memmap) and array.shape == (2, 3) and not array.flags.writeable
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    write(tmp_path / "junk.npy", "junk")
    for name, message in (("objects", "not a NumPy array"), ("none", "no elements"), ("junk", "not a NumPy array")):
        with pytest.raises(SnapshotError, match=message):
            read_array(tmp_path / f"{name}.npy")
    with pytest.raises(SnapshotError, match="no such file"):
        read_array(tmp_path / "absent.npy")
