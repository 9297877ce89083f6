"""`pairec-fast log`: every row comes out, in every form; what is damaged is said, repaired, and never invented."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

import msgspec
import pytest

from pairec_fast.callback import Record, encode
from pairec_fast.core import expand
from pairec_fast.core.ring import Log
from pairec_fast.log_export import Row
from tests.logs import die_after, push_all
from tests.servers import command
from tests.worlds import environment

RECORDS = [
    encode(Record("home", f"r{n}", 7 + n, f"u{n % 3}", {"x": "<é>"}, {}, [{"item_id": f"i{k}"} for k in range(n % 3)]))
    for n in range(300)
]
ROWS = 300 + sum(n % 3 for n in range(300))
COLUMNS = [
    "request_id", "scene", "request_time", "user_id", "module", "user_features", "request_info", "item_id",
    "raw_features", "generate_features", "context_features", "item_features", "experiment_id", "fingerprint",
    "position", "ring_id", "ring_position", "row",
]  # fmt: skip


@pytest.fixture
def log(tmp_path):
    """A closed segment of 300 callbacks."""
    directory = tmp_path / "log"
    with Log(directory, tmp_path / "ring", capacity=1 << 20) as log:
        push_all(log, RECORDS)
    return directory


def dumped(run, directory) -> list[dict]:
    return [json.loads(line) for line in run("log", "dump", directory)[1].splitlines()]


def damage(directory) -> str:
    (segment,) = directory.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.index(b"r150")] ^= 1
    segment.write_bytes(data)
    return str(segment)


@pytest.mark.parametrize(
    "arguments",
    [
        ["dump"], ["repair"], ["export", "."], ["export", ".", "-o", "x.csv"], ["resend", "."],
        ["resend", ".", "--kafka", "x"], ["resend", ".", "--kafka", "x", "--topic", "t", "--set", "x"],
        ["resend", ".", "--kafka", "x", "--topic", "t", "--timeout", "0"], ["verify", ".", "--sink"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_call_is_exit_2_with_the_usage(run, arguments):
    code, out, err = run("log", *arguments)
    assert (code, out) == (2, "") and err.startswith("usage: pairec-fast log") and "error: " in err


ACTIONS = {
    "dump": [], "verify": [], "repair": [], "export": ["-o", "x.parquet"], "resend": ["--kafka", "x", "--topic", "t"],
}  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
def test_help_is_exit_0_and_what_cannot_be_exit_1(run, tmp_path, action):
    assert run("log", action, "--help")[0] == 0
    code, out, err = run("log", action, tmp_path / "nope", *ACTIONS[action])
    assert (code, out, err) == (1, "", f"pairec-fast log: {tmp_path / 'nope'}: no such directory\n")
    code, out, err = run("log", action, tmp_path, "--sink", "no sink", *ACTIONS[action])
    assert (code, out) == (2, "") and "no sink is not 1 to 64 letters, digits or underscores" in err
    assert not os.path.exists("x.parquet")


# dump and verify


def test_dump_prints_a_json_object_a_line_and_verify_a_report_a_file(run, log):
    done = command("log", "dump", log)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr, len(rows)) == (0, "", ROWS)
    assert [row["request_id"] for row in rows if row["module"] == "user"] == [f"r{n}" for n in range(300)]
    code, out, err = run("log", "verify", log)
    (report,) = map(json.loads, out.splitlines())
    assert (code, err, report["records"], report["errors"]) == (0, "", 300, [])


def test_a_damaged_segment_is_reported_and_the_rest_still_read(run, log):
    segment = damage(log)
    code, out, _ = run("log", "verify", log)
    assert code == 1 and json.loads(out)["errors"]
    code, out, err = run("log", "dump", log)
    assert code == 1 and err.startswith(f"{segment}: damage in ") and len(out.splitlines()) == ROWS - 1


def test_a_record_that_is_no_callback_is_told_and_stepped_over(run, tmp_path):
    with Log(tmp_path, tmp_path / "ring", capacity=1 << 20) as log:
        push_all(log, [RECORDS[0], b"\xc1 not a record", RECORDS[1]])
        name = f"record {log.ring_id:016x}:"
    code, out, err = run("log", "dump", tmp_path)
    assert code == 1 and len(out.splitlines()) == 3
    assert err.startswith(name) and err.endswith(": not a record of a callback\n")


def test_an_empty_log_is_empty(run, tmp_path):
    assert run("log", "dump", tmp_path) == run("log", "verify", tmp_path) == (0, "", "")
    assert run("log", "repair", tmp_path) == (0, "0 segments, 0 repaired\n", "")
    assert run("log", "repair", tmp_path, "--json") == (0, "", "")


@pytest.mark.parametrize("action", ["dump", "verify"])
def test_a_reader_that_has_seen_enough_is_no_error(log, action):
    read, write = os.pipe()
    os.close(read)  # nobody reads: the first write fails, as it does some time after `| head`
    line = [sys.executable, "-m", "pairec_fast", "log", action, str(log)]
    buffered = environment() | {"PYTHONUNBUFFERED": ""}  # so that `verify` writes as late as it can
    done = subprocess.run(line, stdout=write, stderr=subprocess.PIPE, env=buffered, timeout=60)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_other_sinks_of_a_directory_are_read_by_their_name(run, log, tmp_path):
    with Log(log, tmp_path / "other", capacity=1 << 20, sink="spill") as other:
        push_all(other, RECORDS[:1])
    assert len(dumped(run, log)) == ROWS
    assert len(run("log", "dump", log, "--sink", "spill")[1].splitlines()) == 1


def dead_letter(payload: bytes, position: int = 77) -> bytes:
    return msgspec.msgpack.encode(("MSG_SIZE_TOO_LARGE", 0, 5, position, payload))


def test_dead_letters_are_dumped_as_the_rows_of_their_records_with_the_error(run, tmp_path):
    with Log(tmp_path, tmp_path / "ring", capacity=1 << 20, sink="kafka_dead") as log:
        push_all(log, [dead_letter(RECORDS[1]), b"\x90", dead_letter(b"no record"), dead_letter(RECORDS[2])])
    code, out, err = run("log", "dump", tmp_path, "--sink", "kafka_dead")
    rows = [json.loads(row) for record in (RECORDS[1], RECORDS[2]) for row in expand(record)]
    assert [json.loads(line) for line in out.splitlines()] == [row | {"error": "MSG_SIZE_TOO_LARGE"} for row in rows]
    assert code == 1 and err.count("\n") == 2 and f"record {5:016x}:77: not a record of a callback" in err
    assert len(run("log", "verify", tmp_path, "--sink", "kafka_dead")[1].splitlines()) == 1


# repair


def test_repair_says_what_was_lost_and_leaves_a_log_that_is_sound(run, log):
    segment = damage(log)
    before = dumped(run, log)
    code, out, err = run("log", "repair", log)
    assert code == 0 and out.splitlines() == [
        f"{segment}: rewritten, 299 records kept, 1 lost; what it was: {segment.removesuffix('.seg')}.corrupt",
        "1 segments, 1 repaired",
    ]
    assert err.startswith(f"{segment}: damage in ")
    assert dumped(run, log) == before and run("log", "verify", log)[0] == 0
    assert run("log", "repair", log) == (0, "1 segments, 0 repaired\n", "")
    (report,) = map(json.loads, run("log", "repair", log, "--json")[1].splitlines())
    assert (report["state"], report["records"], report["lost"]) == ("sound", 300 - 1, 0)


def test_repair_closes_what_the_dead_left_and_refuses_what_the_living_write(run, tmp_path):
    def live() -> Log:
        log = Log(tmp_path / "log", tmp_path / "ring", capacity=1 << 20, sync_seconds=0)
        push_all(log, RECORDS)
        assert log.flush()
        return log

    die_after(live)
    with Log(tmp_path / "log", tmp_path / "ring2", capacity=1 << 20, slot=1) as log:
        push_all(log, RECORDS[:1])
        assert log.flush()
        code, out, err = run("log", "repair", tmp_path / "log")
        assert (code, err) == (0, "") and out.endswith("2 segments, 1 repaired\n")
        assert ": closed, 300 records\n" in out and ": left alone: a living process is writing it\n" in out
    assert run("log", "verify", tmp_path / "log")[0] == 0 and len(dumped(run, tmp_path / "log")) == ROWS + 1


# export


def test_columns_are_the_fields_that_rows_have_and_what_names_a_row():
    known = Record("s", "r", 7, "u", {}, {}, [{"item_id": "a"}], "e1", "f1", [0])
    user, item = map(json.loads, expand(encode(known)))
    assert {*user, *item} == {*Row.__struct_fields__}
    assert [*Row.__struct_fields__, "ring_id", "ring_position", "row"] == COLUMNS


def test_export_writes_every_row_with_the_public_columns(run, log, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("pairec_fast.log_export.ROWS_MAX", 100)
    output = tmp_path / "rows.parquet"
    assert run("log", "export", log, "-o", output) == (0, f"{output}: {ROWS} rows of 300 records\n", "records ...\n")
    file = parquet.ParquetFile(output)
    assert file.num_row_groups == ROWS // 100
    assert file.schema_arrow.names == COLUMNS
    numbers = {"request_time": "int64", "position": "int64", "ring_position": "int64", "row": "int64"}
    assert {field.name: str(field.type) for field in file.schema_arrow} == dict.fromkeys(COLUMNS, "string") | numbers
    table = file.read().to_pylist()
    fields = [{name: row[name] for name in Row.__struct_fields__ if row[name] is not None} for row in table]
    assert fields == [{name: row[name] for name in COLUMNS if name in row} for row in dumped(run, log)]
    assert len({(row["ring_id"], row["ring_position"], row["row"]) for row in table}) == ROWS
    assert [row["row"] for row in table[:4]] == [0, 0, 1, 0]
    code, out, _ = run("log", "export", log, "-o", tmp_path, "--json")
    expected = {"file": str(tmp_path / "log.parquet"), "records": 300, "rows": ROWS, "damaged": 0}
    assert code == 0 and json.loads(out) == expected
    assert (tmp_path / "log.parquet").read_bytes() == output.read_bytes()


def test_duckdb_reads_what_was_exported(run, log, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    run("log", "export", log, "-o", tmp_path / "rows.parquet")
    query = f"select module, count(*), sum(request_time) from '{tmp_path / 'rows.parquet'}' group by 1 order by 1"
    times = [sum((7 + n) * (n % 3) for n in range(300)), sum(7 + n for n in range(300))]
    assert duckdb.sql(query).fetchall() == [("item", ROWS - 300, times[0]), ("user", 300, times[1])]


def test_polars_reads_what_was_exported(run, log, tmp_path):
    polars = pytest.importorskip("polars")
    run("log", "export", log, "-o", tmp_path / "rows.parquet")
    frame = polars.read_parquet(tmp_path / "rows.parquet")
    assert frame.columns == COLUMNS and frame.height == ROWS
    users = frame.filter(polars.col("module") == "user")
    assert users["user_features"][1] == '{"uid":"u1","x":"\\u003cé\\u003e"}' and users["item_id"].null_count() == 300
    assert users["request_time"].to_list() == [7 + n for n in range(300)]


def test_an_export_that_fails_leaves_no_file_and_one_of_a_damaged_log_is_exit_1(run, log, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    output = tmp_path / "rows.parquet"
    code, out, err = run("log", "export", log, "-o", tmp_path / "nope" / "rows.parquet")
    assert (code, out) == (1, "") and "No such file or directory" in err
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        code, _, err = run("log", "export", log, "-o", output)
        assert code == 1 and "No space left on device" in err
    assert not output.exists() and not list(tmp_path.glob(".*partial"))
    damage(log)
    code, out, err = run("log", "export", log, "-o", output)
    assert code == 1 and "damage in " in err and parquet.read_metadata(output).num_rows == ROWS - 1


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("pyarrow", "learn", ["export", "-o", "x.parquet"]),
        ("confluent_kafka", "kafka", ["resend", "--kafka", "x", "--topic", "t"]),
    ],
    ids=["export", "resend"],
)
def test_without_its_extra_a_verb_names_it(run, log, monkeypatch, module, extra, arguments):
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = run("log", arguments[0], log, *arguments[1:])
    assert (code, out) == (1, "") and f"pip install 'pairec_fast[{extra}]'" in err


# resend


@pytest.fixture
def brokers():
    """Addresses of librdkafka's own mock of a cluster, which lives as long as this producer."""
    kafka = pytest.importorskip("confluent_kafka")
    producer = kafka.Producer({"bootstrap.servers": "", "test.mock.num.brokers": 3, "log_level": 0})
    listed = producer.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in listed)
    del producer


def received(brokers: str, topic: str) -> list:
    import confluent_kafka as kafka

    consumer = kafka.Consumer({"bootstrap.servers": brokers, "group.id": "test", "enable.partition.eof": True})
    parts = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([kafka.TopicPartition(topic, part, 0) for part in parts])
    messages, ended = [], set()
    while len(ended) < len(parts):
        message = consumer.poll(10)
        assert message is not None
        if message.error():
            assert message.error().code() == kafka.KafkaError._PARTITION_EOF
            ended.add(message.partition())
        else:
            messages.append(message)
    consumer.close()
    return messages


def test_resend_delivers_every_row_once_keyed_by_user_and_named(run, log, brokers):
    from pairec_fast.core import read_segments

    code, out, err = run("log", "resend", log, "--kafka", brokers, "--topic", "rows")
    assert (code, out, err) == (0, f"{ROWS} rows of 300 records delivered, 0 failed\n", "records ...\n")
    expected = {
        (str(ring_id).encode(), str(position).encode(), str(number).encode()): row
        for payload, ring_id, position in read_segments(log)
        for number, row in enumerate(expand(payload))
    }
    messages = received(brokers, "rows")
    assert {tuple(value for _, value in one.headers()): one.value() for one in messages} == expected
    assert len(messages) == ROWS
    for one in messages:
        assert [name for name, _ in one.headers()] == ["ring_id", "position", "row"]
        assert one.key().decode() == json.loads(one.value())["user_id"]
    users = {(one.key(), one.partition()) for one in messages}
    assert len(users) == 3, "all of a user is in one partition"
    for key, _ in users:
        positions = [int(one.headers()[1][1]) for one in messages if one.key() == key]
        assert positions == sorted(positions), "in the order of the log"


def test_resend_of_dead_letters_sends_their_records_rows_by_their_own_names(run, tmp_path, brokers):
    with Log(tmp_path, tmp_path / "ring", capacity=1 << 20, sink="kafka_dead") as log:
        push_all(log, [dead_letter(RECORDS[1], 96), dead_letter(RECORDS[2], 4096)])
    code, out, _ = run("log", "resend", tmp_path, "--sink", "kafka_dead", "--kafka", brokers, "--topic", "rows")
    assert (code, out) == (0, "5 rows of 2 records delivered, 0 failed\n")
    found = {tuple(int(value) for _, value in one.headers()): one.value() for one in received(brokers, "rows")}
    places = ((96, RECORDS[1]), (4096, RECORDS[2]))
    assert found == {(5, at, row): text for at, record in places for row, text in enumerate(expand(record))}


def test_resend_counts_what_brokers_never_took_and_is_exit_1(run, log, brokers):
    settings = ["--topic", "rows", "--set", "message.max.bytes=1000", "--json"]
    long = encode(Record("home", "long", 7, "u", {"x": "y" * 2000}, {}, [{"item_id": "i"}]))
    with Log(log, log.parent / "second", capacity=1 << 20, slot=1) as more:
        push_all(more, [long])
    code, out, err = run("log", "resend", log, "--kafka", brokers, *settings)
    assert code == 1 and json.loads(out) == {
        "delivered": ROWS + 1, "failed": 1, "errors": {"MSG_SIZE_TOO_LARGE": 1}, "records": 301, "damaged": 0,
        "gave_up": False,
    }  # fmt: skip
    assert "1 rows: MSG_SIZE_TOO_LARGE" in err
    assert len(received(brokers, "rows")) == ROWS + 1


def test_resend_to_nobody_gives_up_in_time(run, log):
    pytest.importorskip("confluent_kafka")
    arguments = ["--kafka", "127.0.0.1:1", "--topic", "rows", "--timeout", "0.5", "--json"]
    code, out, err = run("log", "resend", log, *arguments)
    figures = json.loads(out)
    assert code == 1 and figures["delivered"] == 0 and figures["failed"] == ROWS
    assert set(figures["errors"]) == {"_MSG_TIMED_OUT"} and "kafka: " in err


def test_resend_of_a_long_log_to_nobody_does_not_wait_for_every_message():
    pytest.importorskip("confluent_kafka")
    from pairec_fast.log_resend import resend

    endless = ((expand(RECORDS[1]), 1, position) for position in itertools.count())
    figures = resend(endless, "127.0.0.1:1", "rows", {"queue.buffering.max.messages": "50"}, 0.3)
    assert figures["delivered"] == 0 and 50 <= figures["failed"] <= 200


def test_a_property_that_librdkafka_does_not_know_is_said(run, log):
    pytest.importorskip("confluent_kafka")
    code, out, err = run("log", "resend", log, "--kafka", "x", "--topic", "t", "--set", "nope=1")
    assert (code, out) == (1, "") and err.startswith('pairec-fast log: kafka: No such configuration property: "nope"')
