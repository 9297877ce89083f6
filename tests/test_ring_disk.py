"""What the flush thread keeps of the disk and tells of itself: retention, free space, holes, a heartbeat."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
import time

import pytest

from pairec_fast.callback import Record, encode
from pairec_fast.core.checksum import crc32c
from pairec_fast.core.ring import Log, ring_has_owner
from pairec_fast.sink.disk import open_log, recover_all
from tests.logs import assert_sound, die_after, payloads, push_all
from tests.servers import Server
from tests.worlds import CALLBACK, LOGGED

SMALL = 64 << 10  # bytes, the smallest ring


@pytest.fixture
def ring_path(tmp_path):
    return tmp_path / "ring"


@pytest.fixture
def segments(tmp_path):
    return tmp_path / "segments"


def until(true, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.glob("*.seg"))


# Retention


def test_the_oldest_segments_go_when_there_are_too_many_bytes_and_nothing_else_does(ring_path, segments):
    segments.mkdir(mode=0o700)
    others = ["other-0-0000000000000010-000000000000.seg", "log-0-0000000000000010-000000000000.corrupt", "log-x.txt"]
    for name in others:
        (segments / name).write_bytes(bytes(100_000))
        os.utime(segments / name, (0, 0))
    ancient = segments / "log-7-0000000000000010-000000000000.seg"  # of another ring, whose worker is long gone
    ancient.write_bytes(bytes(1000))
    os.utime(ancient, (1, 1))
    log = Log(segments, ring_path, capacity=1 << 20, rotate_bytes=1 << 16, retain_bytes=300_000)
    pushed = [b"%06d" % number * 100 for number in range(3000)]
    push_all(log, pushed)
    assert log.rotate() and log.push(b"last")
    until(lambda: sum(path.stat().st_size for path in segments.glob("log-*.seg")) <= 300_000)
    assert not ancient.exists() and all((segments / name).exists() for name in others)
    counters = log.counters()
    assert counters["segments_removed"] > 10 and counters["removed_bytes"] > 1_000_000
    assert log.close()
    kept = payloads(segments)
    assert 300 < len(kept) < 600 and kept == [*pushed, b"last"][-len(kept) :], "the newest, without a hole"


def test_segments_go_when_they_are_old_and_not_before(ring_path, segments):
    with Log(segments, ring_path, capacity=SMALL, retain_seconds=3600) as log:
        for number in range(3):
            assert log.push(b"%d" % number) and log.rotate()
        first, second, third = names(segments)
        old = time.time() - 3601
        os.utime(segments / first, (old, old))
        os.utime(segments / second, (old + 60, old + 60))
        assert log.push(b"3") and log.rotate()  # so that the thread looks
        until(lambda: not (segments / first).exists())
        assert {second, third} <= set(names(segments))
        assert log.counters()["segments_removed"] == 1
    assert payloads(segments) == [b"1", b"2", b"3"]


def test_without_bounds_nothing_is_removed(ring_path, segments):
    with Log(segments, ring_path, capacity=SMALL) as log:
        for number in range(5):
            assert log.push(b"%d" % number) and log.rotate()
            os.utime(segments / names(segments)[0], (0, 0))
        time.sleep(0.3)
        assert len(names(segments)) == 5 and log.counters()["segments_removed"] == 0


# Free space


@pytest.fixture
def tiny(tmp_path):
    """A file system of 4 MiB."""
    mounted = tmp_path / "tiny"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tiny", mounted], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def test_under_the_mark_records_wait_in_the_ring_and_are_written_when_there_is_space(tiny, ring_path):
    segments, records = tiny / "segments", [b"%06d" % number * 20 for number in range(300)]
    log = Log(segments, ring_path, capacity=1 << 18, sync_seconds=0.001, free_bytes_min=2 << 20)
    push_all(log, records[:100])
    assert log.flush() and log.counters()["low_water"] == 0 and log.counters()["free_bytes"] > 2 << 20
    filler = tiny / "filler"
    filler.write_bytes(bytes(5 << 19))
    until(lambda: log.counters()["low_water"] == 1)
    push_all(log, records[100:])
    written = sum(path.stat().st_size for path in segments.iterdir())
    assert not log.flush(0.4) and log.counters()["errors"] == {}
    assert sum(path.stat().st_size for path in segments.iterdir()) == written
    assert log.counters()["in_ring"] == 200 and log.counters()["low_water_times"] == 1
    while log.push(bytes(1000)):  # then the ring's own policy
        pass
    assert log.counters()["dropped_full"] == 1
    filler.unlink()
    assert log.flush() and log.counters()["low_water"] == 0
    assert log.close() and payloads(segments)[:300] == records


def test_what_was_accepted_is_written_at_the_end_although_little_is_free(tiny, ring_path):
    log = Log(tiny / "segments", ring_path, capacity=SMALL, free_bytes_min=1 << 40)
    until(lambda: log.counters()["low_water"] == 1)
    assert log.push(b"waits") and not log.flush(0.2) and payloads(tiny / "segments") == []
    assert log.close(5) and payloads(tiny / "segments") == [b"waits"]


def test_the_mark_of_a_small_disk_is_a_twentieth_of_it(tiny, ring_path):
    with Log(tiny / "segments", ring_path, capacity=SMALL, free_bytes_min=None) as log:
        until(lambda: log.counters()["free_bytes"])
        assert log.counters()["low_water"] == 0
        (tiny / "filler").write_bytes(bytes((4 << 20) * 97 // 100))
        until(lambda: log.counters()["low_water"] == 1)
        assert log.counters()["free_bytes"] < (4 << 20) // 20


def open_datahub(segments, rings):
    pytest.importorskip("datahub")
    from pairec_fast.sink.datahub import open_log
    from pairec_fast.sink.topic import Target

    place = Target("id", "key", "http://127.0.0.1:9", "project", "topic", "", ())
    return open_log(segments, rings, place, ring_bytes=1 << 18, segment_bytes=1 << 20, segment_seconds=60,
                       sync_seconds=0.01, free_bytes_min=0)  # fmt: skip


def open_kafka(segments, rings):
    pytest.importorskip("confluent_kafka")
    from pairec_fast.sink.kafka import open_log

    return open_log(segments, rings, servers="127.0.0.1:9", topic="t", properties={}, ring_bytes=1 << 18,
                    sync_seconds=0.01)  # fmt: skip


def open_disk(segments, rings):
    return open_log(segments, rings, ring_bytes=1 << 18, segment_bytes=1 << 20, segment_seconds=60, sync_seconds=0.01,
                    free_bytes_min=0)  # fmt: skip


@pytest.mark.parametrize(
    ("opened", "sink"), [(open_disk, "log"), (open_datahub, "log"), (open_kafka, "kafka_spill")],
    ids=["disk", "datahub", "kafka"],
)  # fmt: skip
def test_a_ring_that_a_full_disk_does_not_take_is_left_and_the_next_one_serves(tiny, tmp_path, opened, sink):
    """Of two that died one can be written out when there is space for it: the other's trouble does not keep it."""
    segments, rings = tiny / "segments", tmp_path / "rings"
    segments.mkdir()
    rings.mkdir()

    def live(ring, count):
        log = Log(tmp_path / "elsewhere", rings / ring, capacity=1 << 18, free_bytes_min=1 << 40)
        until(lambda: log.counters()["low_water"] == 1)  # nothing is written
        assert all(log.push(bytes(1000)) for _ in range(count))
        return log

    die_after(lambda: live("0.ring", 150))
    die_after(lambda: live("7.ring", 1))
    filler = tiny / "filler"
    filler.write_bytes(bytes((4 << 20) - (64 << 10)))
    log = opened(segments, rings)
    assert log.push(encode(Record("s", "r", 7, "u", {}, {}, []))), "and takes callbacks"
    assert (rings / "0.ring").stat().st_size > 1 << 18 and ring_has_owner(rings / "1.ring")

    def refused():
        """Not while the sink's own thread looks at the ring: that is left to it."""
        try:
            recover_all(segments, rings, sink)
        except OSError:
            return True
        return False

    until(refused)
    assert (rings / "7.ring").stat().st_size == 4096, "the other is written out"
    filler.unlink()
    assert recover_all(segments, rings, sink) == 150
    log.close(2)


def test_a_server_on_a_full_disk_serves_and_says_that_it_is_degraded(world, tiny):
    world.conf["DiskConfs"]["log"]["Directory"] = str(tiny / "log")
    (tiny / "filler").write_bytes(bytes((4 << 20) * 97 // 100))
    with Server(world) as server:
        until(lambda: server.ask("/readyz")[1].startswith(b"degraded: log log: only "))
        assert server.ask("/readyz")[0] == 200
        assert server.ask(CALLBACK, LOGGED)[0] == 200
        assert b"pairec_segment_low_water 1\n" in server.ask("/metrics")[1]
        (tiny / "filler").unlink()
        until(lambda: server.ask("/readyz")[1] == b"ready")


# Holes, heartbeat


def test_a_push_that_does_not_return_is_told_and_never_skipped(ring_path, segments):
    """Written into the ring's file as a thread would leave it that was stopped between reserving and committing."""
    log = Log(segments, ring_path, capacity=SMALL, sync_seconds=0.001)
    assert log.push(b"before") and log.flush() and log.counters()["hole_age_seconds"] == 0
    with ring_path.open("r+b") as file:
        at, payload = log.tail, b"stuck"
        file.seek(64)
        file.write(struct.pack("<Q", at + 32))  # the tail
        file.flush()
        assert log.push(b"behind")
        until(lambda: log.counters()["hole_age_seconds"] > 0.2)
        assert not log.flush(0.2) and payloads(segments) == [b"before"]
        assert log.counters()["hole_age_seconds"] > 0.4 and log.counters()["in_ring"] == 1
        checksum = crc32c(payload, (at & 0xFFFFFFFF) ^ ((len(payload) + 1) * 0x9E3779B1 & 0xFFFFFFFF))
        file.seek(4096 + at + 8)
        file.write(struct.pack("<II", len(payload), checksum) + payload)
        file.flush()
        file.seek(4096 + at)
        file.write(struct.pack("<Q", (at ^ log.ring_id) | 2))  # it returns
    assert log.flush() and log.counters()["hole_age_seconds"] == 0
    assert log.close() and payloads(segments) == [b"before", b"stuck", b"behind"]
    assert_sound(segments)


def test_the_flush_thread_beats_also_when_idle_and_stands_behind_the_others(ring_path, segments):
    with Log(segments, ring_path, capacity=SMALL) as log:
        for _ in range(20):
            assert log.counters()["heartbeat_seconds"] < 1.5
            time.sleep(0.01)
        assert log.push(b"x") and log.flush()
        counters = log.counters()
        assert counters["fdatasync_count"] == 1
        assert 0 < counters["fdatasync_seconds_sum"] == counters["fdatasync_seconds_max"] < 10
        threads = {}
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/stat") as stat:
                name, _, fields = stat.read().partition("(")[2].rpartition(")")
                threads[name] = int(fields.split()[16])
        assert threads["pairec-flush"] == min(19, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) + 5)
