"""The DataHub sink against a server that speaks its protocol: typed, in order, nothing lost, poison set aside."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from decimal import Decimal

import msgspec
import pytest

from pairec_fast.callback import Record, encode
from pairec_fast.core import list_segments
from pairec_fast.sink.delivery import Delivery
from pairec_fast.sink.topic import Encoded, Row, Topic, Trouble
from pairec_fast.sink.tuples import PUBLIC, TYPES, Column, Tuples
from tests.datahubs import (
    NAMES,
    QUICK,
    assert_law,
    by_user,
    needs_client,
    opened,
    push,
    read_back,
    record,
    request_numbers,
    rows,
    target,
    wait_delivered,
    wait_for,
)
from tests.faults import datahub as faults
from tests.faults.kill import in_child
from tests.services.datahub import ACCESS_ID, ACCESS_KEY, PROJECT, DatahubServer

needs_client()


@pytest.fixture
def server():
    with DatahubServer() as server:
        yield server


def test_the_official_client_reads_back_what_it_has_put(server):
    """What the client does by itself, so that the server here is no mirror of the sink."""
    from datahub.models import CursorType, FieldType, RecordSchema, TupleRecord

    values = ["text", None, -(2**63), 0.1, 2**31 - 1, True, 1_700_000_000_000_000]
    types = ("STRING", "STRING", "BIGINT", "DOUBLE", "INTEGER", "BOOLEAN", "TIMESTAMP")
    schema = RecordSchema.from_lists([f"f{at}" for at in range(7)], [FieldType[kind] for kind in types])
    for json_protocol in (False, True):
        client, topic = server.client(json_protocol=json_protocol), f"t{json_protocol}"
        client.create_tuple_topic(PROJECT, topic, 3, 3, schema, "")
        client.wait_shards_ready(PROJECT, topic)
        written = TupleRecord(schema=schema, values=values)
        written.shard_id, written.attributes = "2", {"key": "value"}
        assert client.put_records(PROJECT, topic, [written, written]).failed_record_count == 0
        cursor = client.get_cursor(PROJECT, topic, "2", CursorType.OLDEST).cursor
        back = client.get_tuple_records(PROJECT, topic, "2", schema, cursor, 10).records
        read = values if json_protocol else ["text", "", *values[2:]]  # by protobuf the client reads null texts as ""
        assert [list(entry.values) for entry in back] == [read, read]
        assert [entry.attributes for entry in back] == [{"key": "value"}] * 2


def test_the_server_refuses_a_signature_by_another_key(server):
    from datahub.exceptions import AuthorizationFailedException

    with pytest.raises(AuthorizationFailedException):
        server.client("another key").get_topic(PROJECT, "log")


def test_rows_read_back_by_the_official_client_equal_the_expanded_rows_typed(server, tmp_path):
    columns = (*PUBLIC, *NAMES, Column("absent", "double"))
    payloads = [record(number, items=number % 4, text="ä<>&\u2028\n\0", big=2**63) for number in range(40)]
    with opened(tmp_path, target(server, *columns)) as log:
        push(log, payloads)
        wait_delivered(log)
        ring_id = f"{log.ring_id:016x}"
        assert_law(log, 40)
    back = read_back(server)
    tuples, expected, position = Tuples(columns), {}, 0
    for payload in payloads:
        for at, row in enumerate(rows(payload)):
            names = {"ring_id": ring_id, "ring_position": position, "ring_row": at}
            expected[position, at] = tuples.values(names | row)
        position += 16 + (len(payload) + 15) // 16 * 16
    found = {(entry.get_value("ring_position"), entry.get_value("ring_row")): list(entry.values) for entry in back}
    assert len(back) == len(found) and found == expected
    assert {entry.attributes["ring_position"] for entry in back} == {str(position) for position, _ in expected}
    assert all(entry.get_value("absent") is None for entry in back)


def test_a_row_is_encoded_as_the_official_record_is(server):
    """The sink leaves the client's record class aside, for its time; its bytes must stay the same."""
    from datahub.models import FieldType, RecordSchema, TupleRecord

    values = {
        "string": ["", "ä\0", "x"], "tinyint": [-128], "smallint": [0], "integer": [7], "bigint": [2**63 - 1],
        "double": [0.1, 1e300, -0.0, 5e-324], "float": [0.5, 0.10000000149011612], "timestamp": [1],
        "boolean": [True, False], "decimal": [Decimal("1.10"), Decimal("1E+5")],
    }  # fmt: skip
    assert set(values) == set(TYPES)
    for kind, given in values.items():
        schema = RecordSchema.from_lists(["a", "b"], [FieldType(kind), FieldType("string")])
        for value in [*given, None]:
            record = TupleRecord(schema=schema, values=[value, None])
            record.shard_id, record.attributes = "3", {"ring_row": "1"}
            ours = Encoded(Row([value, None], "u", {"ring_row": "1"}), "3", (0,) if kind == "boolean" else ())
            assert ours.to_pb_record_entry() == record.to_pb_record_entry()


def test_the_topic_is_made_on_demand_with_types_six_shards_and_three_days(server, tmp_path):
    columns = (Column("request_id", "string"), Column("request_time", "timestamp"), Column("score", "double"))
    with opened(tmp_path, target(server, *columns)) as log:
        push(log, [record(1)])
        wait_delivered(log)
    topic = server.client().get_topic(PROJECT, "log")
    assert (topic.shard_count, topic.life_cycle, topic.record_type.value) == (6, 3, "TUPLE")
    assert [(field.name, field.type.value) for field in topic.record_schema.field_list] == [
        (column.name, column.type) for column in columns
    ]


def test_without_schemas_the_topic_has_the_public_columns(server, tmp_path):
    with opened(tmp_path, target(server)) as log:
        push(log, [record(1)])
        wait_delivered(log)
    found = [(name, kind) for name, kind, _ in server.topic(PROJECT, "log").fields]
    assert found == [(column.name, column.type) for column in PUBLIC]


def test_the_schema_of_a_topic_that_is_there_counts_and_the_difference_is_said(server, tmp_path, caplog):
    from datahub.models import FieldType, RecordSchema

    schema = RecordSchema.from_lists(["request_id", "request_time"], [FieldType.STRING, FieldType.STRING])
    server.client().create_tuple_topic(PROJECT, "log", 2, 3, schema, "")
    with opened(tmp_path, target(server, *PUBLIC)) as log:
        push(log, [record(5, items=0)])
        wait_delivered(log)
    (row,) = server.rows("log")
    assert (row["request_id"], row["request_time"]) == ("r5", "1700000005")
    assert "request_time is string, configured integer" in caplog.text and "scene is missing" in caplog.text


def test_records_spread_over_shards_and_each_user_keeps_the_order(server, tmp_path):
    with opened(tmp_path, target(server)) as log:
        push(log, map(record, range(300)))
        wait_delivered(log)
    used = [shard for shard, records in server.topic(PROJECT, "log").records.items() if records]
    assert len(used) >= 3
    for user, numbers in by_user(request_numbers(server)).items():
        assert numbers == list(range(user, 300, 7))


def test_a_closed_shard_is_left_for_the_active_ones(server, tmp_path):
    with opened(tmp_path, target(server)) as log:
        push(log, map(record, range(20)))
        wait_delivered(log)
        topic = server.topic(PROJECT, "log")
        for shard in "012":
            topic.shards[shard] = "CLOSED"
        push(log, map(record, range(20, 60)))
        wait_delivered(log)
        assert log.counters()["errors"] == {"InvalidShardOperation": 1}
    assert sorted(request_numbers(server)) == list(range(60))


@pytest.mark.parametrize("coding", ["", "zlib", "deflate", "none", "LZ4"])
def test_every_compressor_arrives(server, tmp_path, coding):
    with opened(tmp_path, target(server, compressor=coding)) as log:
        push(log, map(record, range(10)))
        wait_delivered(log)
    assert sorted(request_numbers(server)) == list(range(10))


def test_throttled_batches_are_tried_three_times_evenly_then_backed_off_and_arrive_in_order(server, tmp_path):
    pace = QUICK._replace(batch_rows=30, throttle_seconds=0.1, backoff_seconds_max=0.3)
    server.client()  # imports the client before the clock runs
    with opened(tmp_path, target(server), pace) as log:
        server.fail("LimitExceeded", 5)
        began = time.monotonic()
        push(log, map(record, range(100)))
        wait_delivered(log)
        took = time.monotonic() - began
        counts = log.counters()
        assert counts["errors"] == {"LimitExceeded": 5} and counts["failing_seconds"] == 0 and log.trouble == ""
        assert_law(log, 100)
    assert took >= 0.1 * 3 + 0.2 + 0.3  # 0.1 s after each of the first three, then doubled up to the most
    for user, numbers in by_user(request_numbers(server)).items():
        assert numbers == list(range(user, 100, 7))


def test_of_a_batch_taken_in_part_only_the_rest_is_sent_again(server, tmp_path):
    with opened(tmp_path, target(server, *PUBLIC, *NAMES)) as log:
        server.fail("partly LimitExceeded")
        push(log, map(record, range(50)))
        wait_delivered(log)
        assert log.counters()["delivered_rows"] == 150
    found = [(row["ring_position"], row["ring_row"]) for row in server.rows("log")]
    assert len(found) == len(set(found)) == 150


@pytest.mark.parametrize("failure", ["500", "html", "drop", "NoSuchTopic", "SomethingNew"])
def test_no_failure_loses_a_record_and_what_repeats_can_be_told(server, tmp_path, failure):
    with opened(tmp_path, target(server, *PUBLIC, *NAMES)) as log:
        server.fail(failure, 3)
        push(log, map(record, range(50)))
        wait_delivered(log)
        assert sum(log.counters()["errors"].values()) == 3
        assert_law(log, 50)
    distinct = {(row["ring_position"], row["ring_row"]) for row in server.rows("log")}
    assert len(distinct) == 150
    assert (len(server.rows("log")) > 150) == (failure == "drop")


def test_a_topic_deleted_meanwhile_is_made_again(server, tmp_path):
    with opened(tmp_path, target(server)) as log:
        push(log, [record(1)])
        wait_delivered(log)
        server.client().delete_topic(PROJECT, "log")
        push(log, [record(2)])
        wait_delivered(log)
    assert request_numbers(server) == [2]


def test_an_outage_of_three_seconds_under_load_loses_nothing_and_keeps_the_order(server, tmp_path):
    with opened(tmp_path, target(server)) as log:
        push(log, map(record, range(50)))
        wait_delivered(log)
        server.stop()
        began = time.monotonic()
        for number in range(50, 1000):
            push(log, [record(number)])
            time.sleep(max(0.0, began + 3 * (number - 49) / 950 - time.monotonic()))
        assert log.counters()["failing_seconds"] > 0 and log.trouble
        assert log.flush()  # the disk does not wait for DataHub
        assert log.counters()["in_ring"] == 0
        assert log.synced == log.tail > log.delivered
        server.start()
        wait_delivered(log)
        wait_for(lambda: list_segments(tmp_path / "spill") == [])  # a moment behind the last acknowledgement
        assert_law(log, 1000)
    for user, numbers in by_user(request_numbers(server)).items():
        assert sorted(set(numbers)) == list(range(user, 1000, 7))
        assert numbers == sorted(numbers)


def test_poison_goes_to_the_dead_letters_with_its_reason_and_the_rest_goes_on(server, tmp_path):
    """Three kinds: the type cannot hold it; the server refuses the request it is in; it is no record at all."""
    columns = (Column("request_id", "string"), Column("module", "string"), Column("item_id", "smallint"))
    payloads = [record(number, items=0) for number in range(100)]
    payloads[10] = record(10, items=1)  # item_id "i0" is no smallint
    payloads[20] = encode(Record("home", "POISON", 0, "u", {}, {}, []))
    payloads[30] = b"\xc1 is no record"
    with opened(tmp_path, target(server, *columns)) as log:
        push(log, payloads)
        wait_delivered(log)
        counts = log.counters()
        assert (counts["delivered"], counts["dead_letter"]) == (97, 3)
        assert counts["dead_letter_rows"] == {"Unfit": 1, "InvalidParameter": 1, "NotARecord": 1}
        assert_law(log, 100)
    expected = {f"r{number}" for number in range(100)} - {"r20", "r30"}
    assert {row["request_id"] for row in server.rows("log")} == expected
    dead = [json.loads(line) for line in (tmp_path / "spill" / "dead-0.jsonl").read_text().splitlines()]
    by_code = {entry["code"]: entry for entry in dead}
    assert len(dead) == 3
    assert by_code["Unfit"]["reason"] == "item_id: 'i0' is no integer (smallint)"
    assert by_code["Unfit"]["data"] == rows(payloads[10])[1]
    assert "refuses" in by_code["InvalidParameter"]["reason"]
    assert (tmp_path / "spill" / "dead-0.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_gap_arrives_as_a_row_and_is_no_record(server, tmp_path):
    columns = (Column("module", "string"), Column("dropped", "bigint"), Column("reason", "string"))
    gap = {"gap_from": 0, "gap_to": 96, "dropped": 3, "reason": "full"}
    server.stop()
    log = opened(tmp_path, target(server, *columns))
    push(log, [record(1, items=0), msgspec.msgpack.encode(gap)])
    log.close()
    server.start()
    with opened(tmp_path, target(server, *columns)) as log:
        wait_for(lambda: list_segments(tmp_path / "spill") == [])
        assert (log.counters()["delivered"], log.counters()["gaps"]) == (1, 1)
        assert_law(log, 0)
    found = [(row["module"], row["dropped"], row["reason"]) for row in server.rows("log")]
    assert sorted(found, key=str) == [("gap", "3", "full"), ("user", None, None)]


def test_who_waits_for_the_delivery_hurries_it(server, tmp_path):
    with opened(tmp_path, target(server), QUICK._replace(gather_seconds=60.0, hurry_seconds=0.05)) as log:
        push(log, [record(0)])
        wait_delivered(log)
        for number in range(1, 6):
            push(log, [record(number)])
            began = time.monotonic()
            assert log.flush()
            wait_delivered(log)
            assert time.monotonic() - began < 20


def test_a_row_beyond_what_a_request_takes_is_a_dead_letter_and_a_large_one_arrives(server, tmp_path):
    import random

    noise = "".join(random.Random(1).choices("0123456789abcdef", k=4_100_000))
    with opened(tmp_path, target(server), ring_bytes=1 << 26, segment_bytes=1 << 26) as log:
        push(log, [record(1, noise=noise), record(2, noise=noise[:3_000_000]), record(3)])
        wait_delivered(log)
        assert log.counters()["dead_letter_rows"] == {"RowTooLarge": 1}
    assert sorted(request_numbers(server)) == [2, 3]


def test_one_record_of_many_rows_is_delivered_in_several_batches(server, tmp_path):
    with opened(tmp_path, target(server, *PUBLIC, *NAMES), QUICK._replace(batch_rows=16)) as log:
        push(log, [record(1, items=100), record(2, items=3)])
        wait_delivered(log)
        assert log.counters()["delivered"] == 2
    found = [int(row["ring_row"]) for row in server.rows("log") if row["request_id"] == "r1"]
    assert found == list(range(101))


def test_wrong_credentials_are_said_and_counted_never_printed_and_records_are_kept(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    key = "a-wrong-secret-key"
    log = opened(tmp_path, target(server, key=key))
    push(log, map(record, range(10)))
    wait_for(lambda: log.counters()["errors"].get("Unauthorized", 0) >= 2)
    assert log.trouble == "Unauthorized: The request signature of *** does not match"
    assert log.counters()["failing_seconds"] > 0
    wait_for(lambda: log.counters()["in_spill"] == 10)
    assert_law(log, 10, waiting=10)
    assert log.close()
    printed = caplog.text + log.trouble + repr(log.counters()) + repr(target(server, key=key))
    assert "Unauthorized" in caplog.text and key not in printed and ACCESS_KEY not in printed
    assert ACCESS_ID not in printed
    with opened(tmp_path, target(server)) as log:  # the right key delivers what was kept
        assert log.counters()["found"] == 10
        wait_for(lambda: log.counters()["delivered"] == 10)
        assert_law(log, 0)
    assert sorted(request_numbers(server)) == list(range(10))


def test_a_project_that_is_missing_is_waited_for_and_no_row_is_blamed(server, tmp_path):
    project = server.projects.pop(PROJECT)
    with opened(tmp_path, target(server)) as log:
        push(log, [record(1)])
        wait_for(lambda: log.counters()["errors"].get("NoSuchProject"))
        server.projects[PROJECT] = project
        wait_delivered(log)
        assert log.counters()["dead_letter"] == 0
    assert request_numbers(server) == [1]


def test_a_field_appended_to_the_topic_is_taken_up_without_a_loss(server, tmp_path):
    with opened(tmp_path, target(server)) as log:
        push(log, [record(1)])
        wait_delivered(log)
        topic = server.topic(PROJECT, "log")
        topic.fields.append(("ring_id", "string", True))
        schema = json.loads(topic.body["RecordSchema"])
        schema["fields"].append({"name": "ring_id", "type": "string"})
        topic.body["RecordSchema"] = json.dumps(schema)
        for entries in topic.records.values():
            for entry in entries:
                entry["data"].append(None)
        push(log, [record(2)])
        wait_delivered(log)
        assert log.counters()["dead_letter"] == 0
    assert {row["ring_id"] for row in server.rows("log") if row["request_id"] == "r2"} == {f"{log.ring_id:016x}"}


def test_closing_while_the_server_is_down_is_quick_and_the_next_delivers(server, tmp_path):
    server.stop()
    log = opened(tmp_path, target(server))
    push(log, map(record, range(20)))
    began = time.monotonic()
    assert log.close(10)
    assert time.monotonic() - began < 5
    assert not log.push(record(99))
    server.start()
    with opened(tmp_path, target(server)) as log:
        wait_for(lambda: log.counters()["delivered"] == 20)
        assert log.counters()["found"] == 20
    assert sorted(request_numbers(server)) == list(range(20))


def test_closing_delivers_what_can_be_delivered(server, tmp_path):
    with opened(tmp_path, target(server), QUICK._replace(gather_seconds=60.0)) as log:
        push(log, [record(0)])
        wait_delivered(log)  # the first segment does not wait
        push(log, map(record, range(1, 30)))
    assert sorted(request_numbers(server)) == list(range(30))
    assert list_segments(tmp_path / "spill") == []


def test_a_log_that_nobody_holds_ends_its_thread(server, tmp_path):
    before = set(threading.enumerate())
    log = opened(tmp_path, target(server))
    (thread,) = set(threading.enumerate()) - before - {server._thread}
    del log
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_two_workers_share_a_spill_and_neither_delivers_the_others(server, tmp_path):
    with opened(tmp_path, target(server)) as one, opened(tmp_path, target(server)) as two:
        for start in range(0, 200, 20):
            push(one, map(record, range(start, start + 10)))
            push(two, map(record, range(start + 10, start + 20)))
        wait_delivered(one)
        wait_delivered(two)
        assert_law(one, 100)
        assert_law(two, 100)
        assert one.counters()["adopted"] == two.counters()["adopted"] == 0
    assert sorted(request_numbers(server)) == list(range(200))


def test_what_a_killed_worker_left_is_adopted_by_a_living_one(server, tmp_path):
    with opened(tmp_path, target(server)) as keeper:

        def die() -> None:
            log = opened(tmp_path, target(server), QUICK._replace(gather_seconds=60.0, poll_seconds=60.0))
            push(log, map(record, range(30)))
            os.kill(os.getpid(), signal.SIGKILL)

        os.waitpid(in_child(die), 0)
        wait_for(lambda: keeper.counters()["adopted"] == 30)
        assert_law(keeper, 0)
    assert sorted(request_numbers(server)) == list(range(30))


def test_a_slot_is_delivered_by_one_only(server, tmp_path):
    from pairec_fast.sink.spill import Slot

    first, second = Slot(tmp_path, 3), Slot(tmp_path, 3)
    assert first.lock() and not second.lock() and first.lock()
    first.unlock()
    assert second.lock()
    second.unlock()


def test_after_a_crash_at_most_one_batch_is_repeated(server, tmp_path):
    """The process dies with a batch acknowledged and not yet noted: the worst moment."""
    pace = QUICK._replace(batch_rows=30, gather_seconds=0.5)

    def die() -> None:
        from pairec_fast.sink.spill import Slot

        save = Slot.save
        saved = []

        def dying(self, *arguments):
            if len(saved) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            saved.append(1)
            save(self, *arguments)

        Slot.save = dying  # type: ignore[method-assign]
        log = opened(tmp_path, target(server, *PUBLIC, *NAMES), pace)
        push(log, map(record, range(200)))
        time.sleep(30)

    _, status = os.waitpid(in_child(die), 0)
    assert os.WIFSIGNALED(status)
    with opened(tmp_path, target(server, *PUBLIC, *NAMES), pace) as log:
        wait_for(lambda: sorted(set(request_numbers(server))) == list(range(200)))
        wait_for(lambda: log.counters()["in_spill"] == 0)
    found = [(row["ring_id"], row["ring_position"], row["ring_row"]) for row in server.rows("log")]
    assert len(set(found)) == 600
    assert len(found) - 600 == 30


def test_a_damaged_segment_delivers_what_is_whole_and_is_set_aside(server, tmp_path):
    server.stop()
    log = opened(tmp_path, target(server))
    push(log, map(record, range(50)))
    log.close()
    # On a slow machine they may have been written in two turns, each with a segment of its own.
    segment = max(list_segments(tmp_path / "spill"), key=lambda one: os.path.getsize(one.file))
    with open(segment.file, "r+b") as file:
        assert file.seek(2000) + 64 < os.path.getsize(segment.file)
        file.write(b"\xff" * 64)
    server.start()
    with opened(tmp_path, target(server)) as log:
        wait_for(lambda: log.counters()["damaged_segments"] == 1 and not list_segments(tmp_path / "spill"))
        assert 45 <= log.counters()["delivered"] < 50
        assert_law(log, 0)
    assert os.path.exists(segment.file.removesuffix(".seg") + ".corrupt")
    assert set(request_numbers(server)) < set(range(50))


def test_a_segment_that_was_left_without_its_footer_is_delivered_and_removed(server, tmp_path):
    server.stop()
    log = opened(tmp_path, target(server))
    push(log, map(record, range(10)))
    log.close()
    segment = list_segments(tmp_path / "spill")[-1]  # there may be two, as above
    os.truncate(segment.file, os.path.getsize(segment.file) - 64)
    assert segment.record_count() == 0
    server.start()
    with opened(tmp_path, target(server)) as log:
        wait_for(lambda: list_segments(tmp_path / "spill") == [])
        assert log.counters()["delivered"] == 10 and log.counters()["damaged_segments"] == 0
        assert_law(log, 0)
    assert not list((tmp_path / "spill").glob("*.corrupt"))


def test_a_disk_that_fails_does_not_end_the_delivery(server, tmp_path, monkeypatch):
    from pairec_fast.sink.spill import Slot

    remove, failed = Slot.remove, []

    def failing(self, segment):
        if not failed:
            failed.append(segment)
            raise OSError(5, "Input/output error")
        remove(self, segment)

    monkeypatch.setattr(Slot, "remove", failing)
    with opened(tmp_path, target(server)) as log:
        push(log, map(record, range(10)))
        wait_delivered(log)
        wait_for(lambda: list_segments(tmp_path / "spill") == [])
        assert log.counters()["errors"] == {"OSError": 1}
        wait_for(lambda: log.trouble == "")
    assert sorted(request_numbers(server)) == list(range(10))


def test_a_push_never_waits_for_a_slow_server(server, tmp_path):
    server.delay_seconds = 0.5
    with opened(tmp_path, target(server)) as log:
        longest = 0.0
        for number in range(500):
            payload = record(number)
            began = time.perf_counter()
            assert log.push(payload)
            longest = max(longest, time.perf_counter() - began)
            time.sleep(0.001)
        assert longest < 0.2
        assert log.flush() and log.synced == log.tail
        server.delay_seconds = 0.0


def test_a_forked_child_neither_pushes_nor_holds_the_slot(server, tmp_path):
    log = opened(tmp_path, target(server))
    release = threading.Event()

    def child() -> None:
        assert not log.push(record(1))
        time.sleep(3)

    pid = in_child(child)
    push(log, [record(2)])
    wait_delivered(log)
    assert log.close()
    with opened(tmp_path, target(server)) as again:  # while the child lives
        push(again, [record(3)])
        wait_delivered(again)
    release.set()
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert sorted(request_numbers(server)) == [2, 3]


def test_a_topic_of_blobs_is_refused_and_said(server):
    server.client().create_blob_topic(PROJECT, "log", 1, 3, "")
    with pytest.raises(Trouble, match="holds blobs"):
        Topic(target(server)).connect()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed; it makes the certificate")
def test_a_server_whose_certificate_nobody_signed_gets_nothing(tmp_path, monkeypatch):
    """The official client talks to it."""
    file = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=loopback",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", file, "-out", tmp_path / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes(file.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with DatahubServer(file) as server:
        with pytest.warns(match="Unverified HTTPS request"):
            server.client().get_project(PROJECT)
        requests = server.requests.total()
        with pytest.raises(Trouble, match="CERTIFICATE_VERIFY_FAILED") as refused:
            Topic(target(server)).connect()
        assert refused.value.kind == "retry" and server.requests.total() == requests
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
        with opened(tmp_path, target(server)) as log:
            push(log, [record(1)])
            wait_delivered(log)
        assert request_numbers(server) == [1]


def test_backoff_grows_to_its_bound_and_throttling_is_even_at_first():
    delivery = Delivery.__new__(Delivery)
    delivery._pace = QUICK._replace(throttle_seconds=2.0, backoff_seconds=0.2, backoff_seconds_max=30.0)
    throttled, broken = Trouble("throttled", "LimitExceeded", ""), Trouble("retry", "X", "")
    waits = []
    for tries in range(1, 9):
        delivery._tries = tries
        waits.append((delivery._backoff(throttled), delivery._backoff(broken)))
    assert [wait for wait, _ in waits] == [2, 2, 2, 4, 8, 16, 30, 30]
    assert [round(wait, 1) for _, wait in waits] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6]


def test_killed_under_load_every_acknowledged_record_arrives_in_order(tmp_path):
    totals = faults.run(8, seed=11, folder=tmp_path)
    assert totals["kills"] == 8 and totals["acknowledged"] > 100
    assert not faults.failed(totals), totals


def test_the_kill_loop_finds_a_segment_removed_too_early(tmp_path):
    totals = faults.run(8, seed=11, folder=tmp_path, broken=True)
    assert faults.failed(totals) and totals["lost"] > 0
