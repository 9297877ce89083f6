"""LMDB is read while another process writes it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.store import Stores
from tests.test_store import Confs

lmdb = pytest.importorskip("lmdb")

WRITER = """
import sys, lmdb
env = lmdb.open(sys.argv[1], map_size=int(sys.argv[2]), max_dbs=4)
database = env.open_db(sys.argv[3].encode()) if sys.argv[3] else None
with env.begin(write=True, db=database) as change:
    for pair in sys.argv[4:]:
        key, value = pair.split("=")
        change.put(key.encode(), value.encode() * (1 << 20 if key.startswith("big") else 1))
"""


def write(path, *pairs, size=1 << 20, database=""):
    """By another process: one process may open an environment once."""
    subprocess.run([sys.executable, "-c", WRITER, str(path), str(size), database, *pairs], check=True, timeout=60)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "users", "u1=31", "u2=雪")
    return tmp_path


@pytest.fixture
def stores(folder):
    with Stores(Confs(folder=folder)) as stores:
        yield stores


def test_values_are_found_by_key_relative_to_the_configuration(stores):
    users = stores.lmdb("users")
    assert users.get("u1") == b"31" and users.get("u3") is None
    assert users.get_many(["u2", "u3", "u1"]) == ["雪".encode(), None, b"31"]


def test_keys_that_lmdb_cannot_have_are_not_there(stores):
    assert stores.lmdb("users").get_many(["", "x" * 100_000, "\ud800", "u1"]) == [None, None, None, b"31"]


def test_what_a_writer_commits_is_seen_by_the_next_read(stores, folder):
    users = stores.lmdb("users")
    assert users.get("u9") is None
    write(folder / "users", "u9=new", "u1=32")
    assert users.get_many(["u9", "u1"]) == [b"new", b"32"]


def test_a_map_that_a_writer_made_larger_is_followed(stores, folder):
    users = stores.lmdb("users")
    assert users.get("u1") == b"31"
    write(folder / "users", *(f"big{number}=x" for number in range(8)), size=64 << 20)
    assert users.get("big7") == b"x" * (1 << 20)


def test_two_engines_of_one_process_share_an_environment(stores, folder):
    first = stores.lmdb("users")
    with Stores(Confs(folder=folder)) as others:
        second = others.lmdb("./users")
        assert second.get("u1") == first.get("u1") == b"31"
    assert first.get("u1") == b"31", "closing one leaves the other"


def test_a_named_database_is_read_and_an_unknown_one_refused(stores, folder):
    write(folder / "many", "u1=here", database="ages")
    assert stores.lmdb("many", "ages").get("u1") == b"here"
    with pytest.raises(ConfigError, match='many: this LMDB environment has no database "sizes"'):
        stores.lmdb("many", "sizes")


def test_what_is_no_environment_is_refused(stores, folder):
    with pytest.raises(ConfigError, match="nowhere: cannot be opened as an LMDB environment"):
        stores.lmdb("nowhere")
    (folder / "text").write_text("no environment at all" * 1000)
    with pytest.raises(ConfigError, match="text: cannot be opened as an LMDB environment"):
        stores.lmdb("text")
    assert not (folder / "nowhere").exists(), "asking creates nothing"
