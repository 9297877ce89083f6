"""Records into rows: by hand, beside the slow twin, and whatever damage leaves of them."""

from __future__ import annotations

import itertools
import json
import random
import re
import shutil
import struct
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest

from pairec_fast.callback import REPEATED_BYTES_MAX, Record, encode
from pairec_fast.core import expand
from tests import reference_log
from tests.faults import expand as faults

ROOT = Path(__file__).resolve().parent.parent
HEAD = [b"\xa1s", b"\xa1r", b"\x07", b"\xa1u"]  # scene, request_id, request_time, uid
ITEM = b"\x81\xa7item_id\xa1a"


def packed(features=b"\x80", request_info=b"\x80", items=b"\x90", *, head=HEAD, more=()):
    """A record of parts that are msgpack already."""
    fields = [*head, features, request_info, items, *more]
    return bytes([0x90 + len(fields)]) + b"".join(fields)


def user_features(features: bytes) -> str:
    return json.loads(expand(packed(features))[0])["user_features"]


def test_the_rows_of_a_small_record_byte_for_byte():
    record = Record(
        "home<", 'r"1', 7, "84603208", {"b": "1.50", "a": "<é>", "type": "x", "none": ""}, {"k": [1, None, True]},
        [{"z": 20.0, "item_id": "i\n", "raw_features": "raw", "context_features": 5, "a": {"y": "\u2028", "x": 1e-7}}],
    )  # fmt: skip
    head = r'{"request_id":"r\"1","scene":"home<","request_time":7,"user_id":"84603208",'
    assert [row.decode() for row in expand(encode(record))] == [
        head + r'"user_features":"{\"a\":\"\\u003cé\\u003e\",\"b\":1.5,\"uid\":84603208}",'
        r'"request_info":"{\"k\":[1,null,true]}","module":"user"}',
        head + r'"module":"item","item_id":"i\n","raw_features":"raw","generate_features":"","context_features":"",'
        r'"item_features":"{\"a\":{\"x\":1e-7,\"y\":\"\\u2028\"},\"z\":20}"}',
    ]


def test_rows_agree_with_the_slow_twin_on_nasty_and_on_damaged_records():
    """Small dose; the full one is `python -m tests.faults.expand --times 1000000`."""
    totals = faults.run(2000, 5)
    assert totals["different"] == 0
    assert totals["same"] > 800 and totals["refused"] > 700, totals
    assert totals["gap"] > 20 and all(totals[part] > 100 for part in faults.PARTS if part != "gap"), totals


def test_doubles_of_every_magnitude_are_written_as_go_writes_them():
    parts = itertools.product(("", "-"), ("1", "9.5", "1.2345678901234567"), range(-330, 308))
    doubles = [float(f"{sign}{digits}e{power}") for sign, digits, power in parts]
    payload = encode(Record("s", "r", 7, "u", {"x": doubles}, {}, []))
    assert expand(payload) == reference_log.expand(payload)
    assert user_features(b"\x81\xa1x\xca" + struct.pack(">f", 0.1)) == '{"uid":"u","x":0.10000000149011612}'


@pytest.mark.parametrize("text", faults.NUMERIC, ids=repr)
def test_texts_count_as_numbers_by_go_s_grammar(text):
    payload = encode(Record("s", "r", 7, "u", {"x": text, "y": [text]}, {}, [{"item_id": text, "x": text}]))
    assert expand(payload) == reference_log.expand(payload)


def test_of_a_key_given_twice_the_last_counts():
    assert user_features(b"\x83\xa1x\x01\xa1y\xa0\xa1x\x02") == '{"uid":"u","x":2}'
    assert user_features(b"\x82\xa1x\x01\xa1x\xa0") == '{"uid":"u"}'
    assert user_features(b"\x82\xa3uid\x01\xa1x\x82\xa1y\x01\xa1y\x02") == '{"uid":"u","x":{"y":2}}'
    (_, item) = expand(packed(items=b"\x91\x82\xa7item_id\xa1a\xa7item_id\xa1b"))
    assert json.loads(item)["item_id"] == "b" and json.loads(item)["item_features"] == "{}"


@pytest.mark.parametrize(
    "value",
    [b"\xcb\x7f\xf8" + bytes(6), b"\xca\xff\x80\0\0", b"\xc4\x01a", b"\xd4\x05a", b"\x81\x01\x02", b"\x81\xc0\x02"],
    ids=["NaN", "-inf", "bytes", "extension", "integer key", "nil key"],
)  # fmt: skip
def test_what_json_lacks_empties_its_text_and_no_other(value):
    user, item = expand(packed(b"\x81\xa1x" + value, b"\x81\xa1y\x01", b"\x91\x82\xa7item_id\xa1a\xa1x\x91" + value))
    assert json.loads(user)["user_features"] == "" and json.loads(user)["request_info"] == '{"y":1}'
    assert json.loads(item)["item_features"] == "" and json.loads(item)["item_id"] == "a"


@pytest.mark.parametrize(("opening", "closing", "written"), [(b"\x91", b"", "[]"), (b"\x81\xa1k", b"", '{"k":}')])
def test_nesting_is_written_to_its_limit_and_stepped_over_beyond(opening, closing, written):
    left, right = written[:-1], written[-1]
    for depth in (998, 999, 1000, 300_000):
        features = b"\x81\xa1x" + opening * depth + b"\x01" + closing * depth
        text = user_features(features)
        expected = '{"uid":"u","x":' + left * depth + "1" + right * depth + "}"
        assert text == (expected if depth <= 999 else "")


def test_much_that_is_nested_takes_no_more_time_than_its_bytes():
    """Stepping over a value must not walk it again at every level."""
    leaf = b"\xdd" + struct.pack(">I", 700_000) + bytes(700_000)

    def seconds(features: bytes) -> float:
        start = time.thread_time()
        assert user_features(features).count("0") == 700_000
        return time.thread_time() - start

    flat = min(seconds(b"\x81\xa1x" + leaf) for _ in range(3))
    assert min(seconds(b"\x81\xa1x" + b"\x81\xa1k" * 990 + leaf) for _ in range(3)) < 10 * flat


def test_rows_that_are_ready_come_out_as_they_are():
    payload = msgspec.msgpack.encode(["u", ['{"a":1}', '{"b":"é"}']])
    assert expand(payload) == [b'{"a":1}', '{"b":"é"}'.encode()] == reference_log.expand(payload)
    long = msgspec.msgpack.encode(["", ["{" + "x" * 70_000 + "}"] * 20])
    assert expand(long) == reference_log.expand(long)


@pytest.mark.parametrize(
    "value",
    [["u", []], ["u", ["x"]], ["u", ["{"]], ["u", ["{}", 1]], ["u", [b"{}"]], ["u", {}], [1, ["{}"]], ["u", "{}"]],
    ids=repr,
)  # fmt: skip
def test_what_holds_no_rows_that_are_ready_is_refused(value):
    payload = msgspec.msgpack.encode(value)
    for reader in (expand, reference_log.expand):
        with pytest.raises(ValueError):
            reader(payload)
    with pytest.raises(ValueError, match="not a record"):
        expand(msgspec.msgpack.encode(["u", ["{}"]]) + b"\0")
    with pytest.raises(ValueError, match="not a record"):
        expand(b"\x92\xa1u\x91\xa3{\xff}")


def test_ready_rows_that_are_damaged_are_never_read_beyond_their_end():
    payload = msgspec.msgpack.encode(["user", ['{"a":1}', '{"b":2}']])
    dice = random.Random(3)
    for cut in range(len(payload)):
        with pytest.raises(ValueError, match="not a record"):
            expand(payload[:cut])
    for _ in range(3000):
        damaged = bytearray(payload)
        damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        try:
            expected = reference_log.expand(bytes(damaged))
        except (ValueError, RecursionError):
            expected = None
        try:
            assert expand(bytes(damaged)) == expected
        except ValueError:
            assert expected is None


def test_fields_that_came_later_are_left_out_whatever_they_hold():
    plain = expand(packed(items=b"\x91" + ITEM))
    more = [b"\xa0", b"\xa0", b"\x90", b"\x92\x01\x81\x01\xc4\x01a", b"\xd6\xff\0\0\0\0", b"\xa1\xff"]
    assert expand(packed(items=b"\x91" + ITEM, more=more)) == plain and len(plain) == 2


def test_rows_tell_experiment_snapshot_and_positions_behind_the_columns_of_pai_rec():
    more = [b"\xa2e1", b"\xa2f1", b"\x91\xcc\xc8"]
    user, first, second = expand(packed(items=b"\x92" + ITEM + ITEM, more=more))
    assert user.endswith(b'"module":"user","experiment_id":"e1","fingerprint":"f1"}')
    assert first.endswith(b',"position":200}') and b"position" not in second
    for bad in ([b"\x01"], [b"\xa0", b"\xc0"], [b"\xa0", b"\xa0", b"\x80"], [b"\xa0", b"\xa0", b"\x91\xa0"]):
        with pytest.raises(ValueError, match="not a record"):
            expand(packed(items=b"\x91" + ITEM, more=bad))


def test_a_gap_is_one_row_that_says_how_many_were_refused():
    gap = msgspec.msgpack.encode({"gap_from": 2**63, "gap_to": 2**64 - 1, "dropped": 3, "reason": "full"})
    row = b'{"module":"gap","gap_from":9223372036854775808,"gap_to":18446744073709551615,"dropped":3,"reason":"full"}'
    assert expand(gap) == reference_log.expand(gap) == [row]
    for bad in (b"\x80", gap[:-1], gap + b"\0", b"\x81\xa1a\xc0", b"\x81\x01\x01", b"\x81\xa1\xff\x01"):
        with pytest.raises(ValueError, match="not a record"):
            expand(bad)


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\x90", b"\xc1", b"\xdd\xff\xff\xff\xff", packed()[:-1], packed() + b"\xc0", b"\x96" + packed()[1:-1],
        packed(head=[b"\x01", *HEAD[1:]]), packed(head=[*HEAD[:3], b"\xc4\x01u"]), packed(b"\x90"),
        packed(head=[b"\xa1\xff", *HEAD[1:]]), packed(head=[*HEAD[:2], b"\xa1t", HEAD[3]]), packed(b"\x81\x01\x01"),
        packed(request_info=b"\xc0"), packed(items=b"\x80"), packed(items=b"\x91\x80"),
        packed(items=b"\x91\x81\xa7item_id\x01"),
        packed(items=b"\x91\xa1a"), packed(items=b"\x91\x82\xa7item_id\xa1a\xa7item_id\xc0"),
        packed(b"\xdf\xff\xff\xff\xff"), packed(b"\x81\xa1x\xa5ab"), packed(b"\x81\xa1x\xed\xa0\x80"),
        packed(b"\x81\xa1x\xa3\xed\xa0\x80"), packed(b"\x81\xa1x\xa2\xc0\x80"), packed(more=[b"\xc1"]),
    ],
)  # fmt: skip
def test_what_is_no_record_is_refused(payload):
    with pytest.raises(ValueError, match="not a record of a callback"):
        expand(payload)
    with pytest.raises(ValueError):
        reference_log.expand(payload)


def test_ids_that_repeated_in_every_row_would_fill_the_memory_are_refused():
    def rows(items: int) -> list[bytes]:
        return expand(msgspec.msgpack.encode(Record("s", "r", 7, "u" * 500_000, {}, {}, [{"item_id": "a"}] * items)))

    assert len(rows(100)) == 101
    with pytest.raises(ValueError, match="not a record"):
        rows(600)
    header = (Path(__file__).parent.parent / "csrc" / "expand.hpp").read_text()
    (shift,) = re.findall(r"expand_repeated_bytes_max = 1u << (\d+);", header)
    assert 1 << int(shift) == REPEATED_BYTES_MAX, "what is refused here is refused before it is logged"


def test_a_payload_is_any_contiguous_buffer():
    payload = packed(items=b"\x91" + ITEM)
    assert expand(bytearray(payload)) == expand(memoryview(payload)) == expand(payload)
    with pytest.raises(TypeError):
        expand("text")
    with pytest.raises(BufferError):
        expand(memoryview(payload)[::2])


def test_threads_expand_at_the_same_time_without_the_lock():
    """Each has buffers of its own."""
    payloads = [
        encode(Record("s", f"r{n}", n, "u", {"x": ["<" * n] * 9}, {}, [{"item_id": f"{n}"}] * n)) for n in range(40)
    ]
    expected = [reference_log.expand(payload) for payload in payloads]
    answers: list[bool] = []

    def work() -> None:
        answers.append(all([expand(payload) for payload in payloads] == expected for _ in range(20)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 4


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build it with")
def test_the_flush_thread_s_expander_reads_no_byte_too_many_and_allocates_nothing_when_warm(tmp_path):
    unit = tmp_path / "warm.cpp"
    sources = [
        ROOT / "csrc" / "expand.cpp",
        ROOT / "csrc" / "go_json.cpp",
        ROOT / "tests" / "native" / "expand_warm.cpp",
    ]
    unit.write_text("".join(f'#include "{source}"\n' for source in sources))
    flags = ["-std=c++20", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover", f"-I{ROOT / 'csrc'}"]
    built = subprocess.run(["g++", *flags, unit, "-o", tmp_path / "warm"], capture_output=True, text=True)
    if built.returncode and "asan" in built.stderr:
        pytest.skip("this g++ has no address sanitizer")
    assert built.returncode == 0, built.stderr
    rng = random.Random(3)
    payloads = [faults.record(rng) for _ in range(300)]
    payloads += [faults.damaged(rng, payload) for payload in payloads]
    deep = packed(b"\x81\xa1x" + b"\x81\xa1k" * 998 + b"\x01", b"\x81\xa1x" + b"\x91" * 300_000 + b"\x01")
    payloads += [deep, packed(items=b"\xdc\x01\x00" + ITEM * 256)]
    (tmp_path / "payloads").write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in payloads))
    run = subprocess.run([tmp_path / "warm", tmp_path / "payloads"], capture_output=True, timeout=120)
    assert run.returncode == 0 and run.stderr == b"0 allocations when warm\n", run.stderr[:5000].decode()
    expected = []
    for payload in payloads:
        try:
            expected += expand(payload)
        except ValueError:
            expected.append(b"refused")
    assert run.stdout.splitlines() == expected
