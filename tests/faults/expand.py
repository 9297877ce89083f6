"""Expand records of every nasty kind, and what is left of them after damage, beside the slow twin.

    python -m tests.faults.expand --times 1000000 [--seed 7]

Half of the payloads are sound records of values where a conversion goes wrong first; the others had bytes flipped, cut,
moved or put in. Whatever comes, `core.expand` answers what the twin answers, or both refuse. For the sanitizer flavour:

    PAIREC_SANITIZE=address,undefined python setup.py build_ext --inplace
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \\
        python -m tests.faults.expand --times 100000
"""

from __future__ import annotations

import argparse
import json
import math
import random
import struct
import sys
from collections import Counter
from typing import Any

import msgspec

from pairec_fast.core import expand
from tests import reference_log

encode = msgspec.msgpack.Encoder().encode

EDGES = [0.0, 1e-6, 1e21, 2.0**53, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 1e22, 1e23, 0.1, 123.456]
DOUBLES = [*EDGES, *(math.nextafter(x, side) for x in EDGES for side in (0.0, math.inf)), math.inf, math.nan]
INTEGERS = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
LETTERS = ["a", "\0", "\x1f", "\x7f", '"', "\\", "/", "<", ">", "&", "\n", "é", "߿", "ࠀ", "\u2027", "\u2028",
           "\u2029", "\u202a", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]  # fmt: skip
KEYS = ["a", "b", "uid", "type", "item_id", *reference_log.TEXTS, "é", "", "a\0", "aa", "<"]
NUMERIC = ["nan", "NaN", "-nan", "inf", "+Inf", "-infinity", "1e400", "-1e400", "1e-400", "0e999999999999", "1_000",
           "1__0", "_1", "1_", "1.", ".5", ".", "", " 1", "1 ", "+1", "--1", "-0", "0x1p4", "0X_1.8P-3", "0x.8p1",
           "0x1", "0x1p1024", "0x1p-1074", "0x1p-1075", "0x1.8p-1075", "0x1.fffffffffffff8p1023", "0x0p99999999999",
           "1e23", "9007199254740993", "179769313486231580793e289", "2.4703282292062327e-324", "84603208"]  # fmt: skip
TAGS = bytes([0x80, 0x81, 0x8F, 0x90, 0x91, 0x9F, 0xA0, 0xA1, 0xBF, *range(0xC0, 0xE0), 0xFF])


def number(rng: random.Random) -> Any:
    match rng.randrange(6):
        case 0:
            return rng.choice(DOUBLES) * rng.choice((1, -1))
        case 1:
            return struct.unpack("<d", rng.randbytes(8))[0]
        case 2:
            return rng.randrange(10**17) / 10 ** rng.randrange(25)
        case 3:
            return float(rng.randrange(1, 10**17) * 10 ** rng.randrange(25))
        case 4:
            return rng.choice((*INTEGERS, -(2**63), -(2**31) - 1, -33, -32))
        case _:
            return rng.choice((1, -1)) * (rng.getrandbits(63) >> rng.randrange(63))


def text(rng: random.Random) -> str:
    match rng.randrange(5):
        case 0:
            return rng.choice(NUMERIC)
        case 1:
            return "".join(rng.choices("0123456789_.eExXpPaf+-", k=rng.randrange(12)))
        case 2:
            digits = "".join(rng.choices("0123456789", k=rng.randrange(1, 40)))
            at = rng.randrange(len(digits) + 1)
            return rng.choice(("", "-", "+")) + f"{digits[:at]}.{digits[at:]}e{rng.randrange(-330, 330)}"
        case 3:
            return (
                f"{rng.choice(('', '-'))}0x{rng.getrandbits(99):x}.{rng.getrandbits(50):x}p{rng.randrange(-1200, 1050)}"
            )
        case _:
            return "".join(rng.choices(LETTERS, k=rng.randrange(20)))


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.randrange(12 if depth < 4 else 8)
    if kind < 3:
        return number(rng)
    if kind < 6:
        return text(rng)
    if kind < 8:
        return rng.choice((None, True, False, None, True, False, rng.randbytes(3)))
    if kind < 10:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {key(rng): value(rng, depth + 1) for _ in range(rng.randrange(5))}


def key(rng: random.Random) -> Any:
    return rng.choice(
        (rng.choice(KEYS), text(rng), rng.choice(KEYS), rng.choice((1, None)) if rng.random() < 0.02 else "k")
    )


def named(rng: random.Random) -> dict[str, Any]:
    """Values by names, as many as have heads of every length."""
    count = rng.choice((0, 1, 3, 8, 15, 16, 17)) if rng.random() < 0.95 else 70
    return {rng.choice((rng.choice(KEYS), text(rng))): value(rng) for _ in range(count)}


def record(rng: random.Random) -> bytes:
    if rng.random() < 0.05:
        return gap(rng)
    items = [named(rng) | {"item_id": text(rng)} for _ in range(rng.choice((0, 1, 2, 17)))]
    more = [rng.choice(("", text(rng))), rng.choice(("", text(rng))), positions(rng, len(items))]
    more = more[: rng.randrange(4)] if rng.random() < 0.5 else more + [value(rng) for _ in range(rng.randrange(3))]
    head = [text(rng), text(rng), rng.choice(INTEGERS), text(rng)]
    match rng.randrange(40):  # what makes it no record
        case 0:
            rng.choice(items or [{}]).pop("item_id", None)
        case 1:
            head[rng.randrange(4)] = value(rng)
        case 2 if more:
            more[rng.randrange(len(more))] = value(rng)
    payload: bytes = encode([*head, named(rng), named(rng), items, *more])
    return narrowed(payload) if rng.random() < 0.2 else payload


def positions(rng: random.Random, items: int) -> list[Any]:
    """As many as there are items, fewer or more; rarely one that is no place."""
    count = rng.choice((0, 1, items, items, items + 1))
    places = [rng.choice((rng.randrange(100), *INTEGERS, -1, -(2**63))) for _ in range(count)]
    if places and rng.random() < 0.03:
        places[rng.randrange(count)] = value(rng)
    return places


def gap(rng: random.Random) -> bytes:
    """What a log leaves where it refused some, or a map that is nearly one."""
    whole = [rng.choice(INTEGERS) for _ in range(3)]
    fields = {"gap_from": whole[0], "gap_to": whole[1], "dropped": whole[2], "reason": rng.choice(("full", text(rng)))}
    match rng.randrange(6):
        case 0:
            fields[rng.choice(list(fields))] = value(rng)
        case 1:
            fields.pop(rng.choice(list(fields)))
        case 2:
            fields[text(rng)] = rng.choice((text(rng), number(rng)))
    payload: bytes = encode(fields)
    return payload


def narrowed(payload: bytes) -> bytes:
    """With doubles as floats: another length of head, which our own encoder never writes."""
    at = payload.find(b"\xcb")
    if at < 0:
        return payload
    (number,) = struct.unpack(">d", payload[at + 1 : at + 9].ljust(8, b"\0"))
    try:
        return payload[:at] + b"\xca" + struct.pack(">f", number) + payload[at + 9 :]
    except OverflowError:
        return payload


def damaged(rng: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 9, 40))
        match rng.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + 1] = rng.choice(TAGS).to_bytes()
            case 2:
                data[at:at] = rng.choice(TAGS).to_bytes() + rng.choice((b"", b"\xff" * size, bytes(size)))
            case 3:
                del data[at : at + size]
            case 4:
                source = rng.randrange(len(data) + 1)
                data[at:at] = data[source : source + size]
            case 5 if rng.random() < 0.2:
                del data[at:]
    return bytes(data)


# What only some rows have, and how it is known: a quote within a value is escaped.
PARTS = {"gap": b'"module":"gap"', "experiment_id": b'"experiment_id":', "fingerprint": b'"fingerprint":',
         "position": b'"position":'}  # fmt: skip

# What msgspec refuses within a value of any kind, and a JSON text merely lacks.
PYTHONIC = ("hashable", "unhashable", "imestamp", "out of range", "Invalid MessagePack", "year")


def compare(payload: bytes) -> str:
    """ "same", "refused" by both, or "different"."""
    why = ""
    try:
        expected = reference_log.expand(payload)
    except RecursionError:
        return "deep"
    except ValueError as error:
        expected, why = None, str(error)
    try:
        rows = expand(payload)
    except ValueError:
        rows = None
    if rows == expected:
        return "refused" if rows is None else "same"
    if expected is None and any(words in why for words in PYTHONIC):
        return "python refused"
    print(f"{payload!r}\n expected {expected or why}\n      got {rows}", file=sys.stderr)
    return "different"


def run(times: int, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    totals: Counter[str] = Counter()
    for turn in range(times):
        payload = record(rng)
        payload = payload if turn % 2 else damaged(rng, payload)
        totals[outcome := compare(payload)] += 1
        if outcome == "same":
            rows = expand(payload)
            totals.update(name for name, part in PARTS.items() if any(part in row for row in rows))
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", file=sys.stderr)
    totals = run(arguments.times, seed)
    print(json.dumps(dict(totals)))
    return int(totals["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
