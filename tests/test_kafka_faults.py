"""The Kafka sink when its own machine is in trouble: the disk, the process, its arguments; and within an engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pairec_fast.core.kafka import KafkaLog, load_library
from pairec_fast.core.ring import verify_segments
from pairec_fast.errors import ConfigError, PairecError
from tests.faults import kafka_kill, kill, native
from tests.topics import assert_all_there, assert_law, cluster, distinct, library, open_log, push, read, record, until

OUT_OF_ORDER = 45
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def mock():
    mock = cluster()
    yield mock
    mock.close()


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


UNSYNCED = """
import sys
from pathlib import Path
from types import SimpleNamespace
from tests.faults.native import Faults
from tests.topics import assert_law, open_log, push, record, until

Faults().arm(Path(sys.argv[2]) / "spill", 3, call="fdatasync", then=3)
log = open_log(SimpleNamespace(servers=sys.argv[1]), Path(sys.argv[2]), rotate_bytes=1 << 16, sync_seconds=0.005)
number = 0
while log.counters()["errors"].get("EIO", 0) < 10:
    push(log, record(number))
    number += 1
print("spilling", flush=True)
sys.stdin.readline()
assert log.flush(30) and assert_law(log)["delivered"] == number and log.close()
print(number, log.ring_id)
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the fault with")
def test_spilled_records_whose_fdatasync_fails_are_spilled_again_and_all_sent(mock, tmp_path):
    """Every third fails while brokers are away: segments are given up, whole or in part, and written anew."""
    mock.tell("down", 0)
    child = subprocess.Popen(
        [sys.executable, "-c", UNSYNCED, mock.servers, tmp_path], cwd=ROOT, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, env=os.environ | {"LD_PRELOAD": str(native.faultfs())},
    )  # fmt: skip
    assert child.stdout.readline() == "spilling\n"
    mock.tell("up", 0)
    told, _ = child.communicate("go on\n", timeout=60)
    assert child.returncode == 0
    number, ring_id = map(int, told.split())
    assert_all_there(read(mock), range(number), ring_id)
    assert not list((tmp_path / "spill").iterdir())


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
    until(lambda: other.counters()["delivered"] == 100 and other.counters()["in_spill"] == 0)
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
            assert log.push(record(number)) and log.flush()
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
        (log,) = engine.logs._logs.values()
        log.inject_fatal_error(OUT_OF_ORDER)
        until(lambda: engine.logs.gauges().get('kafka_errors_total{code="OUT_OF_ORDER_SEQUENCE_NUMBER"}') == 1)
        assert log.push(b"no record") and log.flush()
        assert engine.logs.gauges()['dead_letter_total{code="_BAD_MSG"}'] == 1
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
