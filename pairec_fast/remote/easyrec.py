"""What EasyRec and TorchRec model servers are asked and answer: PBRequest, PBResponse, TorchRecPBResponse.

*Source*: PAIREC 6.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import map_of_doubles
from pairec_fast.remote import features, wire

DT_FLOAT, DT_DOUBLE, DT_STRING = 1, 2, 7


def user_part(values: Mapping[str, object], kinds: Mapping[str, str] | None = None) -> bytes:
    """The part of a request that says who asks: written once, shared by all batches. What has no kind is left out."""
    kinds = kinds or {}
    parts = []
    for name, value in values.items():
        body = features.feature(value, kinds.get(name, ""))
        if body is not None:
            parts.append(wire.entry(2, wire.text(1, name), wire.block(2, body)))
    return b"".join(parts)


def request(
    user: bytes,
    item_ids: Sequence[str],
    context: Mapping[str, bytes],
    items: Mapping[str, bytes],
    *,
    debug_level: int = 0,
    meta: Mapping[str, str] | None = None,
) -> bytes:
    """A PBRequest. `user` is `user_part`; `context` and `items` have what `features.of_items` wrote, by name."""
    parts = [wire.number(1, debug_level)] if debug_level else []
    parts.append(user)
    parts += _item_ids(item_ids)
    parts += [wire.entry(4, wire.text(1, name), wire.block(2, body)) for name, body in context.items()]
    parts += [wire.entry(6, wire.text(1, name), wire.block(2, body)) for name, body in items.items()]
    parts += [wire.entry(7, wire.text(1, name), wire.text(2, value)) for name, value in (meta or {}).items()]
    return b"".join(parts)


_ID_HEADS = [wire.varint(3 << 3 | wire.BYTES) + wire.varint(size) for size in range(128)]


def _item_ids(ids: Sequence[str]) -> list[bytes]:
    """There are thousands, so what is before a short one is not made anew."""
    texts = [one.encode("utf-8", "replace") for one in ids]
    return [_ID_HEADS[len(one)] + one if len(one) < 128 else wire.block(3, one) for one in texts]


class Array(NamedTuple):
    """A tensor: `values` of float, double and integer ones, `texts` of string ones."""

    dtype: int
    shape: tuple[int, ...]
    values: NDArray[np.float64]
    texts: list[bytes]


class Results(NamedTuple):
    """Scores of items: those of the entry `n` are `values[ends[n - 1] : ends[n]]`."""

    entries: Mapping[str, int]
    values: NDArray[np.float64]
    ends: NDArray[np.int64]

    def of(self, item_id: str) -> NDArray[np.float64] | None:
        """The scores of one item."""
        place = self.entries.get(item_id)
        if place is None:
            return None
        begin = int(self.ends[place - 1]) if place else 0
        return self.values[begin : int(self.ends[place])]

    def places(self, ids: Sequence[str]) -> NDArray[np.intp]:
        """The entry of each of `ids`, -1 for none."""
        return np.fromiter(map(self.entries.get, ids, repeat(-1)), np.intp, len(ids))

    def counts(self) -> NDArray[np.int64]:
        """How many scores each entry has."""
        return np.diff(self.ends, prepend=0)


class Answer(NamedTuple):
    """A PBResponse, or a TorchRecPBResponse, whose `map_outputs` are `arrays` too."""

    results: Results
    arrays: dict[str, Array]
    generate_features: dict[str, str]
    raw_features: dict[str, str]
    context_features: dict[str, list[bytes]]
    outputs: list[str]
    item_ids: list[str]
    pass_through: dict[str, str]
    status: int = 0
    error: str = ""


NO_RESULTS = Results({}, np.empty(0), np.empty(0, np.int64))


def read_easyrec(body: bytes) -> Answer:
    """Raises WireError: not a PBResponse."""
    found = map_of_doubles(body, 1)
    if found is None:
        raise _place_of_damage(body)
    entries, values, ends, rest = found
    answer = Answer(Results(entries, values, ends), {}, {}, {}, {}, [], [], {})
    status, error = 0, ""
    for field, kind, value in wire.fields(rest):
        if field == 6 and isinstance(value, int):
            status = wire.signed(value)
        elif not isinstance(value, bytes):
            _refuse(field, kind, 2 <= field <= 10)
        elif field == 3:
            _put_text(answer.generate_features, value)
        elif field == 4:
            key, part = _entry(value)
            answer.context_features[key] = [
                one for at, _, one in wire.fields(part) if at == 1 and isinstance(one, bytes)
            ]
        elif field == 5:
            error = value.decode("utf-8", "replace")
        elif field == 7:
            answer.item_ids.append(value.decode("utf-8", "replace"))
        elif field == 8:
            answer.outputs.append(value.decode("utf-8", "replace"))
        elif field == 9:
            _put_text(answer.raw_features, value)
        elif field == 10:
            key, part = _entry(value)
            answer.arrays[key] = read_array(part)
    return answer._replace(status=status, error=error)


def read_torchrec(body: bytes) -> Answer:
    """Raises WireError: not a TorchRecPBResponse."""
    answer = Answer(NO_RESULTS, {}, {}, {}, {}, [], [], {})
    for field, kind, value in wire.fields(body):
        if not isinstance(value, bytes):
            _refuse(field, kind, 1 <= field <= 5)
        elif field == 1:
            key, part = _entry(value)
            answer.arrays[key] = read_array(part)
        elif field in (2, 3, 5):
            _put_text({2: answer.generate_features, 3: answer.raw_features, 5: answer.pass_through}[field], value)
        elif field == 4:
            answer.item_ids.append(value.decode("utf-8", "replace"))
    return answer


def read_array(body: bytes) -> Array:
    """Raises WireError: not an ArrayProto."""
    dtype, shape, texts = 0, list[int](), list[bytes]()
    parts: dict[int, list[tuple[int, int | bytes]]] = {}
    for field, kind, value in wire.fields(body):
        if field == 1 and isinstance(value, int):
            dtype = value
        elif field == 2 and isinstance(value, bytes):
            shape += wire.integers([(how, one) for at, how, one in wire.fields(value) if at == 1])
        elif field == 6 and isinstance(value, bytes):
            texts.append(value)
        else:
            parts.setdefault(field, []).append((kind, value))
    values = np.empty(0)
    if 3 in parts:
        values = wire.floats(parts[3], "<f4")
    elif 4 in parts:
        values = wire.floats(parts[4], "<f8")
    elif whole := parts.get(5, parts.get(7, parts.get(8))):
        values = np.array(wire.integers(whole), np.float64)
    return Array(dtype, tuple(shape), values, texts)


def _place_of_damage(body: bytes) -> wire.WireError:
    """Reads again what the kernel would not, the slow way, to say where it ends."""
    try:
        for field, kind, value in wire.fields(body):
            if field == 1 and isinstance(value, bytes) and kind == wire.BYTES:
                _, part = _entry(value)
                wire.floats([(how, one) for at, how, one in wire.fields(part) if at == 1], "<f8")
            elif field == 1:
                _refuse(field, kind, True)
    except wire.WireError as error:
        return error
    return wire.WireError("not an answer of EasyRec")


def _refuse(field: int, kind: int, known: bool) -> None:
    """A field of a number we know and another type is no newer version of the message: it is another message."""
    if known:
        raise wire.WireError(f"wire type {kind} in field {field}: not an answer of EasyRec")


def _entry(body: bytes) -> tuple[str, bytes]:
    """Key and value of an entry of a map from texts, whose values are messages or texts."""
    key = value = b""
    for field, kind, part in wire.fields(body):
        if field in (1, 2):
            if not isinstance(part, bytes) or kind != wire.BYTES:
                raise wire.WireError(f"wire type {kind} in an entry of a map")
            key, value = (part, value) if field == 1 else (key, part)
    return key.decode("utf-8", "replace"), value


def _put_text(into: dict[str, str], body: bytes) -> None:
    key, value = _entry(body)
    into[key] = value.decode("utf-8", "replace")
