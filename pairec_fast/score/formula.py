"""ScoreRewrite and RankScore: numbers made of algorithms' outputs and of properties, over columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pairec_fast.config import RankConfig
from pairec_fast.core import Arena
from pairec_fast.core.expression import Program
from pairec_fast.errors import ConfigError
from pairec_fast.expression import Column
from pairec_fast.expression.convert import to_float
from pairec_fast.expression.score_expression import DefaultScore, ScoreExpression, compile
from pairec_fast.query import Query
from pairec_fast.score.outputs import Outputs
from pairec_fast.snapshot import Snapshot


class Formula:
    """All rewrites are computed from what there was before any of them; then comes the score.

    An item whose RankScore divides by zero keeps the score it had; a rewrite that does is 0. Without a RankScore there
    are no rewrites. *Source*: PAIREC 6.1, 6.6, 6.7.

    Raises:
        ConfigError: an expression that does not parse, with its place.
    """

    def __init__(self, rank: RankConfig, outputs: Outputs, where: str, *, with_params: bool = True) -> None:
        self._outputs, self._antlr, self._with_params = outputs, rank.ast_type == "antlr", with_params
        rewrites = rank.score_rewrite if rank.rank_score else {}
        self._rewrites = {
            name: _parsed(text, rank.ast_type, f"{where}.ScoreRewrite.{name}") for name, text in rewrites.items()
        }
        self._score = _parsed(rank.rank_score, rank.ast_type, f"{where}.RankScore") if rank.rank_score else None
        self.names = {name for one in (self._score, *self._rewrites.values()) if one is not None for name in one.names}
        for name in self._rewrites:
            outputs.reserve([name])
        # Who reads the score so far leaves it as an output of that name, in PAI-Rec.
        self._keeps = "current_score" in self.names
        if self._keeps:
            outputs.reserve(["recall_score"])

        self._program: Program | None = None

    def bind(self, snapshot: Snapshot) -> None:
        """Find the short way: without rewrites and antlr, and where every name is a number that lies in the arena or in
        the snapshot, a request that says nothing of its own about them is one pass of a core program."""
        columns = snapshot.items.columns
        numbers = {name for name in self.names if name in columns and columns[name].kind == "number"}
        plain = self.names <= {"current_score", "recall_score", *self._outputs.names, *numbers}
        if not isinstance(self._score, DefaultScore) or self._rewrites or not plain:
            return

        def place(name: str) -> Any:
            if name in self._outputs.names:
                return ("algo", self._outputs.column(name))
            if name in numbers:
                return ("column", columns[name].values)
            return ("current_score",)

        self._program = self._score.formula.bind(place)

    def apply(self, query: Query, arena: Arena, *, fresh: bool = False) -> None:
        """Reads `algo_score`, `score`, and properties by name; writes `algo_score` of the rewrites, and `score`.

        `fresh` says that `score` is still recall's.
        """
        if self._score is None:
            return
        if self._keeps:
            arena.algo_score[self._outputs.column("recall_score"), : arena.count] = arena.score[: arena.count]
        own = self._with_params and query.params
        if self._program is not None and fresh and not own and (not query.given or self.names.isdisjoint(query.given)):
            self._program.evaluate(arena)
            return
        count = arena.count
        columns = _Columns(query, arena, self._outputs, query.params if self._with_params else {}, self._antlr)
        rewritten = {}
        for name, expression in self._rewrites.items():
            values = np.zeros(count)
            expression.evaluate(columns, values)
            rewritten[name] = values
        for name, values in rewritten.items():
            arena.algo_score[self._outputs.column(name), :count] = values
        values = arena.score[:count].copy()
        self._score.evaluate(columns, values)
        arena.score[:count] = values


def _parsed(text: str, ast_type: str, where: str) -> ScoreExpression:
    try:
        return compile(text, ast_type)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


class _Columns(Mapping[str, Column]):
    """What a name of an expression stands for, for all candidates.

    The default parser asks the experiment's parameters first, where they are a number that is not 0; antlr asks them
    last.
    """

    def __init__(self, query: Query, arena: Arena, outputs: Outputs, params: Mapping[str, Any], antlr: bool) -> None:
        self._properties, self._arena, self._outputs = query.properties(arena), arena, outputs
        self._params, self._antlr = params, antlr

    def __getitem__(self, name: str) -> Column:
        count = self._arena.count
        if name in self._params and not self._antlr:
            value = to_float(self._params[name], 0.0)
            if value:
                return np.full(count, value)
        if name == "current_score":
            return self._arena.score[:count]
        if name in self._outputs.names:
            return self._arena.algo_score[self._outputs.column(name), :count]
        column = self._properties.get(name)
        if column is None:
            if not self._antlr or name not in self._params:
                raise KeyError(name)
            return np.zeros(count, np.int32), [self._params[name]]
        return column

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._outputs.names, *self._properties, *self._params, "current_score"])

    def __len__(self) -> int:
        return sum(1 for _ in self)
