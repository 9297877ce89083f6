"""The functions of PAI-Rec's expressions, for one value and for columns. Source: PAIREC.md 8.3."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import elementary, geo
from pairec_fast.core.hash import murmur3, xxh64
from pairec_fast.expression.convert import to_float, to_int, to_string
from pairec_fast.expression.syntax import Operation
from pairec_fast.expression.value import Failure, Unsigned, divided, power
from pairec_fast.expression.vector import One, Operand, Vector, lift

EARTH_KM = 6371.0
LEVEL, PRECISION = 15, 6  # of s2CellID and geoHash where the expression says nothing
Floats = NDArray[np.float64]


class Function(NamedTuple):
    """An operation, and how many arguments it takes."""

    operation: Operation
    fewest: int
    most: int


def functions(clock: Callable[[], float] = time.time) -> Mapping[str, Function]:
    """The functions of both languages by name; `timestamp` asks `clock` for the seconds of now."""

    def timestamp(unit: Any = "", *rest: Any) -> float:
        in_milliseconds = to_string(unit, "").lower() in ("ms", "millisecond", "milliseconds")
        return float(math.floor(clock() * (1000 if in_milliseconds else 1)))

    now = Operation("timestamp", timestamp, None, pure=False)
    return {**FUNCTIONS, "timestamp": Function(now, 0, 255)}


def arity(name: str, fewest: int, most: int, given: int) -> str:
    """What is wrong with a number of arguments."""
    wanted = f"{fewest}" if fewest == most else f"{fewest} or more" if most == 255 else f"{fewest} to {most}"
    return f"{name} takes {wanted} arguments, got {given}"


def floats(operand: Operand, count: int) -> Floats:
    """`to_float` of every row, 0 where it is no number."""
    if isinstance(operand, One):
        return np.full(count, to_float(operand.value, 0.0))
    if operand.kind == "c":
        operand = lift(lambda value: to_float(value, 0.0), [operand], count)
    data: Floats = operand.data.astype(np.float64) if operand.kind in "fi" else np.zeros(count)
    return data if operand.nil is None else np.where(operand.nil, 0.0, data)


def _get_string(first: Any, *rest: Any) -> Any:
    if type(first) is str and first == "":
        return rest[0] if rest else ""
    return first


def _trim(text: Any, characters: Any) -> str:
    return to_string(text, "").strip(to_string(characters, ""))


def _trim_prefix(text: Any, prefix: Any) -> str:
    return to_string(text, "").removeprefix(to_string(prefix, ""))


def _replace(text: Any, old: Any, new: Any) -> str:
    return to_string(text, "").replace(to_string(old, ""), to_string(new, ""))


def _bytes(value: Any) -> bytes:
    return to_string(value, "").encode("utf-8", "surrogatepass")


def _hash(value: Any) -> Unsigned:
    return Unsigned(xxh64(_bytes(value)))


def _hash32(value: Any) -> float:
    return float(murmur3(_bytes(value)))


def _to_float64(value: Any) -> float:
    return to_float(value, 0.0)


def whole(number: float) -> float:
    """The nearest whole number, halves away from zero."""
    if not math.isfinite(number):
        return number
    down = math.copysign(float(math.trunc(number)), number)
    return down + math.copysign(1.0, number) if abs(number - down) >= 0.5 else down


def whole_column(numbers: Floats) -> Floats:
    down = np.trunc(numbers)
    rounded: Floats = np.where(np.abs(numbers - down) >= 0.5, down + np.copysign(1.0, numbers), down)
    return rounded


def _round(value: Any, *digits: Any) -> float:
    number = to_float(value, 0.0)
    if not digits:
        return whole(number)
    scale = power(10.0, to_float(digits[0], 0.0))
    scaled = number * scale
    scaled = math.copysign(float(math.trunc(scaled)), scaled) if math.isfinite(scaled) else scaled
    return divided(scaled, scale)


def _round_column(operands: Sequence[Operand], count: int) -> Operand | None:
    numbers = floats(operands[0], count)
    if len(operands) == 1:
        return Vector(whole_column(numbers))
    scale = elementary.power(np.full(count, 10.0), floats(operands[1], count))
    return Vector(np.trunc(numbers * scale) / scale)


def guarded(function: Callable[[float], float], number: float) -> float:
    """A logarithm without Python's exceptions."""
    if number > 0.0:
        return function(number)
    return -math.inf if number == 0.0 else math.nan


def greater(left: float, right: float) -> float:
    if left == math.inf or right == math.inf:
        return math.inf
    if left != left or right != right:
        return math.nan
    return left + right if left == right == 0.0 else max(left, right)  # 0.0 is greater than -0.0


def _negated(left: float, right: float) -> float:
    return -greater(-left, -right)


def greater_column(left: Floats, right: Floats) -> Floats:
    larger = np.where((left == 0.0) & (right == 0.0), left + right, np.maximum(left, right))
    result: Floats = np.where((left == np.inf) | (right == np.inf), np.inf, larger)
    return result


def _haversine(*degrees: Any) -> float:
    lng1, lat1, lng2, lat2 = (to_float(value, 0.0) * math.pi / 180 for value in degrees)
    if not all(map(math.isfinite, (lng1, lat1, lng2, lat2))):
        return math.nan
    up, along = math.sin((lat2 - lat1) / 2), math.sin((lng2 - lng1) / 2)
    a = up * up + math.cos(lat1) * math.cos(lat2) * along * along
    return EARTH_KM * (2 * math.atan2(math.sqrt(a), math.sqrt(1 - a) if a <= 1 else math.nan))


def _haversine_column(operands: Sequence[Operand], count: int) -> Operand | None:
    lng1, lat1, lng2, lat2 = (floats(operand, count) * np.pi / 180 for operand in operands)
    up, along = elementary.apply("sin", (lat2 - lat1) / 2), elementary.apply("sin", (lng2 - lng1) / 2)
    a = up * up + elementary.apply("cos", lat1) * elementary.apply("cos", lat2) * along * along
    return Vector(EARTH_KM * (2 * elementary.angle(np.sqrt(a), np.sqrt(1 - a))))


def _sphere_distance(*degrees: Any) -> float:
    lng1, lat1, lng2, lat2 = (to_float(value, 0.0) for value in degrees)
    if not all(map(math.isfinite, (lng1, lat1, lng2, lat2))):
        return math.nan
    up1, up2, along = lat1 * math.pi / 180, lat2 * math.pi / 180, (lng2 - lng1) * math.pi / 180
    if not math.isfinite(along):
        return math.nan
    cosine = math.sin(up1) * math.sin(up2) + math.cos(up1) * math.cos(up2) * math.cos(along)
    return math.acos(max(-1.0, min(1.0, cosine))) * EARTH_KM


def _sphere_distance_column(operands: Sequence[Operand], count: int) -> Operand | None:
    lng1, lat1, lng2, lat2 = (floats(operand, count) for operand in operands)
    up1, up2, along = lat1 * np.pi / 180, lat2 * np.pi / 180, (lng2 - lng1) * np.pi / 180
    sin, cos = "sin", "cos"
    cosine = elementary.apply(sin, up1) * elementary.apply(sin, up2)
    cosine = cosine + elementary.apply(cos, up1) * elementary.apply(cos, up2) * elementary.apply(cos, along)
    return Vector(elementary.apply("acos", np.clip(cosine, -1.0, 1.0)) * EARTH_KM)


def _within(value: Any, default: int, lowest: int, highest: int, what: str) -> int:
    number = to_int(value, default)
    if not lowest <= number <= highest:
        raise Failure(f"{what} must be {lowest} to {highest}, got {number}")
    return number


def _level(level: Any) -> int:
    return _within(level, LEVEL, 0, geo.LEVEL_MAX, "the level of an S2 cell")


def _precision(precision: Any) -> int:
    return _within(precision, PRECISION, 1, geo.PRECISION_MAX, "the precision of a geohash")


def _place(lat: Any, lng: Any) -> tuple[Floats, Floats]:
    return np.array([to_float(lat, 0.0)]), np.array([to_float(lng, 0.0)])


def _s2_cell(lat: Any, lng: Any, level: Any = LEVEL, *rest: Any) -> int:
    cell = int(geo.cells(*_place(lat, lng), _level(level))[0])
    if not cell:
        raise Failure("a place must be finite")
    return cell


def _s2_cell_column(operands: Sequence[Operand], count: int) -> Operand | None:
    if len(operands) > 2 and not isinstance(operands[2], One):
        return None
    try:
        level = _level(operands[2].value if len(operands) > 2 and isinstance(operands[2], One) else LEVEL)
    except Failure as failure:
        return One(failure)
    cells = geo.cells(floats(operands[0], count), floats(operands[1], count), level)
    bad = cells == 0
    return Vector(cells, None, None, bad if bad.any() else None)


def _s2_neighbors(lat: Any, lng: Any, level: Any = LEVEL, *rest: Any) -> list[int]:
    cell = _s2_cell(lat, lng, level)
    return [*geo.neighbors(cell), cell]


def _geohash_bits(lat: Any, lng: Any, precision: int) -> int:
    bits = int(geo.geohashes(*_place(lat, lng), precision)[0])
    if bits < 0:
        raise Failure("a place must be finite")
    return bits


def _geohash(lat: Any, lng: Any, precision: Any = PRECISION, *rest: Any) -> str:
    characters = _precision(precision)
    return geo.geohash_text(_geohash_bits(lat, lng, characters), characters)


def _geohash_column(operands: Sequence[Operand], count: int) -> Operand | None:
    if len(operands) > 2 and not isinstance(operands[2], One):
        return None
    try:
        precision = _precision(operands[2].value if len(operands) > 2 and isinstance(operands[2], One) else PRECISION)
    except Failure as failure:
        return One(failure)
    bits = geo.geohashes(floats(operands[0], count), floats(operands[1], count), precision)
    distinct, codes = np.unique(bits, return_inverse=True)
    texts = [geo.geohash_text(hash_, precision) if hash_ >= 0 else "" for hash_ in distinct.tolist()]
    bad = bits < 0
    return Vector(codes.reshape(-1), texts, None, bad if bad.any() else None)


def _geohash_neighbors(lat: Any, lng: Any, precision: Any = PRECISION, *rest: Any) -> list[str]:
    characters = _precision(precision)
    own = _geohash_bits(lat, lng, characters)
    return [geo.geohash_text(hash_, characters) for hash_ in (*geo.geohash_neighbors(own, characters), own)]


def float_list(value: Any) -> list[float]:
    """`ToFloatArray`, of which a list of texts is none.

    Raises:
        Failure: it is empty.
    """
    texts = isinstance(value, (list, tuple)) and all(isinstance(element, str) for element in value)
    if not isinstance(value, (list, tuple)) or texts:
        raise Failure("a list of numbers is needed")
    return [to_float(element, 0.0) for element in value]


def max_index(value: Any) -> int:
    """The place of the largest number, the first of equals; a NaN in front is never exceeded."""
    numbers = float_list(value)
    best = 0
    for place, number in enumerate(numbers):
        if number > numbers[best]:
            best = place
    return best


def max_value(value: Any) -> float:
    return float_list(value)[max_index(value)]


def unary(name: str, scalar: Callable[[float], float]) -> Function:
    """A function of one number that the core has over columns."""

    def column(operands: Sequence[Operand], count: int) -> Operand | None:
        return Vector(elementary.apply(name, floats(operands[0], count)))

    return Function(Operation(name, lambda value: scalar(to_float(value, 0.0)), column), 1, 1)


def binary(name: str, scalar: Callable[[float, float], float], column: Callable[[Floats, Floats], Floats]) -> Function:
    def over(operands: Sequence[Operand], count: int) -> Operand | None:
        return Vector(column(floats(operands[0], count), floats(operands[1], count)))

    def of(left: Any, right: Any) -> float:
        return scalar(to_float(left, 0.0), to_float(right, 0.0))

    return Function(Operation(name, of, over), 2, 2)


def plain(name: str, function: Callable[..., Any], fewest: int, most: int, fast: Any = None) -> Function:
    return Function(Operation(name, function, fast), fewest, most)


def _floats_column(operands: Sequence[Operand], count: int) -> Operand | None:
    return Vector(floats(operands[0], count))


FUNCTIONS: dict[str, Function] = {
    "getString": plain("getString", _get_string, 1, 255),
    "trim": plain("trim", _trim, 2, 2),
    "trimPrefix": plain("trimPrefix", _trim_prefix, 2, 2),
    "replace": plain("replace", _replace, 3, 3),
    "round": plain("round", _round, 1, 2, _round_column),
    "hash": plain("hash", _hash, 1, 1),
    "hash32": plain("hash32", _hash32, 1, 1),
    "toFloat64": plain("toFloat64", _to_float64, 1, 1, _floats_column),
    "log": unary("log", lambda number: guarded(math.log, number)),
    "log10": unary("log10", lambda number: guarded(math.log10, number)),
    "log2": unary("log2", lambda number: guarded(math.log2, number)),
    "max": binary("max", greater, greater_column),
    "min": binary("min", _negated, lambda left, right: -greater_column(-left, -right)),
    "pow": binary("pow", power, elementary.power),
    "s2CellID": plain("s2CellID", _s2_cell, 2, 255, _s2_cell_column),
    "s2CellNeighbors": plain("s2CellNeighbors", _s2_neighbors, 2, 255),
    "geoHash": plain("geoHash", _geohash, 2, 255, _geohash_column),
    "geoHashWithNeighbors": plain("geoHashWithNeighbors", _geohash_neighbors, 2, 255),
    "haversine": plain("haversine", _haversine, 4, 4, _haversine_column),
    "sphereDistance": plain("sphereDistance", _sphere_distance, 4, 4, _sphere_distance_column),
    "maxIndex": plain("maxIndex", max_index, 1, 1),
    "maxValue": plain("maxValue", max_value, 1, 1),
}
