"""The record log: what is pushed comes out once, in order, as it was; whoever may not push is told."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pairec_fast.core.ring import Log, Ring, read_segments, recover
from pairec_fast.errors import PairecError
from tests import reference
from tests.faults import kill
from tests.logs import assert_sound, die_after, payloads, push_all

ROOT = Path(__file__).resolve().parent.parent
SMALL = 64 << 10  # bytes, the smallest ring
LARGEST = SMALL // 8 - 16  # bytes, the largest payload it takes


@pytest.fixture
def ring_path(tmp_path):
    return tmp_path / "ring"


@pytest.fixture
def segments(tmp_path):
    return tmp_path / "segments"


# The ring


def test_records_of_every_small_size_survive_many_wraps(ring_path):
    ring = Ring(ring_path, SMALL)
    rng = random.Random(1)
    for _ in range(40):
        records = [rng.randbytes(size) for size in range(101)]
        assert all(ring.push(record) for record in records)
        popped = []
        while taken := ring.pop():
            popped += taken
        assert [payload for _, payload in popped] == records
        assert all(position % 16 == 0 for position, _ in popped)
    assert ring.counters()["pushed"] == 40 * 101 and popped[-1][0] > 4 * SMALL


@pytest.mark.parametrize("first", range(0, 64, 7))
def test_records_around_the_largest_size_wrap_with_a_pad_of_any_length(ring_path, first):
    ring = Ring(ring_path, SMALL)
    assert ring.record_bytes_max == LARGEST
    rng = random.Random(first)
    assert ring.push(bytes(first)) and ring.pop()
    for size in [LARGEST, LARGEST - 1, LARGEST - 15, LARGEST - 16, LARGEST - 17, LARGEST - 4000] * 7:
        record = rng.randbytes(size)
        assert ring.push(record)
        assert [payload for _, payload in ring.pop()] == [record]
    assert not ring.push(bytes(LARGEST + 1))
    assert ring.counters()["dropped_too_large"] == 1 and ring.counters()["used_bytes"] == 0


def test_a_full_ring_refuses_and_counts_and_takes_records_again_when_popped(ring_path):
    ring = Ring(ring_path, SMALL)
    accepted = 0
    while ring.push(b"x" * 1008):
        accepted += 1
    assert accepted == SMALL // 1024
    assert not ring.push(b"y" * 1008) and not ring.push(b"")
    assert ring.counters()["dropped_full"] == 3 and ring.counters()["used_bytes"] == SMALL
    assert len(ring.pop(1)) == 1
    assert ring.push(b"z" * 1008) and not ring.push(b"")
    rest = []
    while taken := ring.pop():
        rest += [payload[:1] for _, payload in taken]
    assert rest == [b"x"] * (accepted - 1) + [b"z"]


def test_a_closed_ring_refuses_and_an_unclean_one_is_not_replaced(ring_path, segments):
    ring = Ring(ring_path, SMALL)
    assert ring.push(b"left")
    ring.close()
    ring.close()
    assert not ring.push(b"late") and ring.counters()["dropped_closed"] == 1
    with pytest.raises(PairecError, match="recover"):
        Ring(ring_path, SMALL)
    assert recover(segments, ring_path)["records"] == 1
    assert payloads(segments) == [b"left"]
    assert Ring(ring_path, SMALL).counters()["pushed"] == 1  # counters go on


def test_whatever_is_bytes_like_can_be_pushed_and_nothing_else(ring_path):
    ring = Ring(ring_path, SMALL)
    for record in (b"", bytearray(b"\0\xff"), memoryview(b"abcdef")[1:3], mmap.mmap(-1, 4096)):
        assert ring.push(record)
    assert [payload for _, payload in ring.pop()] == [b"", b"\0\xff", b"bc", bytes(4096)]
    for wrong in (None, "text", 5, memoryview(b"abcdef")[::2]):
        with pytest.raises((TypeError, BufferError)):
            ring.push(wrong)
    assert ring.counters()["pushed"] == 4


# The log


def test_close_drains_everything_into_closed_segments_and_is_idempotent(ring_path, segments):
    rng = random.Random(2)
    records = [rng.randbytes(rng.choice((0, 1, 15, 16, 17, 300, LARGEST))) for _ in range(3000)]
    log = Log(segments, ring_path, capacity=SMALL, sync_seconds=0.001)
    push_all(log, records)
    assert log.close() and log.close()
    assert not log.push(b"late")
    assert payloads(segments) == records
    assert_sound(segments)
    counters = log.counters()
    assert counters["flushed_records"] == counters["pushed"] == len(records)
    assert counters["flushed_bytes"] == counters["pushed_bytes"] == sum(map(len, records))
    assert counters["used_bytes"] == 0 and counters["oldest_unsynced_seconds"] == 0 and counters["errors"] == {}
    assert ring_path.stat().st_size == 4096
    assert recover(segments, ring_path)["state"] == "clean"


def test_the_reader_agrees_with_the_plain_one(ring_path, segments):
    rng = random.Random(3)
    with Log(segments, ring_path, capacity=1 << 20) as log:
        push_all(log, [rng.randbytes(size) for size in range(600)])
        ring_id = log.ring_id
    (file,) = segments.iterdir()
    plain = reference.read_segment(file.read_bytes())
    assert [(payload, ring, position) for ring, position, payload in plain] == list(read_segments(segments))
    assert {ring for ring, _, _ in plain} == {ring_id} and len(plain) == 600


def test_two_threads_and_the_flush_thread_keep_every_record_once_and_in_order(ring_path, segments):
    log = Log(segments, ring_path, capacity=1 << 18, rotate_bytes=1 << 20, sync_seconds=0.002)

    def push(thread: int) -> None:
        push_all(log, [kill.record(0, thread, number, number % 400) for number in range(20_000)])

    threads = [threading.Thread(target=push, args=(thread,)) for thread in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.close()
    numbers: list[list[int]] = [[], []]
    for payload in payloads(segments):
        _, thread, number = kill.parse(payload)
        numbers[thread].append(number)
    assert numbers == [list(range(20_000))] * 2
    assert log.counters()["segments_closed"] == len(list(segments.iterdir())) > 5
    assert_sound(segments)


def test_segments_turn_over_by_size_and_by_age_and_on_request(ring_path, segments):
    log = Log(segments, ring_path, capacity=1 << 20, rotate_bytes=1 << 16, rotate_seconds=0.3)
    push_all(log, [bytes(1000)] * 500)
    assert log.flush()
    closed = sorted(segments.glob("*.seg"))
    assert len(closed) >= 7 and all(file.stat().st_size <= (1 << 16) + 1200 for file in closed)
    deadline = time.monotonic() + 10
    while list(segments.glob("*.open")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not list(segments.glob("*.open")), "the last one was to be closed by age"
    before = len(list(segments.glob("*.seg")))
    assert log.push(b"one more") and log.rotate() and log.rotate()
    assert len(list(segments.glob("*.seg"))) == before + 1
    assert log.close() and len(list(segments.iterdir())) == before + 1
    assert len(payloads(segments)) == 501


def test_positions_say_what_was_pushed_and_how_far_it_is_safe(ring_path, segments):
    with Log(segments, ring_path, capacity=1 << 20, sync_seconds=1e6) as log:
        assert log.tail == log.synced == log.delivered == 0
        assert log.push(bytes(100)) and log.tail == 128  # header and padding included
        time.sleep(0.1)
        assert log.synced == log.delivered == 0, "written perhaps, but no fdatasync was due"
        assert log.push(b"") and log.tail == 144
        assert log.flush() and log.synced == log.delivered == log.tail
        assert [position for _, _, position in read_segments(segments)] == [0, 128]


def test_no_record_makes_no_file_and_files_are_private(ring_path, segments):
    with Log(segments, ring_path, capacity=SMALL) as log:
        assert log.flush() and log.rotate()
        assert list(segments.iterdir()) == []
        assert log.push(b"secret") and log.flush()
        (file,) = segments.iterdir()
        assert file.name == f"log-0-{log.ring_id:016x}-000000000000.open"
        assert file.stat().st_mode & 0o777 == 0o600 == ring_path.stat().st_mode & 0o777
        assert segments.stat().st_mode & 0o777 == 0o700
        assert payloads(segments) == [b"secret"], "an open segment can be read"
    assert [path.name for path in segments.iterdir()] == [file.name.replace(".open", ".seg")]


def test_a_second_owner_is_refused_and_changes_nothing(ring_path, segments):
    with Log(segments, ring_path, capacity=SMALL) as log:
        assert log.push(b"mine")
        with pytest.raises(PairecError, match=rf"owned by another process \(pid {os.getpid()}\)"):
            Log(segments, ring_path, capacity=SMALL)
        assert recover(segments, ring_path)["state"] == "locked"
        assert log.push(b"still")
    assert payloads(segments) == [b"mine", b"still"]
    with Log(segments, ring_path, capacity=1 << 17) as log:  # free again, and of another size
        assert log.push(b"after")
    assert payloads(segments) == [b"mine", b"still", b"after"]


def test_another_ring_of_the_same_slot_does_not_touch_a_live_segment(tmp_path, segments):
    with Log(segments, tmp_path / "a", capacity=SMALL) as first:
        assert first.push(b"a") and first.flush()
        with Log(segments, tmp_path / "b", capacity=SMALL) as second:
            assert "live process" in second.recovered["errors"][0]
        assert first.push(b"b")
    assert payloads(segments) == [b"a", b"b"]
    assert_sound(segments)


def test_a_forked_child_is_refused_and_hurts_nobody(ring_path, segments):
    log = Log(segments, ring_path, capacity=SMALL)
    answers = mmap.mmap(-1, 4)

    def child() -> None:
        answers[0] = 1 + log.push(b"of the child")
        answers[1] = 1 + log.close()
        try:
            log.flush()
        except PairecError:
            answers[2] = 1
        log.__init__  # noqa: B018 - still an object
        answers[3] = 1

    _, status = os.waitpid(kill.in_child(child), 0)
    assert status == 0 and bytes(answers) == b"\1\1\1\1"
    assert log.push(b"of the parent") and log.close()
    assert payloads(segments) == [b"of the parent"] and log.counters()["dropped_closed"] == 1


def test_a_child_that_outlives_its_parent_does_not_keep_the_ring(ring_path, segments):
    """Locks belong to open file descriptions, and a fork copies descriptors and mappings alike."""
    report, reported = os.pipe()

    def parent() -> Log:
        log = Log(segments, ring_path, capacity=SMALL)
        assert log.push(b"orphaned") and log.flush()
        child = kill.in_child(lambda: time.sleep(30))
        os.write(reported, child.to_bytes(4, "little"))
        return log

    die_after(parent)
    child = int.from_bytes(os.read(report, 4), "little")
    try:
        assert recover(segments, ring_path)["state"] == "recovered"
    finally:
        os.kill(child, signal.SIGKILL)
    assert payloads(segments) == [b"orphaned"]
    assert_sound(segments)


def test_wrong_arguments_are_named(tmp_path, ring_path, segments):
    for keywords, message in [
        ({"capacity": 1000}, "capacity must be a power of two from 65536"),
        ({"capacity": 3 << 20}, "got 3145728"),
        ({"slot": -1}, "slot must be"),
        ({"sink": "a-b"}, "sink must be"),
        ({"rotate_bytes": 1}, "rotate_bytes must be"),
        ({"sync_seconds": -1}, "sync_seconds must be"),
        ({"rotate_seconds": float("nan")}, "rotate_seconds must be"),
        ({"retain_bytes": -1}, "retain_bytes must be"),
        ({"retain_seconds": -1}, "retain_seconds must be"),
        ({"free_bytes_min": 1 << 63}, "free_bytes_min must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            Log(segments, ring_path, **keywords)
    with pytest.raises(FileNotFoundError, match="cannot open ring"):
        Log(segments, tmp_path / "nowhere" / "ring")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        Log(tmp_path / "file", ring_path)
    with pytest.raises(FileNotFoundError):
        read_segments(tmp_path / "nowhere")
    assert recover(segments, tmp_path / "nothing")["state"] == "absent"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the soak with")
def test_thread_sanitizer_finds_nothing_in_a_soak(tmp_path):
    names = ["file", "ring", "segment", "segment_directory", "recover", "retain", "thread", "flush"]
    unit = tmp_path / "soak.cpp"  # one unit: the standard headers are most of the work
    sources = [*(ROOT / "csrc" / f"{name}.cpp" for name in names), ROOT / "tests" / "native" / "ring_soak.cpp"]
    unit.write_text("".join(f'#include "{source}"\n' for source in sources))
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", "-pthread", f"-I{ROOT / 'csrc'}"]
    build = ["g++", *flags, unit, "-o", tmp_path / "soak"]
    built = subprocess.run(build, capture_output=True, text=True)
    if built.returncode and "tsan" in built.stderr:
        pytest.skip("this g++ has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    command = [tmp_path / "soak", tmp_path / "segments", "5000"]
    if shutil.which("setarch"):
        command = ["setarch", "-R", *command]  # some kernels place memory where this sanitizer cannot follow
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in run.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert run.returncode == 0 and "WARNING" not in run.stderr, run.stderr[:5000]
