"""How much an event of long ago still counts: `WeightExpression` over `currentTime` and `eventTime`, in seconds."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.errors import ConfigError

Numbers = NDArray[np.float64]

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: np.divide, ast.Mod: np.fmod,
    ast.Pow: np.power,
}  # fmt: skip
_NAMES = ("currentTime", "eventTime")
_DEPTH_MAX = 100


class Weight:
    """Arithmetic with `+ - * / % **`, parentheses and `exp`. An empty text is 1.

    Raises:
        ConfigError: anything else. PAI-Rec takes what it cannot read as 0, and with it every weight.
    """

    def __init__(self, text: str, where: str) -> None:
        try:
            self._tree = ast.parse(text.strip() or "1", mode="eval").body
            self._check(self._tree, 0)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            said = error.msg if isinstance(error, SyntaxError) else error
            raise ConfigError(
                f"{where}: {said}: expected arithmetic of numbers, currentTime, eventTime and exp(), got {text!r:.200}"
            ) from None

    def __call__(self, now: float, then: Numbers) -> Numbers:
        """A weight for each of the times `then` [n] float64; 0 where it is no finite number."""
        with np.errstate(all="ignore"):
            value = self._value(self._tree, np.float64(now), then)
            weights: Numbers = np.broadcast_to(np.asarray(value, np.float64), then.shape).copy()
        weights[~np.isfinite(weights)] = 0.0
        return weights

    def _check(self, node: ast.expr, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise ValueError("nested too deep")
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            self._check(node.left, depth + 1)
            self._check(node.right, depth + 1)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            self._check(node.operand, depth + 1)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "exp":
            if len(node.args) != 1 or node.keywords:
                raise ValueError("exp takes one number")
            self._check(node.args[0], depth + 1)
        elif isinstance(node, ast.Name):
            if node.id not in _NAMES:
                raise ValueError(f'unknown name "{node.id}"')
        elif not (isinstance(node, ast.Constant) and type(node.value) in (int, float)):
            raise ValueError(f"cannot read {ast.unparse(node)!r:.60}")

    def _value(self, node: ast.expr, now: Any, then: Any) -> Any:
        if isinstance(node, ast.BinOp):
            return _BINARY[type(node.op)](self._value(node.left, now, then), self._value(node.right, now, then))
        if isinstance(node, ast.UnaryOp):
            return -self._value(node.operand, now, then)
        if isinstance(node, ast.Call):
            return np.exp(self._value(node.args[0], now, then))
        if isinstance(node, ast.Name):
            return now if node.id == "currentTime" else then
        assert isinstance(node, ast.Constant)
        return np.float64(float(node.value))  # type: ignore[arg-type]
