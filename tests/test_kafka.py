"""The Kafka sink: every row arrives, in the order of its key, whatever becomes of brokers and of this process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pairec_fast.core.kafka import KafkaLog, load_library
from pairec_fast.core.ring import read_segments, verify_segments
from pairec_fast.errors import ConfigError, PairecError
from tests.faults import kafka_kill, kill
from tests.topics import (
    PARTITIONS,
    assert_all_there,
    assert_law,
    cluster,
    distinct,
    expected,
    library,
    open_log,
    push,
    read,
    record,
    until,
)  # fmt: skip

MSG_SIZE_TOO_LARGE, NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, INVALID_RECORD = 10, 6, 7, 19, 87
ROOT = Path(__file__).resolve().parent.parent
OUT_OF_ORDER, FENCED_EPOCH, UNKNOWN_TOPIC = 45, 47, 3


@pytest.fixture
def mock():
    mock = cluster()
    yield mock
    mock.close()


@contextmanager
def load(log: KafkaLog, start: int = 0, rate: int = 2000):
    """Push numbered records meanwhile; the list holds the numbers that were taken."""
    numbers: list[int] = []
    stop = threading.Event()

    def run() -> None:
        began = time.monotonic()
        while not stop.is_set():
            while len(numbers) < (time.monotonic() - began) * rate:
                push(log, record(start + len(numbers)))
                numbers.append(start + len(numbers))
            time.sleep(0.002)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield numbers
    finally:
        stop.set()
        thread.join()


def dead_letters(folder: Path) -> list[list]:
    return [msgspec.msgpack.decode(payload) for payload, _, _ in read_segments(folder / "spill", "kafka_dead")]


# Brokers are there


def test_each_row_is_a_message_with_its_key_and_the_name_of_its_record(mock, tmp_path):
    log = open_log(mock, tmp_path)
    assert log.push(record(7)) and log.push(record(8, items=0)) and log.flush()
    first, second = sorted({message.identity[1] for message in read(mock)})
    assert log.close() and first < second
    found = {message.identity: (message.key, message.value) for message in read(mock)}
    rows = [(b"u0", row) for row in expected(7)] + [(b"u1", expected(8, items=0)[0])]
    places = [(first, 0), (first, 1), (first, 2), (second, 0)]
    assert found == {(log.ring_id, *place): row for place, row in zip(places, rows, strict=True)}


def test_a_position_is_delivered_when_it_is_acknowledged_and_not_before(mock, tmp_path):
    mock.tell("rtt", 0, 300)
    log = open_log(mock, tmp_path, stall_seconds=5.0)
    assert log.push(record(0))
    assert log.tail > 0 and not log.flush(0.2) and log.delivered == log.synced == 0
    assert log.flush() and log.delivered == log.synced == log.tail
    counts = assert_law(log)
    assert counts["delivered"] == 1 and counts["delivered_rows"] == 3 and log.state == "direct"
    assert log.close()


def test_what_is_no_record_is_a_dead_letter_and_holds_up_nothing(mock, tmp_path):
    log = open_log(mock, tmp_path)
    payloads = [record(0), b"", b"\x93\x01\x02\x03", record(1)]
    assert all(map(log.push, payloads)) and log.flush()
    counts = assert_law(log)
    assert counts["dead_letter"] == 2 and counts["dead_letters"] == {"_BAD_MSG": 2} and log.close()
    letters = dead_letters(tmp_path)
    assert [letter[4] for letter in letters] == payloads[1:3]
    assert {tuple(letter[:3]) for letter in letters} == {("_BAD_MSG", -1, log.ring_id)}
    assert letters[0][3] < letters[1][3] < log.tail
    assert_all_there(read(mock), [0, 1], log.ring_id)


def test_a_record_too_large_for_the_producer_is_a_dead_letter_within_a_second(mock, tmp_path):
    log = open_log(mock, tmp_path, options={"message.max.bytes": "2000"})
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        began = time.monotonic()
        push(log, record(10**6, size=4000))
        until(lambda: log.counters()["dead_letter"] == 1, seconds=1.0)
        assert time.monotonic() - began < 1.0
        delivered = log.counters()["delivered"]
        until(lambda: log.counters()["delivered"] > delivered + 100)
    assert log.flush() and assert_law(log)["dead_letters"] == {"MSG_SIZE_TOO_LARGE": 1} and log.close()
    [[name, row, ring_id, _, payload]] = dead_letters(tmp_path)
    assert (name, row, ring_id, payload) == ("MSG_SIZE_TOO_LARGE", 0, log.ring_id, record(10**6, size=4000))
    # Its other rows were taken: they are sent, and a reader finds the record once in either place.
    items = [message for message in read(mock) if b'"r1000000"' in message.value]
    assert [message.value for message in items] == expected(10**6, size=4000)[1:]
    assert_all_there([message for message in read(mock) if message not in items], numbers, log.ring_id)


@pytest.mark.parametrize("code", [MSG_SIZE_TOO_LARGE, INVALID_RECORD])
def test_a_batch_that_brokers_refuse_is_split_before_anybody_in_it_is_blamed(mock, tmp_path, code):
    """A broker says it of the whole batch. Batches behind it that were under way are taken, so order is lost there."""
    log = open_log(mock, tmp_path)
    push(log, record(0))
    assert log.flush()
    mock.tell("produce-errors", *[code] * 4)
    for number in range(1, 2001):
        push(log, record(number))
    assert log.flush()
    counts = assert_law(log)
    assert counts["dead_letter"] <= 1 and counts["kafka_errors"] and log.close()
    letters = [letter[4] for letter in dead_letters(tmp_path)]
    numbers = [number for number in range(2001) if record(number) not in letters]
    messages = [message for message in read(mock) if json.loads(message.value)["request_time"] in numbers]
    assert_all_there(messages, numbers, log.ring_id, ordered=False)


def test_a_row_that_brokers_refuse_even_alone_is_a_dead_letter(mock, tmp_path):
    log = open_log(mock, tmp_path)
    push(log, record(0))
    assert log.flush()
    mock.tell("produce-errors", *[MSG_SIZE_TOO_LARGE] * 40)
    push(log, record(1))
    until(lambda: log.counters()["dead_letter"] == 1)
    assert dead_letters(tmp_path)[0][0] == "MSG_SIZE_TOO_LARGE" and dead_letters(tmp_path)[0][4] == record(1)
    assert log.close()


# Brokers are in trouble


def test_brokers_that_are_away_for_a_while_cost_nothing_but_time(mock, tmp_path):
    log = open_log(mock, tmp_path)
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        mock.tell("down", 0)
        until(lambda: log.counters()["in_spill"] > 1000)
        counts = log.counters()
        assert counts["spilling"] == 1 and counts["spill_bytes"] > 50_000 and counts["oldest_undelivered_seconds"] > 0.4
        assert log.delivered < log.synced <= log.tail
        mock.tell("up", 0)
        until(lambda: log.state == "direct")
    assert log.flush()
    counts = assert_law(log)
    assert counts["in_spill"] == counts["spill_bytes"] == counts["spill_oldest_seconds"] == 0
    assert counts["spilled_records"] > 1000 and counts["delivered"] == len(numbers) and not counts["dead_letters"]
    assert log.close() and not list((tmp_path / "spill").iterdir())
    assert_all_there(read(mock), numbers, log.ring_id)


def test_leaders_that_move_slow_brokers_and_refusals_for_now_lose_and_turn_nothing_round(mock, tmp_path):
    log = open_log(mock, tmp_path, stall_seconds=2.0)
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        for step in range(8):
            mock.tell("leader", "rows", step % PARTITIONS, 1 + step % 3)
            mock.tell("produce-errors", NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS)
            mock.tell("rtt", 1 + step % 3, 100 * (step % 3))
            time.sleep(0.15)
    mock.tell("rtt", 0, 0)
    assert log.flush() and log.close()
    assert_all_there(read(mock), numbers, log.ring_id)


def test_a_frozen_cluster_fills_the_spill_and_repeats_can_be_removed(mock, tmp_path):
    log = open_log(mock, tmp_path)
    with load(log) as numbers:
        until(lambda: log.counters()["delivered"] > 100)
        mock.freeze()
        until(lambda: log.counters()["in_spill"] > 500)
        mock.thaw()
    assert log.flush(30) and log.close()
    assert_all_there(read(mock), numbers, log.ring_id)


def test_a_producer_that_fails_for_good_is_replaced_and_resends_from_the_head(mock, tmp_path):
    log = open_log(mock, tmp_path)
    with load(log) as numbers:
        for code in (OUT_OF_ORDER, FENCED_EPOCH):
            delivered = log.counters()["delivered"]
            until(lambda before=delivered: log.counters()["delivered"] > before + 100)
            log.inject_fatal_error(code)
        delivered = log.counters()["delivered"]
        until(lambda: log.counters()["delivered"] > delivered + 100)
    assert log.flush()
    errors = log.counters()["kafka_errors"]
    assert errors["OUT_OF_ORDER_SEQUENCE_NUMBER"] == 1 and errors["INVALID_PRODUCER_EPOCH"] == 1 and log.close()
    assert_all_there(read(mock), numbers, log.ring_id)


def test_a_topic_nobody_knows_is_waited_for_and_found_when_it_is_made(mock, tmp_path):
    mock.tell("topic-error", "late", UNKNOWN_TOPIC)
    options = {"topic.metadata.propagation.max.ms": "100"}
    log = open_log(mock, tmp_path, topic="late", options=options, unknown_topic_seconds=30)
    push(log, record(0))
    until(lambda: log.counters()["in_spill"] == 1)
    assert not log.flush(1.0)
    mock.tell("topic-error", "late", 0)
    assert log.flush() and log.counters()["dead_letter"] == 0 and log.close()
    assert [message.value for message in read(mock, "late")] != []


def test_a_topic_that_stays_unknown_sends_its_records_to_the_dead_letters(mock, tmp_path):
    mock.tell("topic-error", "never", UNKNOWN_TOPIC)
    options = {"topic.metadata.propagation.max.ms": "100"}
    log = open_log(mock, tmp_path, topic="never", options=options, unknown_topic_seconds=1)
    for number in range(50):
        push(log, record(number))
    assert log.flush(20)
    counts = assert_law(log)
    assert counts["dead_letter"] == 50 and set(counts["dead_letters"]) <= {"_UNKNOWN_TOPIC", "UNKNOWN_TOPIC_OR_PART"}
    assert log.close() and [letter[4] for letter in dead_letters(tmp_path)] == [record(number) for number in range(50)]


def test_more_than_brokers_take_goes_over_the_disk_and_keeps_its_order(mock, tmp_path):
    mock.tell("rtt", 0, 200)
    options = {"queue.buffering.max.messages": "500"}
    log = open_log(mock, tmp_path, capacity=1 << 16, options=options, stall_seconds=4.0)
    for number in range(4000):
        push(log, record(number))
    assert log.counters()["spilled_records"] > 500
    mock.tell("rtt", 0, 0)
    assert log.flush(30) and assert_law(log)["delivered"] == 4000 and log.close()
    assert_all_there(read(mock), range(4000), log.ring_id)


# The disk is in trouble


def test_a_spill_that_cannot_be_written_fills_the_ring_and_loses_nothing(mock, tmp_path):
    log = open_log(mock, tmp_path, capacity=1 << 16)
    push(log, record(0))
    assert log.flush()
    mock.tell("down", 0)
    (tmp_path / "spill").rename(tmp_path / "away")
    number = 1
    while log.push(record(number)):
        number += 1
    until(lambda: log.counters()["errors"].get("ENOENT", 0) > 1)
    assert log.counters()["dropped_full"] == 1 and log.counters()["in_ring"] == number - 1
    (tmp_path / "away").rename(tmp_path / "spill")
    until(lambda: log.push(record(number)))
    mock.tell("up", 0)
    assert log.flush(20) and assert_law(log)["delivered"] == number + 1 and log.close()
    assert_all_there(read(mock), range(number + 1), log.ring_id)


# The process is in trouble


def test_what_a_killed_process_had_in_ring_and_spill_is_sent_by_the_next(tmp_path):
    totals = kafka_kill.run(times=8, seed=int(time.time()), directory=tmp_path, library=library())
    assert totals["records"] > 500 and not kafka_kill.failed(totals), totals


def test_a_living_worker_sends_what_a_dead_one_spilled(mock, tmp_path):
    mock.tell("down", 0)
    log = open_log(mock, tmp_path, capacity=1 << 16)
    ring_id = log.ring_id
    for number in range(100):
        push(log, record(number))
    until(lambda: log.counters()["in_spill"] == 100)
    assert log.close() and log.counters()["in_spill"] == 100
    other = open_log(mock, tmp_path, slot=1)
    until(lambda: other.counters()["adopted_records"] == 100)
    third = KafkaLog(
        tmp_path / "spill", tmp_path / "ring3", servers=mock.servers, topic="rows", library=[library()], slot=2,
        capacity=1 << 16, adopt_seconds=0.05,
    )  # fmt: skip
    time.sleep(0.3)
    assert third.counters()["adopted_records"] == 0 and third.close()
    mock.tell("up", 0)
    until(lambda: other.counters()["delivered"] == 100)
    assert_law(other)
    assert other.close() and not list((tmp_path / "spill").iterdir())
    assert_all_there(read(mock), range(100), ring_id)


def test_locks_that_the_dead_left_without_a_segment_are_removed_and_those_of_the_living_are_not(mock, tmp_path):
    (tmp_path / "spill").mkdir()
    stale = tmp_path / "spill" / f"kafka_spill-{0x123450:016x}.lock"
    stale.touch()
    mock.tell("down", 0)
    with open_log(mock, tmp_path, capacity=1 << 16) as log:
        push(log, record(0))
        until(lambda: log.counters()["in_spill"] == 1 and not stale.exists())
        lock = tmp_path / "spill" / f"kafka_spill-{log.ring_id:016x}.lock"
        other = KafkaLog(
            tmp_path / "spill", tmp_path / "other", servers=mock.servers, topic="rows", library=[library()], slot=1,
            capacity=1 << 16, adopt_seconds=0.05,
        )  # fmt: skip
        time.sleep(0.3)
        assert lock.exists() and other.close()
    assert not lock.exists()


def test_closing_while_brokers_are_away_leaves_a_spill_and_takes_no_longer_than_it_may(mock, tmp_path):
    log = open_log(mock, tmp_path, stall_seconds=2.0)
    mock.tell("down", 0)
    for number in range(500):
        push(log, record(number))
    began = time.monotonic()
    assert log.close(2.0)
    assert time.monotonic() - began < 2.5
    counts = assert_law(log)
    assert counts["in_spill"] == 500 and counts["in_ring"] == 0
    [report] = verify_segments(tmp_path / "spill", "kafka_spill")
    assert report["closed"] and report["records"] == 500 and not report["errors"]
    assert not log.push(record(500)) and log.counters()["dropped_closed"] == 1
    mock.tell("up", 0)
    with open_log(mock, tmp_path) as log_after:
        assert log_after.recovered["clean"]
        until(lambda: log_after.counters()["delivered"] == 500)
    assert_all_there(read(mock), range(500), log.ring_id)


def test_opening_and_closing_leaves_no_thread_and_no_descriptor(mock, tmp_path):
    open_log(mock, tmp_path).close()
    counted = []
    for number in range(20):
        with open_log(mock, tmp_path, capacity=1 << 16) as log:
            assert log.push(record(number))
        counted.append((len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))))
    early, late = zip(*counted[:10], strict=True), zip(*counted[10:], strict=True)
    assert [max(counts) for counts in late] <= [max(counts) for counts in early], counted
    assert len(distinct(read(mock))) == 20 * 3


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the soak with")
def test_thread_sanitizer_finds_nothing_while_brokers_come_and_go(mock, tmp_path):
    names = ["file", "ring", "segment", "segment_directory", "recover", "thread", "series", "backlog", "kafka"]
    names += ["go_json", "expand", "deliver_rows", "deliver"]
    sources = [*(ROOT / "csrc" / f"{name}.cpp" for name in names), ROOT / "tests" / "native" / "deliver_soak.cpp"]
    unit = tmp_path / "soak.cpp"  # one unit: the standard headers are most of the work
    unit.write_text("".join(f'#include "{source}"\n' for source in sources))
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=thread", "-pthread", "-rdynamic", f"-I{ROOT / 'csrc'}"]
    built = subprocess.run(["g++", *flags, unit, "-o", tmp_path / "soak", "-ldl"], capture_output=True, text=True)
    if built.returncode and "tsan" in built.stderr:
        pytest.skip("this g++ has no thread sanitizer")
    assert built.returncode == 0, built.stderr
    command = [tmp_path / "soak", library(), mock.servers, "rows", tmp_path / "spill", "3000"]
    if shutil.which("setarch"):
        command = ["setarch", "-R", *command]  # some kernels place memory where this sanitizer cannot follow
    # librdkafka is not built for it: only what our own code does is judged.
    environment = os.environ | {"TSAN_OPTIONS": "ignore_noninstrumented_modules=1"}
    soak = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    for verb in ("down", "up") * 2:
        time.sleep(1.0)
        mock.tell(verb, 0)
    _, errors = soak.communicate(timeout=120)
    if "unexpected memory mapping" in errors:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert soak.returncode == 0 and "WARNING" not in errors, errors[:5000]


def test_a_forked_child_can_neither_push_nor_wait_and_harms_nothing(mock, tmp_path):
    log = open_log(mock, tmp_path)
    assert log.push(record(0))

    def child() -> None:
        assert not log.push(record(1)) and log.close() is False
        with pytest.raises(PairecError, match="forked child"):
            log.flush()

    _, status = os.waitpid(kill.in_child(child), 0)
    assert status == 0
    assert log.push(record(2)) and log.flush() and log.close()
    assert_all_there(read(mock), [0, 2], log.ring_id)


# In an engine


def test_an_explicit_callback_of_an_engine_is_in_the_topic_when_it_is_answered(mock, world):
    world.conf["KafkaConfs"] = {"rows": {"BootstrapServers": mock.servers, "Topic": "rows"}}
    world.conf["KafkaConfs"]["rows"]["Directory"] = str(world.folder / "spill")
    world.callback["DataSource"] = {"Name": "rows", "Type": "kafka"}
    world.callback["Durability"] = "delivered"
    world.conf["LogRingConf"]["DurabilityMilliseconds"] = 10_000
    items = [{"item_id": "i00001"}, {"item_id": "i00002"}]
    request = {"request_id": "q1", "uid": "u00007", "scene_id": "home_feed", "item_list": items}
    with world.engine() as engine:
        engine.callback(request)
        messages = read(mock)
        gauges = engine.logs.gauges()
    assert {message.key for message in messages} == {b"u00007"}
    rows = sorted((message.identity[2], json.loads(message.value)) for message in messages)
    assert [row.get("item_id") for _, row in rows] == [None, "i00001", "i00002"]
    assert {row["request_id"] for _, row in rows} == {"q1"}
    assert (gauges["log_delivered_total"], gauges["log_delivered_rows"], gauges["log_in_spill"]) == (1, 3, 0)


def test_a_wrong_property_in_a_configuration_is_an_error_that_names_it(mock, world):
    conf = {"BootstrapServers": mock.servers, "Topic": "rows", "Properties": {"linger.sm": "5"}}
    world.conf["KafkaConfs"] = {"rows": conf | {"Directory": str(world.folder / "spill")}}
    world.callback["DataSource"] = {"Name": "rows", "Type": "kafka"}
    with pytest.raises(ConfigError, match=r'KafkaConfs\.rows: librdkafka property "linger\.sm"'):
        world.engine()


# Wrong arguments


def test_without_librdkafka_the_error_says_how_to_get_one(tmp_path):
    with pytest.raises(PairecError, match=r"pip install 'pairec_fast\[kafka\]'.*librdkafka1.*/nowhere\.so"):
        load_library(["/nowhere.so"])
    with pytest.raises(PairecError, match=r"it has no rd_kafka"):
        load_library(["libm.so.6"])


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"servers": ""}, "servers must not be empty"),
        ({"topic": "a\0b"}, "topic must not"),
        ({"sink": "a-b"}, "sink must be"),
        ({"sink": "x" * 60}, "sink must be"),
        ({"capacity": 1000}, "capacity must be"),
        ({"rotate_bytes": 1}, "rotate_bytes must be"),
        ({"stall_seconds": 6.0}, "message_timeout_seconds must be at least twice stall_seconds"),
        ({"options": {"acks": "1"}}, '"acks" is the sink\'s own'),
        ({"options": {"linger.sm": "1"}}, 'property "linger.sm": No such configuration property'),
        ({"options": {"linger.ms": "soon"}}, 'property "linger.ms": Invalid value'),
        ({"options": {"security.protocol": "ssl", "ssl.ca.location": "/no/ca.pem"}}, "makes no producer"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, keywords, says):
    settings = {"servers": "127.0.0.1:1", "topic": "t", "library": [library()], "message_timeout_seconds": 10}
    with pytest.raises(ValueError, match=says):
        KafkaLog(tmp_path / "spill", tmp_path / "ring", **(settings | keywords))
    assert not (tmp_path / "spill").exists() or not list((tmp_path / "spill").iterdir())


def test_no_message_tells_a_secret(tmp_path):
    secrets = {"ssl.key.password": "hunter2", "sasl.password": "hunter2", "sasl.oauthbearer.config": "hunter2\0"}
    for name, secret in secrets.items():
        with pytest.raises(ValueError) as refused:
            KafkaLog(
                tmp_path / "spill", tmp_path / "ring", servers="127.0.0.1:1", topic="t", library=[library()],
                options={"security.protocol": "sasl_ssl", "sasl.mechanism": "NO-SUCH", name: secret},
            )  # fmt: skip
        assert "hunter2" not in str(refused.value)
