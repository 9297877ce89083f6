"""Into which bucket a text falls, and which buckets a text names. Source: PAIREC.md 10.3."""

from __future__ import annotations

import hashlib
import re

from pairec_fast.core.bucket import fnv1

BUCKETS = 100  # of experiments and of Random groups; rooms say their own count
BUCKET_COUNT_MAX = 1_000_000  # a byte each

_INT = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1


def hash_of(text: str) -> int:
    """FNV-1 of 64 bits (multiply, then xor) over the 16 raw bytes of the MD5 of `text`."""
    return fnv1(hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest())


def number_of(uid: str) -> int | None:
    """An unsigned decimal of 64 bits, or None. Source: Go's `strconv.ParseUint`: no sign, no blanks, no underscores."""
    if uid.isascii() and uid.isdigit() and len(uid) < 1000 and (number := int(uid)) < 1 << 64:
        return number
    return None


def ranges(text: str, count: int) -> list[range]:
    """What a bucket text names: a comma list of `a-b`, b left out, and of single numbers; junk is ignored.

    A range ends behind `count`, which it may hold; a single number is taken as it is, and meets no bucket if there is
    none of that number.
    """
    found = []
    for part in text.split(","):
        start, dash, stop = part.partition("-")
        first = _integer(start)
        last = _integer(stop) if dash else first
        if first is not None and last is not None and stop.count("-") == 0:
            found.append(range(first, min(last, count + 1)) if dash else range(first, first + 1))
    return found


def bucket_set(text: str, count: int) -> frozenset[int]:
    """The numbers that a bucket text of `count` buckets names."""
    return frozenset(number for part in ranges(text, count) for number in part)


def table(text: str, count: int) -> bytes:
    """`table[bucket]` is 1 where the bucket text names the bucket."""
    found = bytearray(count)
    for part in ranges(text, count):
        for bucket in range(max(part.start, 0), min(part.stop, count)):
            found[bucket] = 1
    return bytes(found)


def _integer(text: str) -> int | None:
    """Go's `strconv.Atoi`."""
    number = int(text) if _INT.fullmatch(text) else None
    return number if number is not None and _INT_MIN <= number <= _INT_MAX else None
