"""The record log under kill -9, damage and a full disk: nothing acknowledged lost, nothing twice, nothing invented."""

from __future__ import annotations

import errno
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pairec_fast.core.checksum import crc32c
from pairec_fast.core.ring import Log, Ring, recover, verify_segments
from tests.logs import assert_sound, die_after, payloads, push_all

ROOT = Path(__file__).resolve().parent.parent
SMALL = 64 << 10  # bytes, the smallest ring


@pytest.fixture
def ring_path(tmp_path):
    return tmp_path / "ring"


@pytest.fixture
def segments(tmp_path):
    return tmp_path / "segments"


# Death


def test_what_a_killed_process_pushed_is_recovered_once_however_often_recovery_runs(ring_path, segments):
    records = [b"%d" % number for number in range(1000)]

    def live() -> Log:
        log = Log(segments, ring_path, capacity=1 << 20, sync_seconds=1e6)
        push_all(log, records[:500])
        log.flush()
        push_all(log, records[500:])
        return log

    die_after(live)
    image = ring_path.read_bytes()
    assert len(list(segments.glob("*.open"))) == 1
    answer = recover(segments, ring_path)
    assert answer["state"] == "recovered" and answer["records"] + answer["repeated"] >= 500, answer
    assert recover(segments, ring_path)["state"] == "clean"
    for _ in range(3):  # as if it had died before it marked the ring clean
        ring_path.write_bytes(image)
        again = recover(segments, ring_path)
        assert again["records"] == 0 and again["repeated"] == answer["records"] + answer["repeated"]
    with Log(segments, ring_path, capacity=SMALL) as log:
        assert log.recovered["clean"] and log.counters()["pushed"] == 1000
    assert payloads(segments) == records
    assert_sound(segments)


def test_a_ring_that_ends_in_its_header_is_kept_aside(ring_path, segments):
    def live() -> Ring:
        ring = Ring(ring_path, SMALL)
        assert ring.push(b"gone")
        return ring

    die_after(live)
    ring_path.write_bytes(ring_path.read_bytes()[:100])
    assert recover(segments, ring_path)["state"] == "quarantined"
    assert not ring_path.exists() and ring_path.with_suffix(".corrupt").exists()


def test_bytes_of_an_earlier_lap_are_not_counted_as_damage(ring_path, segments):
    """Recovery looks at each place a header can be, and one in 30,000 random words looks like one from far ahead."""
    rng, counted = random.Random(7), 0
    for _ in range(40):
        filler = [rng.randbytes(7000) for _ in range(20)]

        def live(filler=filler) -> Ring:
            ring = Ring(ring_path, SMALL)
            for record in filler:
                assert ring.push(record) and ring.pop()
            assert ring.push(b"left")
            return ring

        die_after(live)
        answer = recover(segments, ring_path)
        assert answer["records"] == 1
        counted += answer["damaged"] + answer["unfinished"]
    assert counted == 0


def test_one_damaged_byte_costs_one_record_of_the_ring(ring_path, segments):
    records = [b"%03d" % number * 50 for number in range(300)]

    def live() -> Ring:
        ring = Ring(ring_path, SMALL)
        assert all(ring.push(record) for record in records)
        return ring

    die_after(live)
    image = bytearray(ring_path.read_bytes())
    image[image.find(records[100])] ^= 1  # a payload
    image[image.find(records[200]) - 3] ^= 1  # a checksum
    image[image.find(records[250]) - 6] ^= 0x40  # a length
    ring_path.write_bytes(image)
    answer = recover(segments, ring_path)
    assert answer["damaged"] == 3 and answer["records"] == 297
    assert payloads(segments) == [record for number, record in enumerate(records) if number not in (100, 200, 250)]


def test_a_header_whose_size_and_checksum_were_zeroed_is_no_empty_record(ring_path, segments):
    """The checksum of no bytes is its seed, and the first position of a ring is 0."""

    def live() -> Ring:
        ring = Ring(ring_path, SMALL)
        assert ring.push(b"first") and ring.push(b"second")
        return ring

    die_after(live)
    image = bytearray(ring_path.read_bytes())
    image[4096 + 8 : 4096 + 16] = bytes(8)
    ring_path.write_bytes(image)
    assert recover(segments, ring_path)["damaged"] == 1
    assert payloads(segments) == [b"second"]


def test_records_that_a_stray_write_copied_back_hide_none_of_those_before_them(ring_path, segments):
    records = [b"%03d" % number * 50 for number in range(300)]
    with Log(segments, ring_path, capacity=1 << 20, sync_seconds=1e6) as log:
        push_all(log, records[:150])
        assert log.flush()
        push_all(log, records[150:])
    (file,) = segments.iterdir()
    image = bytearray(file.read_bytes())
    image[64] ^= 1  # the header of the first block: its records must speak for themselves
    first, later = image.find(records[0]) - 16, image.find(records[250]) - 16
    image[first : first + 176] = image[later : later + 176]
    file.write_bytes(image)
    assert payloads(segments) == records[1:]


def test_one_damaged_record_costs_one_record_of_the_segment(ring_path, segments):
    records = [b"%03d" % number * 50 for number in range(300)]
    with Log(segments, ring_path, capacity=1 << 20) as log:
        push_all(log, records)
    (file,) = segments.iterdir()
    image = bytearray(file.read_bytes())
    image[image.find(records[100]) + 7] ^= 1
    file.write_bytes(image)
    assert payloads(segments) == records[:100] + records[101:]
    (report,) = verify_segments(segments)
    assert report["records"] == 299 and "by their own checksums" in report["errors"][0]


def test_a_record_that_was_damaged_before_its_block_was_written_is_missed_aloud(ring_path, segments):
    """Its block is whole: only the record's own checksum, and the count in the block's header, can tell."""
    records = [b"%03d" % number * 50 for number in range(300)]
    with Log(segments, ring_path, capacity=1 << 20, sync_seconds=1e6) as log:
        push_all(log, records)
    (file,) = segments.iterdir()
    image = bytearray(file.read_bytes())
    image[image.find(records[100]) + 7] ^= 1
    block = 64
    while True:  # the block it lies in
        raw_bytes = int.from_bytes(image[block + 44 : block + 48], "little")
        if image.find(records[100][8:]) < block + 80 + raw_bytes:
            break
        block += 80 + raw_bytes
    image[block + 8 : block + 12] = crc32c(image[block + 80 : block + 80 + raw_bytes]).to_bytes(4, "little")
    image[block + 4 : block + 8] = crc32c(image[block + 8 : block + 80]).to_bytes(4, "little")
    file.write_bytes(image)
    assert payloads(segments) == records[:100] + records[101:]
    (report,) = verify_segments(segments)
    assert "by their own checksums" in report["errors"][0] and len(report["errors"]) == 1


def test_a_payload_that_imitates_a_segment_is_only_a_payload(tmp_path, ring_path, segments):
    """A client that knows the format, but not the ring's name, gets no record of its own making into a reader."""
    with Log(tmp_path / "theirs", tmp_path / "their-ring", capacity=SMALL) as log:
        push_all(log, [b"forged"] * 10)
    (forged,) = (tmp_path / "theirs").iterdir()
    records = [forged.read_bytes()[64:], b"true"]
    with Log(segments, ring_path, capacity=SMALL) as log:
        push_all(log, records)
    (file,) = segments.iterdir()
    image = bytearray(file.read_bytes())
    image[64] ^= 1  # the block's header: the reader must look for records
    file.write_bytes(image)
    assert payloads(segments) == records


# A disk that says no


FULL = """
import errno, json, resource, sys, time
from pairec_fast.core.ring import Log
directory, ring = sys.argv[1:]
log = Log(directory, ring, capacity=1 << 20, sync_seconds=0.001)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
accepted = sum(log.push(b"%06d" % number * 10) for number in range(6000))
stuck = log.flush(0.5)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([accepted, stuck, log.close(30), log.counters()]))
"""


def test_a_segment_that_cannot_grow_is_left_and_written_again_elsewhere(ring_path, segments):
    """The limit on file sizes stands in for a full disk: write fails in the middle of a block."""
    command = [sys.executable, "-c", FULL, str(segments), str(ring_path)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    accepted, stuck, closed, counters = json.loads(printed)
    assert accepted == 6000 and not stuck and closed
    assert counters["errors"][errno.errorcode[errno.EFBIG]] > 0
    assert counters["flushed_records"] == 6000 and counters["used_bytes"] == 0
    assert payloads(segments) == [b"%06d" % number * 10 for number in range(6000)]
    assert not list(segments.glob("*.open"))


def test_a_disk_that_stays_full_keeps_the_records_in_the_ring(ring_path, segments):
    command = [sys.executable, "-c", FULL.replace("RLIM_INFINITY, resource", "RLIM_INFINITY and 100_000, resource")
               .replace("close(30)", "close(0.3)"), str(segments), str(ring_path)]  # fmt: skip
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    accepted, _, closed, counters = json.loads(printed)
    assert not closed and counters["used_bytes"] > 0 and counters["oldest_unsynced_seconds"] > 0.3
    answer = recover(segments, ring_path)
    assert answer["records"] > 0
    assert payloads(segments) == [b"%06d" % number * 10 for number in range(accepted)]


def test_a_ring_that_does_not_fit_says_what_it_needs(tmp_path, segments):
    mounted = tmp_path / "tiny"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tiny", mounted], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        with pytest.raises(OSError, match=r"needs 1052672 bytes, \d+ available") as caught:
            Log(segments, mounted / "ring", capacity=1 << 20)
        assert caught.value.errno == errno.ENOSPC
        # And a full segment directory: accepted records wait in the ring until there is space.
        filler = mounted / "filler"
        filler.write_bytes(bytes(64 << 10))
        log = Log(mounted / "segments", tmp_path / "ring", capacity=1 << 18, sync_seconds=0.001)
        records = [b"%06d" % number * 20 for number in range(800)]
        push_all(log, records)
        assert not log.flush(0.5) and log.counters()["errors"]["ENOSPC"] > 0
        filler.unlink()
        shutil.rmtree(mounted / "x", ignore_errors=True)
        subprocess.run(["mount", "-o", "remount,size=4m", mounted], check=True)
        assert log.close(30)
        assert payloads(mounted / "segments") == records
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)
