"""Repair of segments: everything readable is kept, whatever the damage and whenever it is killed."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pairec_fast.core import read_segments, recover, repair_segments
from pairec_fast.core.ring import Log
from tests.logs import assert_sound, die_after, push_all
from tests.worlds import environment

ROOT = Path(__file__).resolve().parent.parent
RECORDS = [b"%04d" % number * (1 + number % 40) for number in range(1000)]
# Copies the directory and repairs the copy in a child that dies at its first system call, its second, until none does.
KILLED = """
import os, shutil, sys
from pairec_fast.core.repair import repair_segments

for number in range(1, 200):
    place = f"{os.path.dirname(sys.argv[1])}/copy{number:03}"
    shutil.copytree(sys.argv[1], place)
    child = os.fork()
    if child == 0:
        os.environ["KILL_AT"] = str(number)
        repair_segments(place)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == 9, status
else:
    sys.exit("it never ends")
"""
WROTE = bytes(range(256)) * 16


def damaged(rng: random.Random, data: bytes) -> bytes:
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 50))):
        at = rng.choice((rng.randrange(len(data)), rng.randrange(min(512, len(data)))))
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                size = min(rng.choice((1, 8, 16, 4096)), len(data) - at)
                data[at : at + size] = rng.randbytes(size)
            case 2:
                source, size = rng.randrange(len(data)), rng.choice((16, 80, 1000))
                data[at : at + size] = data[source : source + size]
            case 3 if rng.random() < 0.3:
                del data[rng.randrange(len(data)) :]
                data = data or bytearray(1)
    return bytes(data)


@pytest.fixture
def directory(tmp_path):
    """Five closed segments of 200 records."""
    segments = tmp_path / "segments"
    with Log(segments, tmp_path / "ring", capacity=1 << 20) as log:
        for start in range(0, 1000, 200):
            push_all(log, RECORDS[start : start + 200])
            assert log.rotate()
    return segments


@pytest.fixture
def left_open(tmp_path):
    """One open segment of a dead process, with three blocks, and its ring."""
    segments = tmp_path / "segments"

    def live() -> Log:
        log = Log(segments, tmp_path / "ring", capacity=1 << 20, sync_seconds=0)
        for start in range(0, 900, 300):
            push_all(log, RECORDS[start : start + 300])
            assert log.flush()
        return log

    die_after(live)
    assert len(list(segments.glob("*.open"))) == 1
    return segments


def readable(directory: Path) -> list[tuple[bytes, int, int]]:
    return list(read_segments(directory))


def states(directory: Path) -> list[str]:
    return [report["state"] for report in repair_segments(directory)]


def endings(directory: Path) -> list[str]:
    return sorted(path.suffix for path in directory.iterdir())


def test_sound_segments_are_not_touched(directory):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}
    assert states(directory) == ["sound"] * 5
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}
    with pytest.raises(ValueError, match="sink must be"):
        repair_segments(directory, "no sink")
    with pytest.raises(OSError):
        repair_segments(directory / "nope")


def test_a_flipped_byte_costs_its_record_and_the_rest_is_whole_again(directory):
    path = sorted(directory.glob("*.seg"))[1]
    data = bytearray(path.read_bytes())
    at = data.index(RECORDS[300])
    data[at] ^= 1
    path.write_bytes(data)
    (report,) = (one for one in repair_segments(directory) if one["state"] != "sound")
    aside = path.with_suffix(".corrupt")
    assert report == {
        "file": str(path), "state": "rewritten", "records": 199, "lost": 1, "kept_as": str(aside),
        "errors": report["errors"],
    }  # fmt: skip
    assert len(report["errors"]) == 1 and "kept 199 of 200 records" in report["errors"][0]
    assert aside.read_bytes() == data
    assert_sound(directory)
    assert [payload for payload, _, _ in readable(directory)] == RECORDS[:300] + RECORDS[301:]
    assert states(directory) == ["sound"] * 5
    path.write_bytes(data)  # once more: what was kept first is not overwritten
    assert [one["kept_as"] for one in repair_segments(directory)][1] == str(path.with_suffix(".corrupt2"))
    assert aside.read_bytes() == data


def test_whatever_the_damage_all_that_was_readable_stays_and_reads_as_sound(directory, tmp_path):
    originals = {path.name: path.read_bytes() for path in directory.iterdir()}
    everything, rewritten = set(readable(directory)), 0
    for seed in range(150):
        rng = random.Random(seed)
        place = tmp_path / "damaged"
        place.mkdir()
        for name, data in originals.items():
            (place / name).write_bytes(damaged(rng, data) if rng.random() < 0.6 else data)
        before = readable(place)
        reports = repair_segments(place)
        assert sorted(readable(place)) == sorted(before), f"seed {seed}"
        assert set(before) <= everything
        assert_sound(place)
        assert set(states(place)) <= {"sound"}, f"seed {seed}"
        rewritten += sum(report["state"] == "rewritten" for report in reports)
        shutil.rmtree(place)
    assert rewritten > 100


def test_what_a_dead_process_left_open_is_closed(left_open):
    before = readable(left_open)
    assert len(before) == 900
    assert states(left_open) == ["closed"] and endings(left_open) == [".seg"]
    assert readable(left_open) == before
    assert_sound(left_open)
    assert states(left_open) == ["sound"]


def test_whole_records_in_a_torn_block_at_the_end_are_not_cut_off(left_open, tmp_path):
    """Its ring may be gone, after a restart of the machine."""
    (path,) = left_open.iterdir()
    os.truncate(path, path.stat().st_size - 40)
    before = readable(left_open)
    assert [payload for payload, _, _ in before] == RECORDS[:899]
    (report,) = repair_segments(left_open)
    assert (report["state"], report["records"], report["lost"]) == ("rewritten", 899, None)
    assert endings(left_open) == [".corrupt", ".seg"] and sorted(readable(left_open)) == sorted(before)
    assert_sound(left_open)
    assert recover(left_open, tmp_path / "ring")["state"] in ("clean", "recovered")
    assert {payload for payload, _, _ in readable(left_open)} >= set(RECORDS[:899])


def test_a_recovery_does_not_cut_again_what_a_killed_repair_had_put_in_place(left_open, tmp_path):
    (path,) = left_open.iterdir()
    os.truncate(path, path.stat().st_size - 40)
    torn = path.read_bytes()
    repair_segments(left_open)
    path.write_bytes(torn)  # killed before it removed this one
    (tmp_path / "ring").unlink()
    Log(left_open, tmp_path / "ring", capacity=1 << 16).close()  # another worker takes the slot
    assert endings(left_open) == [".corrupt", ".seg"]
    assert len(readable(left_open)) == 899
    assert_sound(left_open)


def test_an_empty_file_left_open_is_removed_and_an_unreadable_one_moved_aside(directory):
    paths = sorted(directory.glob("*.seg"))
    paths[0].write_bytes(WROTE)
    paths[1].write_bytes(b"")
    paths[2].unlink()
    paths[2].with_suffix(".open").write_bytes(b"")
    assert sorted(states(directory)) == ["removed", "sound", "sound", "unreadable", "unreadable"]
    assert paths[0].with_suffix(".corrupt").read_bytes() == WROTE
    assert endings(directory) == [".corrupt", ".corrupt", ".seg", ".seg"]
    assert len(readable(directory)) == 400


def test_the_segment_of_a_living_log_is_refused_and_goes_on(tmp_path):
    segments = tmp_path / "segments"
    with Log(segments, tmp_path / "ring", capacity=1 << 20) as log:
        push_all(log, RECORDS[:10])
        assert log.flush()
        assert states(segments) == ["in_use"] and endings(segments) == [".open"]
        push_all(log, RECORDS[10:20])
    assert [payload for payload, _, _ in readable(segments)] == RECORDS[:20]


def test_what_another_repair_is_writing_is_left_alone_and_what_a_dead_one_left_removed(directory):
    path = sorted(directory.glob("*.seg"))[0]
    data = bytearray(path.read_bytes())
    data[3000] ^= 255
    path.write_bytes(data)
    half = path.with_suffix(".repair")
    half.write_bytes(WROTE)
    with open(half, "rb+") as held:
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(held, 37, lock)  # F_OFD_SETLK
        assert states(directory)[0] == "in_use"
        assert half.read_bytes() == WROTE and path.read_bytes() == data
    assert states(directory)[0] == "rewritten" and ".repair" not in endings(directory)
    half.write_bytes(WROTE)
    assert states(directory) == ["sound"] * 5 and not half.exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the shim with")
def test_killed_at_any_system_call_a_repair_loses_nothing_and_the_next_ends_it(directory, left_open, tmp_path):
    shim = tmp_path / "kill_at.so"
    source = ROOT / "tests" / "native" / "kill_at.cpp"
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", source, "-o", shim, "-ldl"], check=True)
    for path in [*directory.glob("*.seg")][:2]:
        data = bytearray(path.read_bytes())
        data[2000] ^= 255
        path.write_bytes(data)
    (path,) = left_open.glob("*.open")
    os.truncate(path, path.stat().st_size - 40)
    before = sorted(readable(directory))
    preloaded = environment() | {"LD_PRELOAD": str(shim)}
    done = subprocess.run([sys.executable, "-c", KILLED, directory], env=preloaded, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    places = sorted(directory.parent.glob("copy*"))
    for place in places:
        assert sorted(readable(place)) == before, place.name
        repair_segments(place)
        assert sorted(readable(place)) == before, f"{place.name}, and repaired"
        assert_sound(place)
        assert not list(place.glob("*.repair"))
    assert len(places) > 20
