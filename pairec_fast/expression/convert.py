"""PAI-Rec's conversions: what counts as a number, a text or a list. Go's rules, which are not Python's.

Python values stand for Go's: bool, int (int64), float (float64), str, list or tuple, None; NumPy scalars as these.
Source: PAIREC.md 0.3.
"""

from __future__ import annotations

import math
import re
import time
from datetime import date
from decimal import Decimal
from typing import Any

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_INT = re.compile(r"[+-]?[0-9]+")
_D = r"[0-9](?:_?[0-9])*"
_H = r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_DECIMAL = re.compile(rf"[+-]?(?:{_D}(?:\.(?:{_D})?)?|\.{_D})(?:[eE][+-]?{_D})?")
_HEX = re.compile(rf"[+-]?0[xX](?:_?{_H}(?:\.(?:{_H})?)?|\.{_H})[pP][+-]?{_D}")
_NAMED = re.compile(r"[+-]?(?:inf|infinity)|nan", re.IGNORECASE | re.ASCII)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and hasattr(value, "dtype") else value


def to_int(value: Any, default: int) -> int:
    """`value` as int64: ints, doubles truncated toward zero, text that is a plain signed decimal; else `default`.

    What does not fit (NaN too) is the smallest int64, as Go has it on x86-64; text that does not fit is `default`.
    """
    value = _plain(value)
    if isinstance(value, bool):
        return default
    if isinstance(value, (int, float)):
        return int(value) if INT_MIN <= value <= INT_MAX else INT_MIN
    if isinstance(value, str) and len(value) < 4000 and _INT.fullmatch(value):
        number = int(value)
        return number if INT_MIN <= number <= INT_MAX else default
    return default


def to_float(value: Any, default: float) -> float:
    """`value` as a double: ints, floats, text of Go's grammar (hex floats, `1_000`, no blanks); else `default`."""
    value = _plain(value)
    if isinstance(value, bool):
        return default
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, str):
        return default
    if _DECIMAL.fullmatch(value):
        number = float(value.replace("_", ""))
        return default if math.isinf(number) else number
    if _HEX.fullmatch(value):
        try:
            return float.fromhex(value.replace("_", ""))
        except OverflowError:
            return default
    return float(value) if _NAMED.fullmatch(value) else default


def to_string(value: Any, default: str) -> str:
    """`value` as text: ints, floats in plain decimal with the fewest digits, text as is; else `default`."""
    value = _plain(value)
    if isinstance(value, bool):
        return default
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return value if isinstance(value, str) else default


def to_string_array(value: Any) -> list[str]:
    """The elements of a list as texts, empty results dropped; anything but a list is empty."""
    elements = value if isinstance(value, (list, tuple)) else ()
    return [text for element in elements if (text := to_string(element, ""))]


def to_int_array(value: Any) -> list[int]:
    """The elements of a list as int64, 0 where they are not; anything but a list is empty."""
    return [to_int(element, 0) for element in value] if isinstance(value, (list, tuple)) else []


_DAY = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_HOUR, _MINUTE = r"(?P<hour>[0-9]{1,2})", r"(?P<minute>[0-9]{2})"
_SECOND = r"(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?"
_CLOCK = f"{_HOUR}:{_MINUTE}:{_SECOND}"
_COLON, _PLAIN = r"(?P<zone>[+-][0-9]{2}:[0-9]{2})", r"(?P<zone>Z|[+-][0-9]{4})"
_WEEKDAY = "(?i:sun|mon|tue|wed|thu|fri|sat)"
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAMED_MONTH = f"(?P<month>(?i:{'|'.join(_MONTHS)}))"
_TIMES = [
    re.compile(pattern)
    for pattern in (
        rf"{_DAY} {_CLOCK}(?:{_COLON})?",
        rf"{_DAY} {_HOUR}:{_MINUTE}",
        _DAY,
        rf"{_DAY}T{_CLOCK}(?P<zone>Z|[+-][0-9]{{2}}:[0-9]{{2}})",  # RFC 3339
        rf"{_DAY}T{_HOUR}(?::{_MINUTE}(?::{_SECOND})?)?{_PLAIN}",  # ISO 8601
        rf"{_WEEKDAY} +{_NAMED_MONTH} +(?P<day>[0-9]{{1,2}}) {_CLOCK}(?: +[A-Z]{{3,5}})? (?P<year>[0-9]{{4}})",
        rf"{_WEEKDAY} {_NAMED_MONTH} (?P<day>[0-9]{{2}}) {_CLOCK} (?P<zone>[+-][0-9]{{4}}) (?P<year>[0-9]{{4}})",
        rf"{_HOUR}:{_MINUTE}(?P<half>AM|PM)",
    )
]


def to_time(value: Any) -> int | None:
    """Nanoseconds of a text in one of PAI-Rec's time formats; None if it is none. UTC without a zone.

    Zone abbreviations count as UTC. A time without a date lies in the year 0. Source: PAIREC.md 5.1.
    """
    parts = _time_parts(to_string(value, ""))
    return None if parts is None else _nanoseconds(parts)


def to_unix(text: str) -> float | None:
    """Whole unix seconds of a text in one of PAI-Rec's time formats; None if it is none. Local time without a zone."""
    parts = _time_parts(text)
    moment = None if parts is None else _nanoseconds(parts)
    if parts is None or moment is None:
        return None
    seconds = moment // 1_000_000_000 - date(1970, 1, 1).toordinal() * 86_400
    return float(seconds if "zone" in parts else seconds - _utc_offset(seconds))


def _utc_offset(seconds: int) -> int:
    """Seconds east of UTC at a local time, which is given as if it were UTC."""
    try:
        return seconds - int(time.mktime((*time.gmtime(seconds)[:6], 0, 0, -1)))
    except (OverflowError, ValueError, OSError):  # before what the C library knows: the zone's standard offset
        return -time.timezone


def _time_parts(text: str) -> dict[str, str] | None:
    for pattern in _TIMES:
        if match := pattern.fullmatch(text):
            return {key: part for key, part in match.groupdict().items() if part}
    return None


def _nanoseconds(parts: dict[str, str]) -> int | None:
    month = parts.get("month", "1").lower()
    year, month_number = int(parts.get("year", "0")), _MONTHS.index(month) + 1 if month in _MONTHS else int(month)
    hour, minute, second = (int(parts.get(name, "0")) for name in ("hour", "minute", "second"))
    if "half" in parts:
        if not 0 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if parts["half"] == "PM" else 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    try:  # Python has no year 0: the year 400 has the same calendar, 146,097 days on
        days = date(year or 400, month_number, int(parts.get("day", "1"))).toordinal() - (0 if year else 146_097)
    except ValueError:
        return None
    zone = parts.get("zone", "Z").replace(":", "")
    offset = 0 if zone == "Z" else int(zone[0] + "1") * (int(zone[1:3]) * 60 + int(zone[3:5]))
    fraction = int(parts.get("fraction", "0").ljust(9, "0")[:9])
    return ((days * 1440 + hour * 60 + minute - offset) * 60 + second) * 1_000_000_000 + fraction
