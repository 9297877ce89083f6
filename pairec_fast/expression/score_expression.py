"""RankScore and ScoreRewrite: a formula in the language that ASTType names, over columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core.expression import Program
from pairec_fast.errors import ConfigError
from pairec_fast.expression.antlr import antlr, score, scores
from pairec_fast.expression.functions import floats
from pairec_fast.expression.rank_score import RankScore
from pairec_fast.expression.syntax import Expression
from pairec_fast.expression.vector import Column, of_column


class ScoreExpression(Protocol):
    """A parsed formula."""

    @property
    def text(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]:
        """The names it reads, in order of first use."""
        ...

    def evaluate(self, columns: Mapping[str, Column], out: NDArray[np.float64]) -> None:
        """Compute one number per row.

        Reads those `columns` [count] that it names, a missing name or value being 0; writes `out` [count] float64.
        A row that fails keeps what `out` had (default parser) or becomes 0 (antlr).
        """
        ...

    def value(self, names: Mapping[str, Any], score: float = 0.0) -> float:
        """The number for one item, whose score so far is `score`."""
        ...


def compile(text: str, ast_type: str = "") -> ScoreExpression:
    """Parse a RankScore or a ScoreRewrite.

    Raises:
        ConfigError: no expression of its language, or `ast_type` is neither "" nor "antlr".
    """
    if ast_type == "antlr":
        return AntlrScore(antlr(text))
    formula = RankScore.compile(text, ast_type)
    try:
        _program(formula)
    except ValueError as error:
        raise ConfigError(f"{error}\n  {text}") from None
    return DefaultScore(formula)


class DefaultScore:
    """The default parser's formula."""

    def __init__(self, formula: RankScore) -> None:
        self.formula = formula
        self.text = formula.text
        self.names = formula.names

    def evaluate(self, columns: Mapping[str, Column], out: NDArray[np.float64]) -> None:
        inputs = []
        for name in self.names:
            column = columns.get(name)
            inputs.append(np.zeros(out.size) if column is None else floats(of_column(column), out.size))
        _program(self.formula).evaluate_columns(inputs, out)

    def value(self, names: Mapping[str, Any], score: float = 0.0) -> float:
        out = np.array([score])
        columns = {name: (np.zeros(1, np.int32), [names[name]]) for name in self.names if name in names}
        self.evaluate(columns, out)
        return float(out[0])


class AntlrScore:
    """The antlr parser's formula."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self.text = expression.text
        self.names = expression.names

    def evaluate(self, columns: Mapping[str, Column], out: NDArray[np.float64]) -> None:
        scores(self.expression, columns, out)

    def value(self, names: Mapping[str, Any], score_: float = 0.0) -> float:
        return score(self.expression, names)


@lru_cache(maxsize=1024)
def _program(formula: RankScore) -> Program:
    places = {name: place for place, name in enumerate(formula.names)}
    return formula.bind(lambda name: ("input", places[name]))
