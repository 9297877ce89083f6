"""What the log refuses leaves a gap among the records: how many, why, and between which positions."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from pairec_fast.core.ring import Log, Ring, is_gap_record, read_segments, recover, verify_segments
from tests.logs import assert_sound, die_after, payloads

SMALL = 64 << 10  # bytes, the smallest ring


@pytest.fixture
def ring_path(tmp_path):
    return tmp_path / "ring"


@pytest.fixture
def segments(tmp_path):
    return tmp_path / "segments"


def gaps(directory) -> list[tuple[int, dict]]:
    """Position and content of each gap."""
    return [
        (position, msgspec.msgpack.decode(payload))
        for payload, _, position in read_segments(directory, gaps=True)
        if is_gap_record(payload)
    ]


def overrun(log, refusals: int) -> int:
    """Push numbered records faster than they are flushed, until so many were refused. Answers how many were pushed."""
    refused = number = 0
    while refused < refusals:
        refused += not log.push(b"%08d" % number * 200)
        number += 1
    return number


def test_gaps_tell_how_many_records_are_missing_and_where(ring_path, segments):
    log = Log(segments, ring_path, capacity=SMALL, sync_seconds=0.001)
    pushed = 0
    for turn in range(20):
        base = pushed
        refused = 0
        while refused < 7 + turn:
            refused += not log.push(b"%08d" % pushed * 200)
            pushed += 1
        assert pushed > base and log.flush()
    assert log.close()
    counters = log.counters()
    accepted = [(int(payload[:8]), position) for payload, _, position in read_segments(segments)]
    assert counters["dropped_full"] == pushed - len(accepted) == sum(range(7, 27))
    found = gaps(segments)
    assert sum(gap["dropped"] for _, gap in found) == counters["dropped_full"]
    for position, gap in found:
        assert list(gap) == ["gap_from", "gap_to", "dropped", "reason"] and gap["reason"] == "full"
        assert gap["gap_from"] <= gap["gap_to"] == position
    for (number, before), (following, after) in pairwise(accepted):
        if following != number + 1:
            assert any(gap["gap_from"] <= after and before < gap["gap_to"] for _, gap in found), number
    assert counters["flushed_records"] == counters["accepted"] == len(accepted), "a gap is no record"
    assert_sound(segments)
    assert sum(report["records"] for report in verify_segments(segments)) == len(accepted)
    assert sum(report["dropped"] for report in verify_segments(segments)) == counters["dropped_full"]


def test_a_refusal_just_before_the_end_is_told_although_the_ring_is_closed(ring_path, segments):
    log = Log(segments, ring_path, capacity=SMALL, sync_seconds=0.001)
    number = overrun(log, 3)
    assert log.close()
    assert sum(gap["dropped"] for _, gap in gaps(segments)) == 3 == number - len(payloads(segments))
    assert recover(segments, ring_path)["state"] == "clean"


def test_a_record_that_is_too_large_leaves_a_gap_with_that_reason(ring_path, segments):
    with Log(segments, ring_path, capacity=SMALL) as log:
        assert log.push(b"before") and not log.push(bytes(SMALL)) and not log.push(bytes(SMALL)) and log.push(b"after")
    assert payloads(segments) == [b"before", b"after"]
    told = [gap for _, gap in gaps(segments)]
    assert sum(gap["dropped"] for gap in told) == 2 and {gap["reason"] for gap in told} == {"too_large"}
    assert told[0]["gap_from"] == 32


def test_whoever_asks_again_leaves_no_gap(ring_path, segments):
    log = Log(segments, ring_path, capacity=SMALL, sync_seconds=0.001)
    records, refused = [b"%08d" % number * 200 for number in range(400)], 0
    for record in records:
        while not log.try_push(record):
            refused += 1
    assert log.close() and refused > 0
    assert log.counters()["dropped_full"] == 0 and gaps(segments) == []
    assert payloads(segments) == records
    assert log.counters()["high_water_bytes"] > SMALL - 2000, "the fullest it was"


def test_refusals_that_a_killed_process_did_not_tell_are_told_by_the_next_owner(ring_path, segments):
    def live() -> Ring:  # has no flush thread, so that nothing is told
        ring = Ring(ring_path, SMALL)
        overrun(ring, 5)
        return ring

    die_after(live)
    with Log(segments, ring_path, capacity=SMALL) as log:
        assert log.recovered["records"] == len(payloads(segments)) > 0 and log.counters()["dropped_full"] == 5
    assert [gap["dropped"] for _, gap in gaps(segments)] == [5]
    with Log(segments, ring_path, capacity=SMALL):
        pass
    assert len(gaps(segments)) == 1, "and only once"


def test_recovered_gaps_are_not_counted_as_records(ring_path, segments):
    def live() -> Log:
        log = Log(segments, ring_path, capacity=SMALL, sync_seconds=1e6)
        overrun(log, 5)
        while not gaps(segments):
            log.flush()
        overrun(log, 5)
        return log

    die_after(live)
    before = len(payloads(segments))
    answer = recover(segments, ring_path)
    assert answer["records"] == len(payloads(segments)) - before
    with Log(segments, ring_path, capacity=SMALL):
        pass
    assert sum(gap["dropped"] for _, gap in gaps(segments)) == 10


# A ring without a file


def test_a_ring_in_memory_writes_the_same_segments_and_leaves_no_file(tmp_path, segments):
    records = [b"%06d" % number * (number % 50) for number in range(1, 3000)]
    with Log(segments, None, capacity=SMALL, sync_seconds=0.001) as log:
        for record in records:
            while not log.try_push(record):
                pass
    assert payloads(segments) == records and log.counters()["in_ring"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["segments"]
    assert_sound(segments)


def test_a_ring_in_memory_dies_with_its_process_and_the_next_closes_what_it_had_open(segments):
    def live() -> Log:
        log = Log(segments, None, capacity=1 << 20, sync_seconds=1e6)
        assert log.push(b"flushed") and log.flush() and log.push(b"lost")
        return log

    with Log(segments, None, capacity=SMALL) as alive:
        assert alive.push(b"mine") and alive.flush()
        die_after(live)
        assert len(list(segments.glob("*.open"))) == 2
        with Log(segments, None, capacity=SMALL) as log:
            assert log.recovered["repaired"] == 1 and log.recovered["errors"] == []
        assert len(list(segments.glob("*.open"))) == 1, "that of the living"
    assert set(payloads(segments)) in (
        {b"mine", b"flushed"},
        {b"mine", b"flushed", b"lost"},
    )  # as far as it was written
    assert_sound(segments)
