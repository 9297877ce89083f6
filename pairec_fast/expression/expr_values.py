"""What the operators and built-in functions of expr-lang do to values. Source: expr-lang's language definition."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pairec_fast.expression.arithmetic import among_texts, equality, membership, of_numbers, power_column
from pairec_fast.expression.convert import INT_MAX, INT_MIN, to_float
from pairec_fast.expression.functions import Function, plain
from pairec_fast.expression.govaluate import same
from pairec_fast.expression.regex import search
from pairec_fast.expression.syntax import Operation
from pairec_fast.expression.value import Failure, Unsigned, divided, is_float, is_int, is_number, power, text_of, wrap
from pairec_fast.expression.vector import One, Operand, Vector, is_nil


def kind_of(value: Any) -> str:
    """The name that expr-lang gives to the type of a value."""
    if value is None:
        return "nil"
    names = {bool: "bool", int: "int", Unsigned: "uint", float: "float", str: "string", dict: "map"}
    return names.get(type(value), "array")


def refuse(what: str, *values: Any) -> Failure:
    return Failure(f"{what} is not defined on {' and '.join(map(kind_of, values))}")


def equal(left: Any, right: Any) -> bool:
    """`==`: an int may equal a double, lists compare element by element, everything else by kind."""
    if is_number(left) and is_number(right):
        return wrap(left) == wrap(right) if is_int(left) and is_int(right) else float(left) == float(right)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    return same(left, right)


def _arithmetic(symbol: str, ints: Callable[[int, int], int] | None, floats: Any) -> Callable[[Any, Any], Any]:
    def of(left: Any, right: Any) -> Any:
        if is_int(left) and is_int(right) and ints is not None:
            return wrap(ints(wrap(left), wrap(right)))
        if floats is not None and is_number(left) and is_number(right):
            return floats(float(left), float(right))
        if symbol == "+" and isinstance(left, str) and isinstance(right, str):
            return left + right
        raise refuse(symbol, left, right)

    return of


def _modulo(left: int, right: int) -> int:
    if right == 0:
        raise Failure("division by zero")
    return int(math.copysign(1, left)) * (abs(left) % abs(right))


def _modulo_column(left: Any, right: Any) -> Any:
    return None if (right == 0).any() else np.fmod(left, np.where(right == -1, 1, right))


def _compare(symbol: str, function: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def of(left: Any, right: Any) -> bool:
        if is_int(left) and is_int(right):
            return function(wrap(left), wrap(right))
        if is_number(left) and is_number(right):
            return function(float(left), float(right))
        if isinstance(left, str) and isinstance(right, str):
            return function(left, right)  # code points order texts as their UTF-8 bytes do
        raise refuse(symbol, left, right)

    return of


def _text(symbol: str, function: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def of(left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        if not isinstance(left, str) or not isinstance(right, str):
            raise refuse(symbol, left, right)
        return function(left, right)

    return of


def contains(left: Any, right: Any) -> bool:
    """`left in right`, of a list or of the keys of a map."""
    if right is None:
        return False
    if isinstance(right, (list, tuple)):
        return left in right if isinstance(left, str) else any(equal(left, element) for element in right)
    if not isinstance(right, dict) or not isinstance(left, (str, type(None))):
        raise refuse("in", left, right)
    return left in right


def one_of(texts: frozenset[str]) -> Operation:
    """`in` a list of constant texts, which takes texts and nil alone."""

    def of(value: Any) -> bool:
        if value is not None and not isinstance(value, str):
            raise refuse("in a list of texts", value)
        return value in texts

    return Operation("in", of, among_texts(texts))


def fetch(base: Any, key: Any) -> Any:
    """`base[key]` and `base.key`: nil for a key that a map lacks, a failure for everything else that is not there."""
    if isinstance(base, dict):
        if key is not None and not isinstance(key, str):
            raise refuse("[]", base, key)
        return base.get(key)
    if not isinstance(base, (list, tuple, str)) or not is_number(key) or key != key or abs(key) > INT_MAX:
        raise refuse("[]", base, key)
    elements: Any = base.encode() if isinstance(base, str) else base
    place = int(key)
    if not -len(elements) <= place < len(elements):
        raise Failure(f"index {place} of {len(elements)}")
    return elements[place]


def cut(base: Any, start: Any, end: Any) -> Any:
    """`base[start:end]`, of texts in bytes."""
    if not isinstance(base, (list, tuple, str)) or not all(part is ... or is_int(part) for part in (start, end)):
        raise refuse("[:]", base)
    elements: Any = base.encode() if isinstance(base, str) else list(base)
    part: Any = elements[None if start is ... else start : None if end is ... else end]
    return part.decode("utf-8", "replace") if isinstance(base, str) else part


def _negative(value: Any) -> Any:
    if not is_number(value):
        raise refuse("-", value)
    return -value if is_float(value) else wrap(-value)


def _negation(value: Any) -> bool:
    if type(value) is not bool:
        raise refuse("not", value)
    return not value


def _span(first: Any, last: Any) -> list[int]:
    if not is_int(first) or not is_int(last):
        raise refuse("..", first, last)
    if last - first >= 1_000_000:
        raise Failure("a range of more than a million numbers")
    return list(range(first, last + 1))


def _is_nil(operands: Sequence[Operand], count: int) -> Operand | None:
    return Vector(is_nil(operands[0])) if isinstance(operands[0], Vector) else One(operands[0].value is None)


IS_NIL = Operation("?.", lambda value: value is None, _is_nil)
NOT = Operation("not", _negation, of_numbers(lambda a: ~a, "b"))
NEGATIVE = Operation("-", _negative, of_numbers(lambda a: -a, "fi"))
POSITIVE = Operation("+", lambda value: value)
RANGE = Operation("..", _span)
SLICE = Operation("[:]", cut)
FETCH = Operation("[]", fetch)
IN = Operation("in", contains, membership(mixed=True))
EQUAL = Operation("==", equal, equality(True, mixed=True))
BINARY: dict[str, Operation] = {
    "==": EQUAL,
    "!=": Operation("!=", lambda left, right: not equal(left, right), equality(False, mixed=True)),
    "<": Operation("<", _compare("<", lambda a, b: a < b), of_numbers(np.less, "fi")),
    "<=": Operation("<=", _compare("<=", lambda a, b: a <= b), of_numbers(np.less_equal, "fi")),
    ">": Operation(">", _compare(">", lambda a, b: a > b), of_numbers(np.greater, "fi")),
    ">=": Operation(">=", _compare(">=", lambda a, b: a >= b), of_numbers(np.greater_equal, "fi")),
    "+": Operation("+", _arithmetic("+", lambda a, b: a + b, lambda a, b: a + b), of_numbers(np.add, "fi")),
    "-": Operation("-", _arithmetic("-", lambda a, b: a - b, lambda a, b: a - b), of_numbers(np.subtract, "fi")),
    "*": Operation("*", _arithmetic("*", lambda a, b: a * b, lambda a, b: a * b), of_numbers(np.multiply, "fi")),
    "/": Operation("/", _arithmetic("/", None, divided), of_numbers(np.true_divide, "fi")),
    "%": Operation("%", _arithmetic("%", _modulo, None), of_numbers(_modulo_column, "i")),
    "**": Operation("**", _arithmetic("**", None, power), of_numbers(power_column, "fi")),
    "..": RANGE,
    "in": IN,
    "contains": Operation("contains", _text("contains", lambda a, b: b in a)),
    "startsWith": Operation("startsWith", _text("startsWith", str.startswith)),
    "endsWith": Operation("endsWith", _text("endsWith", str.endswith)),
    "matches": Operation("matches", _text("matches", lambda a, b: search(b, a))),
}


# --- built-in functions ---


def _of(kinds: type | tuple[type, ...], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for a first argument of these kinds."""

    def of(value: Any, *rest: Any) -> Any:
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in (kinds, type(value) is kinds)):
            raise refuse(name, value)
        return function(value, *rest)

    return of


def _texts(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for texts alone."""

    def of(*values: Any) -> Any:
        if not all(isinstance(value, str) for value in values):
            raise refuse(name, *values)
        return function(*values)

    return of


def numbers(name: str, values: Any) -> list[Any]:
    if not isinstance(values, (list, tuple)) or not all(map(is_number, values)):
        raise refuse(name, values)
    return list(values)


def total(values: Any) -> Any:
    plus = BINARY["+"].function
    result: Any = 0
    for number in numbers("sum", values):
        result = plus(result, number)
    return result


def as_int(value: Any) -> int:
    if is_int(value):
        return wrap(value)
    if is_float(value):
        return int(value) if INT_MIN <= value <= INT_MAX else INT_MIN
    digits = value.removeprefix("-").removeprefix("+") if isinstance(value, str) else ""
    if digits.isascii() and digits.isdigit() and len(digits) < 4000 and INT_MIN <= (number := int(value)) <= INT_MAX:
        return number
    raise refuse(f"int({value!r})", value)


def as_float(value: Any) -> float:
    if isinstance(value, bool) or to_float(value, 0.0) != to_float(value, 1.0):
        number = math.nan if isinstance(value, float) or (isinstance(value, str) and value.lower() == "nan") else None
        if number is None or isinstance(value, bool):
            raise refuse("float", value)
        return number
    return to_float(value, 0.0)


def _letters(name: str, convert: Callable[[str], str]) -> Callable[[Any], Any]:
    """Letter by letter, as Go has it: what would become two letters stays."""
    return _texts(name, lambda text: "".join(one if len(one := convert(c)) == 1 else c for c in text))


def _split(text: Any, separator: Any, *most: Any) -> list[str]:
    if not isinstance(text, str) or not isinstance(separator, str) or not all(map(is_int, most)):
        raise refuse("split", text, separator)
    if not separator:
        raise Failure("split needs a separator")
    return text.split(separator, most[0] - 1) if most and most[0] > 0 else [] if most == (0,) else text.split(separator)


def _repeat(text: Any, times: Any) -> str:
    if not isinstance(text, str) or not is_int(times) or not 0 <= times <= 1_000_000:
        raise refuse("repeat", text, times)
    return str(text * times)


def _join(values: Any, separator: Any = "") -> str:
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in (*values, separator)):
        raise refuse("join", values, separator)
    return str(separator.join(values))


def _at(values: Any, place: int) -> Any:
    if values is None:
        return None
    if not isinstance(values, (list, tuple)):
        raise refuse("first and last", values)
    return values[place] if values else None


def _take(values: Any, most: Any) -> Any:
    if not isinstance(values, (list, tuple)) or not is_int(most) or most < 0:
        raise refuse("take", values, most)
    return list(values[:most])


def _get(base: Any, key: Any) -> Any:
    if base is None:
        return None
    try:
        return fetch(base, key)
    except Failure:
        return None


def _sorted(values: Any, order: Any = "asc") -> list[Any]:
    if order not in ("asc", "desc") or not isinstance(values, (list, tuple)):
        raise refuse("sort", values, order)
    if not all(map(is_number, values)) and not all(isinstance(value, str) for value in values):
        raise refuse("sort", values)
    return sorted(values, reverse=order == "desc")


def _unique(values: list[Any]) -> list[Any]:
    kept: list[Any] = []
    for value in values:
        if not any(equal(value, other) for other in kept):
            kept.append(value)
    return kept


def _concat(*lists: Any) -> list[Any]:
    if not all(isinstance(values, (list, tuple)) for values in lists):
        raise refuse("concat", *lists)
    return [value for values in lists for value in values]


def _flatten(values: Any) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        flat.extend(_flatten(value) if isinstance(value, (list, tuple)) else [value])
    return flat


def _bits(name: str, function: Callable[..., int]) -> Callable[..., int]:
    def of(*values: Any) -> int:
        if not all(map(is_int, values)):
            raise refuse(name, *values)
        if name in ("bitshl", "bitshr", "bitushr") and values[1] < 0:
            raise Failure("a shift by less than 0")
        return wrap(function(*map(wrap, values)))

    return of


def _byte_index(text: str, part: str, last: bool) -> int:
    raw, wanted = text.encode("utf-8", "surrogatepass"), part.encode("utf-8", "surrogatepass")
    return raw.rfind(wanted) if last else raw.find(wanted)


def _mean(values: Any) -> float:
    numbers_ = numbers("mean", values)
    return sum(map(float, numbers_)) / len(numbers_) if numbers_ else 0.0


def _median(values: Any) -> float:
    numbers_ = numbers("median", values)
    return float(statistics.median(numbers_)) if numbers_ else 0.0


ARRAY = (list, tuple)
BUILTINS: dict[str, Function] = {
    "len": plain("len", _of((str, list, tuple, dict), "len", len), 1, 1),
    "type": plain("type", kind_of, 1, 1),
    "abs": plain("abs", lambda value: _negative(value) if _negative(value) > value else value, 1, 1),
    "ceil": plain("ceil", lambda value: whole_part("ceil", value, math.ceil), 1, 1),
    "floor": plain("floor", lambda value: whole_part("floor", value, math.floor), 1, 1),
    "int": plain("int", as_int, 1, 1),
    "float": plain("float", as_float, 1, 1),
    "string": plain("string", text_of, 1, 1),
    "upper": plain("upper", _letters("upper", str.upper), 1, 1),
    "lower": plain("lower", _letters("lower", str.lower), 1, 1),
    "split": plain("split", _split, 2, 3),
    "repeat": plain("repeat", _repeat, 2, 2),
    "join": plain("join", _join, 1, 2),
    "indexOf": plain("indexOf", _texts("indexOf", lambda text, part: _byte_index(text, part, False)), 2, 2),
    "lastIndexOf": plain("lastIndexOf", _texts("lastIndexOf", lambda text, part: _byte_index(text, part, True)), 2, 2),
    "hasPrefix": plain("hasPrefix", _texts("hasPrefix", str.startswith), 2, 2),
    "hasSuffix": plain("hasSuffix", _texts("hasSuffix", str.endswith), 2, 2),
    "trimSuffix": plain("trimSuffix", _texts("trimSuffix", str.removesuffix), 2, 2),
    "first": plain("first", lambda values: _at(values, 0), 1, 1),
    "last": plain("last", lambda values: _at(values, -1), 1, 1),
    "take": plain("take", _take, 2, 2),
    "get": plain("get", _get, 2, 2),
    "reverse": plain("reverse", _of(ARRAY, "reverse", lambda values: list(values)[::-1]), 1, 1),
    "sort": plain("sort", _sorted, 1, 2),
    "uniq": plain("uniq", _of(ARRAY, "uniq", _unique), 1, 1),
    "concat": plain("concat", _concat, 1, 255),
    "flatten": plain("flatten", _of(ARRAY, "flatten", _flatten), 1, 1),
    "keys": plain("keys", _of(dict, "keys", lambda value: sorted(value)), 1, 1),
    "values": plain("values", _of(dict, "values", lambda value: [value[key] for key in sorted(value)]), 1, 1),
    "mean": plain("mean", _mean, 1, 1),
    "median": plain("median", _median, 1, 1),
    "bitand": plain("bitand", _bits("bitand", lambda a, b: a & b), 2, 2),
    "bitor": plain("bitor", _bits("bitor", lambda a, b: a | b), 2, 2),
    "bitxor": plain("bitxor", _bits("bitxor", lambda a, b: a ^ b), 2, 2),
    "bitnand": plain("bitnand", _bits("bitnand", lambda a, b: a & ~b), 2, 2),
    "bitnot": plain("bitnot", _bits("bitnot", lambda a: ~a), 1, 1),
    "bitshl": plain("bitshl", _bits("bitshl", lambda a, b: a << b if b < 64 else 0), 2, 2),
    "bitshr": plain("bitshr", _bits("bitshr", lambda a, b: a >> min(b, 64)), 2, 2),
    "bitushr": plain("bitushr", _bits("bitushr", lambda a, b: a % 2**64 >> min(b, 64)), 2, 2),
}


def whole_part(name: str, value: Any, function: Callable[[float], int]) -> float:
    if not is_number(value):
        raise refuse(name, value)
    number = float(value)
    return math.copysign(float(function(number)), number) if math.isfinite(number) else number
