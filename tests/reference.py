"""The slow twin of every kernel: the plainest code that gives the right answer, in NumPy or pure Python."""

from __future__ import annotations

import numpy as np


def rank_score(text, values):
    """PAI-Rec's default RankScore of one row: `values` name -> float, missing names 0. None where it divides by zero.

    Another algorithm than the package's: write the zeros that stand for missing operands, then shunting-yard.
    """
    import math
    import re

    precedence = {"+": 20, "-": 20, "*": 40, "/": 40, "%": 40, "^": 60, "#": 80}
    written = []
    for token in re.findall(r"\$\{[^}]*\}|[0-9][0-9._e]*|[-+*/%^#()]", text):
        wants_operand = not written or (written[-1] in precedence or written[-1] == "(")
        if wants_operand and (token in precedence or token == ")"):
            written.append("0")
        written.append(token)

    numbers, waiting = [], []

    def whole(x):
        return int(x) if -(2.0**63) <= x < 2.0**63 else -(2**63)

    def power(a, b):
        """C's pow, which math.pow is but for its errors; np.power may be another in the last bit."""
        odd = math.isfinite(b) and math.fmod(b, 2) in (1, -1)
        try:
            return math.pow(a, b)
        except OverflowError:
            return -math.inf if a < 0 and odd else math.inf
        except ValueError:
            return math.nan if a != 0 else math.copysign(math.inf, a) if odd else math.inf

    def apply(operator):
        b, a = numbers.pop(), numbers.pop()
        if (operator == "/" and b == 0) or (operator == "%" and whole(b) == 0):
            raise ZeroDivisionError
        with np.errstate(all="ignore"):
            a, b = np.float64(a), np.float64(b)
            if operator == "%":
                remainder = abs(whole(a)) % abs(whole(b))
                numbers.append(float(-remainder if whole(a) < 0 else remainder))
            elif operator == "#":
                numbers.append(a if a != 0 else b)
            else:
                operation = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": power}[operator]
                numbers.append(operation(a, b))

    try:
        for token in written:
            if token == "(":
                waiting.append(token)
            elif token == ")":
                while waiting[-1] != "(":
                    apply(waiting.pop())
                waiting.pop()
            elif token in precedence:
                while waiting and waiting[-1] != "(" and precedence[waiting[-1]] >= precedence[token]:
                    apply(waiting.pop())
                waiting.append(token)
            elif token.startswith("${"):
                numbers.append(values.get(token[2:-1], 0.0))
            else:
                numbers.append(float(token.replace("_", "")))
        while waiting:
            apply(waiting.pop())
    except ZeroDivisionError:
        return None
    return float(numbers.pop())
