"""Segments one by one: the order of delivery, what each holds, and what the footer says."""

from __future__ import annotations

import os

import pytest

from pairec_fast.core import Log, list_segments
from tests.logs import push_all


def test_segments_come_in_order_and_each_gives_its_own_records(tmp_path):
    with Log(tmp_path, tmp_path / "ring", slot=7) as log:
        for part in ("a", "bb", "ccc"):
            push_all(log, [part.encode() * (at + 1) for at in range(5)])
            assert log.rotate()
        ring_id = log.ring_id
        segments = list_segments(tmp_path)
        assert [segment.sequence for segment in segments] == [0, 1, 2]
        assert {(segment.slot, segment.ring_id, segment.closed) for segment in segments} == {(7, ring_id, True)}
        assert [segment.record_count() for segment in segments] == [5, 5, 5]
        position = 0
        for segment, part in zip(segments, ("a", "bb", "ccc"), strict=True):
            for at, (payload, begin, end) in enumerate(segment.read()):
                assert payload == part.encode() * (at + 1) and begin == position
                position = end
        assert position == log.tail == log.synced


def test_an_open_segment_is_listed_as_open_and_without_a_count(tmp_path):
    with Log(tmp_path, tmp_path / "ring") as log:
        push_all(log, [b"x"])
        assert log.flush()
        (segment,) = list_segments(tmp_path)
        assert not segment.closed and segment.record_count() == 0
        assert [payload for payload, _, _ in segment.read()] == [b"x"]


def test_damage_is_told_after_the_last_record(tmp_path):
    with Log(tmp_path, tmp_path / "ring") as log:
        push_all(log, [bytes([at]) * 100 for at in range(20)])
    (segment,) = list_segments(tmp_path)
    with open(segment.file, "r+b") as file:
        file.seek(500)
        file.write(b"\xff" * 8)
    records = segment.read()
    found = [payload[0] for payload, _, _ in records]
    assert len(found) == 19 and found == sorted(found)
    assert len(records.errors) == 1 and "damage" in records.errors[0]


def test_a_segment_that_is_gone_is_an_error_and_another_sinks_is_not_listed(tmp_path):
    with Log(tmp_path, tmp_path / "ring", sink="other") as log:
        push_all(log, [b"x"])
    assert list_segments(tmp_path) == []
    (segment,) = list_segments(tmp_path, "other")
    os.unlink(segment.file)
    with pytest.raises(FileNotFoundError, match=os.path.basename(segment.file)):
        segment.read()
    with pytest.raises(ValueError, match="sink"):
        list_segments(tmp_path, "a-b")
    with pytest.raises(FileNotFoundError):
        list_segments(tmp_path / "absent")
