"""Go's `fmt.Sprintf`, for the expressions that make keys of exposure filters. Source: Go's fmt; PAIREC.md 5.6."""

from __future__ import annotations

import math
import re
from typing import Any

from pairec_fast.expression.functions import Function, plain
from pairec_fast.expression.value import Failure, float_text, is_float, is_int, text_of

VERB = re.compile(r"%(?P<flags>[-+0# ]*)(?P<width>[0-9]*)(?:\.(?P<precision>[0-9]*))?(?P<verb>.|\Z)", re.DOTALL)
WIDTH_MAX = 1000
KINDS = {bool: "bool", int: "int", float: "float64", str: "string"}


def sprintf(format_: Any, *values: Any) -> str:
    """`values` written into `format_`: the verbs v, s, d, f, t, x and %, with flags, width and precision.

    What does not fit its verb is written as Go writes it: `%!d(string=x)`.

    Raises:
        Failure: the format is no text, or has another verb or a width beyond 1,000.
    """
    if not isinstance(format_, str):
        raise Failure("sprintf needs a text")
    left = list(values)

    def written(match: re.Match[str]) -> str:
        verb = match["verb"]
        if verb == "%":
            return "%"
        if not verb:
            return "%!(NOVERB)"
        if not left:
            return f"%!{verb}(MISSING)"
        width, precision = int(match["width"] or 0), match["precision"]
        if max(width, int(precision or 0)) > WIDTH_MAX:
            raise Failure(f"a width of more than {WIDTH_MAX}")
        text = _one(verb, left.pop(0), None if precision is None else int(precision or 0), "+" in match["flags"])
        if "-" in match["flags"]:
            return text.ljust(width)
        if "0" in match["flags"] and verb in "dfx":
            return text.zfill(width)
        return text.rjust(width)

    text = VERB.sub(written, format_)
    extra = ", ".join(f"{_kind(value)}={text_of(value)}" if value is not None else "<nil>" for value in left)
    return f"{text}%!(EXTRA {extra})" if left else text


def _kind(value: Any) -> str:
    return KINDS.get(type(value), "map[string]interface {}" if isinstance(value, dict) else "[]interface {}")


def _one(verb: str, value: Any, precision: int | None, plus: bool) -> str:
    if verb not in "vsdftx":
        raise Failure(f"sprintf knows no %{verb} here; use %v, %s, %d, %f, %t or %x")
    sign = "+" if plus and (is_int(value) or is_float(value)) and value >= 0 else ""
    if verb == "v" and precision is None:
        return sign + text_of(value)
    if verb in "sv" and isinstance(value, str):
        return value if precision is None else value[:precision]
    if verb == "d" and is_int(value):
        return sign + str(int(value))
    if verb == "f" and is_float(value):
        return sign + (
            f"{value:.{6 if precision is None else precision}f}" if math.isfinite(value) else float_text(value)
        )
    if verb == "t" and isinstance(value, bool):
        return text_of(value)
    if verb == "x" and (is_int(value) or isinstance(value, str)):
        return value.encode("utf-8", "surrogatepass").hex() if isinstance(value, str) else f"{int(value):x}"
    return f"%!{verb}(<nil>)" if value is None else f"%!{verb}({_kind(value)}={text_of(value)})"


SPRINTF: dict[str, Function] = {"sprintf": plain("sprintf", sprintf, 1, 255)}
