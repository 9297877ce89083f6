"""items.log: what a crash, a second writer or a bad disk may do to it."""

from __future__ import annotations

import errno
import multiprocessing
import os

import pytest

from pairec_fast import SnapshotError, items
from pairec_fast.items.change import merged
from pairec_fast.items.log import HEAD, Reader
from tests.faults.items import run
from tests.worlds import bare_snapshots


@pytest.fixture
def folder(tmp_path):
    return bare_snapshots(tmp_path / "snapshots")


def batch(name, count=3):
    return [{"item_id": f"{name}-{place}"} for place in range(count)]


def ids(reader):
    return [change.id for record in reader.read() for change in merged([record.payload])]


def names(*batches):
    return [one["item_id"] for name in batches for one in batch(name)]


def test_records_are_numbered_and_read_once(folder):
    reader = Reader(folder, 0)
    assert ids(reader) == [] and not (folder / "items.log").exists()
    assert [items.add(folder, batch(name)) for name in "ab"] == [1, 2]
    assert ids(reader) == names("a", "b") and ids(reader) == []
    assert items.remove(folder, ["a-0"]) == 3
    [record] = reader.read()
    assert merged([record.payload])[0].removed and reader.sequence == 3
    assert ids(Reader(folder, 1)) == [*names("b"), "a-0"], "a snapshot holds the first"


def test_a_torn_tail_is_not_read_and_the_next_writer_cuts_it_off(folder):
    """Wherever the crash came: no byte of the record, some, or all but one."""
    items.add(folder, batch("a"))
    log = folder / "items.log"
    whole = log.read_bytes()
    items.add(folder, batch("b"))
    torn = whole[: HEAD.size] + log.read_bytes()[HEAD.size :]  # its head: the first was acknowledged, this was not
    for size in range(len(whole), len(torn)):
        log.write_bytes(torn[:size])
        reader = Reader(folder, 0)
        assert ids(reader) == names("a")
        assert items.add(folder, batch("c")) == 2
        assert ids(reader) == names("c") and ids(Reader(folder, 0)) == names("a", "c")


def test_a_whole_record_that_was_never_acknowledged_counts(folder):
    items.add(folder, batch("a"))
    log = folder / "items.log"
    head = log.read_bytes()[: HEAD.size]
    items.add(folder, batch("b"))
    log.write_bytes(head + log.read_bytes()[HEAD.size :])
    assert items.add(folder, batch("c")) == 3
    assert ids(Reader(folder, 0)) == names("a", "b", "c")


def test_a_flipped_byte_is_refused_by_readers_and_writers_and_nothing_is_cut(folder):
    for name in "abc":
        items.add(folder, batch(name))
    log = folder / "items.log"
    whole = log.read_bytes()
    for place in range(HEAD.size, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        log.write_bytes(damaged)
        for act in (lambda: Reader(folder, 0).read(), lambda: items.add(folder, batch("d"))):
            with pytest.raises(SnapshotError, match=r"items\.log: record \d is damaged, and 3 were acknowledged"):
                act()
        assert log.read_bytes() == damaged
    log.write_bytes(b"something else, and longer than a head is")
    with pytest.raises(SnapshotError, match="no log of items: it begins with b'somethin'"):
        items.add(folder, batch("d"))


def test_a_log_cut_short_or_replaced_by_an_old_copy_is_refused(folder):
    items.add(folder, batch("a"))
    log = folder / "items.log"
    old = log.read_bytes()
    items.add(folder, batch("b"))
    log.write_bytes(log.read_bytes()[: len(old)])
    with pytest.raises(SnapshotError, match="record 2 is damaged, and 2 were acknowledged"):
        items.add(folder, batch("c"))
    bare_snapshots(folder, sequence=2)  # built from both
    log.write_bytes(old)
    with pytest.raises(SnapshotError, match="ends with record 1, an old copy: the newest snapshot holds up to 2"):
        items.add(folder, batch("c"))


def test_a_new_log_goes_on_where_the_newest_snapshot_ends(folder):
    reader = Reader(folder, 0)
    items.add(folder, batch("a"))
    assert ids(reader) == names("a")
    bare_snapshots(folder, sequence=1)
    (folder / "items.log").unlink()
    assert items.add(folder, batch("b")) == 2
    assert ids(reader) == names("b"), "who had read the old log goes on"
    with pytest.raises(SnapshotError, match="begins after record 1; those from 1 on are missing"):
        Reader(folder, 0).read()


def test_a_full_disk_leaves_the_log_as_it_was(folder, monkeypatch):
    items.add(folder, batch("a"))
    before = (folder / "items.log").read_bytes()
    write = os.pwrite

    def full(handle, data, at):
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(handle, data[: len(data) // 2], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        items.add(folder, batch("b"))
    monkeypatch.undo()
    assert (folder / "items.log").read_bytes() == before


def write_many(folder, name, times):
    for number in range(times):
        items.add(folder, batch(f"{name}{number}"))


def test_concurrent_writers_lose_nothing_and_readers_see_whole_calls(folder):
    times, reader, seen = 25, Reader(folder, 0), []
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_many, args=(folder, f"w{writer}.", times)) for writer in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen += reader.read()
    assert [writer.exitcode for writer in writers] == [0] * 4
    seen += reader.read()
    assert [record.sequence for record in seen] == list(range(1, 4 * times + 1))
    assert all(len(record.payload.split(b"\n")) == 3 for record in seen)
    assert len({change.id for change in merged(record.payload for record in seen)}) == 3 * 4 * times


def test_killed_writers_lose_nothing_acknowledged(tmp_path):
    """A few kills here; `python -m tests.faults.items --times 1000` is the full dose."""
    totals = run(6, seed=1, directory=tmp_path)
    assert not totals["lost"] and not totals["broken"] and totals["acknowledged"] > 0
