"""MovieLens-100K out of its wheel, where that can be had; and what is said where it cannot."""

from __future__ import annotations

import subprocess
import zipfile

import numpy as np
import pytest

from pairec_fast.errors import PairecError

pytest.importorskip("pyarrow")

from pairec_fast.learn import movielens
from pairec_fast.learn.table import TextLists, read_table


@pytest.fixture(scope="module")
def wheel():
    try:
        return movielens.fetch_wheel(timeout_seconds=60)
    except PairecError as error:
        pytest.skip(str(error))


def test_ratings_people_and_films_are_all_there(tmp_path, wheel):
    movielens.movielens_100k(tmp_path, source=wheel)
    items, users, events = (read_table(tmp_path / f"{name}.parquet") for name in ("items", "users", "events"))
    assert (len(items), len(users), len(events)) == (1682, 943, 100_000)

    assert items.text("item_id").value(0) == "1" and items.text("title").value(0) == "Toy Story"
    assert items.numbers("year")[0] == 1995 and np.isnan(items.numbers("year")).sum() == 2
    assert items.text("genre").value(0) == "Animation"
    genres = items.column("genres")
    assert isinstance(genres, TextLists) and genres.values()[0] == ["Animation", "Children's", "Comedy"]
    vectors = items.vectors("genre_vector")
    assert vectors.shape == (1682, 19) and set(np.unique(vectors)) == {0.0, 1.0}
    assert [movielens.GENRES[place] for place in np.flatnonzero(vectors[0])] == ["Animation", "Children's", "Comedy"]
    np.testing.assert_array_equal(vectors.sum(axis=1), [len(named) for named in genres.values()])

    assert users.numbers("age")[0] == 24 and users.text("age_band").value(0) == "18-24"
    assert set(users.text("gender").vocabulary) == {"M", "F"}
    assert set(users.text("age_band").vocabulary) == {name for _, name in movielens.AGE_BANDS}
    assert (np.diff(events.numbers("timestamp")) >= 0).all()
    assert set(np.unique(events.numbers("rating"))) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert set(events.text("item_id").vocabulary) <= set(items.text("item_id").vocabulary)


def test_unreachable_index_is_said_with_what_was_tried(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="noise\nERROR: no route to host\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(PairecError, match="cannot be had") as caught:
        movielens.movielens_100k(tmp_path / "out")
    for words in (str(tmp_path / "pairec_fast" / movielens.WHEEL), "recbole==1.2.1", "no route to host"):
        assert words in str(caught.value)
    assert list((tmp_path / "pairec_fast").iterdir()) == []


def test_wheel_that_is_none_or_another_is_refused(tmp_path):
    with pytest.raises(PairecError, match="no such file"):
        movielens.movielens_100k(tmp_path, source=tmp_path / "absent.whl")
    broken = tmp_path / movielens.WHEEL
    broken.write_bytes(b"PK")
    with pytest.raises(PairecError, match="is not the wheel"):
        movielens.movielens_100k(tmp_path / "out", source=tmp_path)
    with zipfile.ZipFile(broken, "w") as archive:
        for kind in ("item", "user", "inter"):
            archive.writestr(f"{movielens.MEMBER}.{kind}", "header\n1\t2\t3\t4\n")
    with pytest.raises(PairecError, match=r"\(1682, 943, 100000\) would be right"):
        movielens.movielens_100k(tmp_path / "out", source=tmp_path)
    assert not (tmp_path / "out").exists()
