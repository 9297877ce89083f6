"""PAI-Rec's feature transforms: new properties of the user, or of the candidates, made from others by name.

Parsed once, when a scene is bound. On the item side each is a few operations over columns. Source: PAIREC.md 8.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.expression import ROW, Column, Normalizer, normalizer
from pairec_fast.expression.convert import to_string
from pairec_fast.expression.normalizer import KNOWN
from pairec_fast.properties import Properties
from pairec_fast.query import Query

Texts = tuple[NDArray[np.int32], Sequence[str]]  # every code is a text: what is missing is ""


class FeatureConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One transform. A `feature_value` replaces `feature_source`, which is `user:NAME` or `item:NAME`.

    feature_store: `item`; anything else acts on the user.
    normalizer: of a `new_feature`, or of an item's `raw_feature`; one that PAI-Rec does not have is none.
    """

    feature_type: Literal[
        "raw_feature", "batch_raw_feature", "compose_feature", "delete_feature", "new_feature", "context_feature"
    ]
    feature_name: str = ""
    feature_source: str = ""
    feature_value: str = ""
    feature_store: str = ""
    remove_feature_source: bool = False
    normalizer: str = ""
    expression: str = ""

    @property
    def source(self) -> str:
        """The source that counts."""
        return self.feature_value or self.feature_source


class Transforms:
    """Those of one load, in order."""

    def __init__(self, confs: Sequence[FeatureConfig], where: str, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError: an expression that does not parse, or lists of different length."""
        self._steps = [(conf.feature_store == "item", _step(conf, f"{where}[{at}]", clock)) for at, conf in
                       enumerate(confs)]  # fmt: skip

    def __bool__(self) -> bool:
        return bool(self._steps)

    def __call__(self, query: Query, arena: Arena | None) -> None:
        """One after the other, as configured: a step reads what those before it wrote, on either side.

        Reads and writes `query.user_features`; reads the properties of the candidates, and writes into `query.given`.
        Without an arena there are no candidates yet, and nothing is done to them.
        """
        for on_item, step in self._steps:
            if not on_item:
                step.user(query, query.user_features)
                query.user_loaded.update(step.names)
            elif arena is not None and arena.count:
                step.items(query, arena, query.properties(arena))


class _Step:
    """A transform on either side. `user` acts on the user's properties, `items` on those of each candidate; `names` are
    the properties of the user that it may have set."""

    def __init__(self, conf: FeatureConfig) -> None:
        self.name, self.remove = conf.feature_name, conf.remove_feature_source
        self.names: Sequence[str] = (conf.feature_name,)
        self.sources = [side_and_name(one) for one in conf.source.split(",")]

    def user(self, query: Query, user: dict[str, Any]) -> None:
        """Nothing, of those that act on items alone."""

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        """Nothing, of those that act on users alone."""


class _Raw(_Step):
    """Properties under other names, as text; on an item what the normalizer gives, where there is one."""

    def __init__(
        self, conf: FeatureConfig, names: Sequence[str], sources: Sequence[str], made: Normalizer | None
    ) -> None:
        super().__init__(conf)
        self.names = names
        parted = zip(names, map(side_and_name, sources), strict=True)
        self.pairs = [(name, *source) for name, source in parted if source is not None]
        self.remove &= conf.feature_type == "raw_feature"
        # Of an expression there is nothing left: PAI-Rec hands it one text, where it reads names, and takes "" for it.
        self.fails = conf.normalizer in EXPRESSIONS
        self.made = made

    def user(self, query: Query, user: dict[str, Any]) -> None:
        for name, _, source in self.pairs:
            user[name] = user_text(user.get(source))
            if self.remove:
                user.pop(source, None)

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        for name, side, source in self.pairs:
            if side == "user":
                _put(query, arena, name, _constant(arena, user_text(query.user_features.get(source))))
                if self.remove:
                    query.user_features.pop(source, None)
                continue
            if self.made is None:
                _put(query, arena, name, texts_of(properties.get(source), arena.count))
            elif self.fails:
                _put(query, arena, name, _constant(arena, ""))
            else:
                _put(query, arena, name, self.made.column({}, arena.count, {}))
            if self.remove:
                query.given.drop(source)


class _Compose(_Step):
    """Texts of all sources, an underscore before each; on an item after the name of the feature."""

    def user(self, query: Query, user: dict[str, Any]) -> None:
        composed = ""
        for source in self.sources:
            if source is None:
                continue
            composed += "_" + user_text(user.get(source[1]))
            if self.remove:
                user.pop(source[1], None)
        user[self.name] = composed

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        composed: Texts = _constant(arena, self.name)
        for source in self.sources:
            if source is None:
                continue
            side, name = source
            if side == "user":
                text = user_text(query.user_features.get(name))
                composed = composed[0], [f"{begin}_{text}" for begin in composed[1]]
                continue
            if name == "id":
                composed = _joined(composed, _ids(query, arena))
            else:
                composed = _joined(composed, texts_of(properties.get(name), arena.count))
            if self.remove:
                query.given.drop(name)
        _put(query, arena, self.name, composed)


class _Delete(_Step):
    """Forget the properties that the source lists, each with its side before it or bare; without a source, those that
    the name lists."""

    def __init__(self, conf: FeatureConfig) -> None:
        super().__init__(conf)
        parts = [one.split(":") for one in (conf.source or conf.feature_name).split(",")]
        self.names = [part[1] if len(part) > 1 else part[0] for part in parts]

    def user(self, query: Query, user: dict[str, Any]) -> None:
        for name in self.names:
            user.pop(name, None)

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        for name in self.names:
            query.given.drop(name)


class _Context(_Step):
    """The request's features over those of the user once more."""

    def __init__(self, conf: FeatureConfig) -> None:
        super().__init__(conf)
        self.names = ()

    def user(self, query: Query, user: dict[str, Any]) -> None:
        user.update(query.context)
        query.user_loaded.update(query.context)


class _New(_Step):
    """What a normalizer gives. An expression sees what PAI-Rec shows it.

    Of the user: all properties, `expr` under `user`. Of an item without a source: all its properties, `expr` under
    `item` and with them `user`; with a source: that one value, under its bare name.
    """

    def __init__(self, conf: FeatureConfig, made: Normalizer | None, clock: Callable[[], float]) -> None:
        super().__init__(conf)
        self.made, self.clock = made, clock
        self.evaluates, self.nested = conf.normalizer in EXPRESSIONS, conf.normalizer == "expr"
        self.whole = conf.source == ""

    def user(self, query: Query, user: dict[str, Any]) -> None:
        if self.made is None:
            return
        names = {"user": user, "currentTime": int(self.clock())} if self.nested else user
        user[self.name] = _number(self.made.value(names if self.evaluates else {}))

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        if self.made is None:
            return
        columns: Mapping[str, Column] = {}
        scalars: dict[str, Any] = {"currentTime": int(self.clock())}
        if self.evaluates and self.whole:
            columns = properties
            if self.nested:
                scalars |= {"item": ROW, "user": query.user_features}
        elif self.evaluates and self.sources[0] is not None:
            side, name = self.sources[0]
            if side == "user":
                scalars[name] = query.user_features.get(name)
            else:
                columns = {name: _with_nil(properties.get(name), arena.count)}
                scalars.pop(name, None)  # a property of that name is what was asked for
        _put(query, arena, self.name, _exact(self.made.column(columns, arena.count, scalars)))


EXPRESSIONS = ("expression", "expr")


def _step(conf: FeatureConfig, where: str, clock: Callable[[], float]) -> _Step:
    made = None
    if conf.normalizer in KNOWN:
        try:
            made = normalizer(conf.normalizer, conf.expression, text=conf.source, clock=clock)
        except ConfigError as error:
            raise ConfigError(f"{where}.Expression: {error}") from error
    if conf.feature_type == "raw_feature":
        return _Raw(conf, [conf.feature_name], [conf.source], made)
    if conf.feature_type == "batch_raw_feature":
        names, sources = conf.feature_name.split(","), conf.source.split(",")
        if len(names) != len(sources):
            raise ConfigError(
                f"{where}: {len(names)} names in FeatureName, {len(sources)} sources; one for each is right"
            )
        return _Raw(conf, names, sources, None)
    if conf.feature_type == "new_feature":
        return _New(conf, made, clock)
    kinds: dict[str, type[_Step]] = {
        "compose_feature": _Compose,
        "delete_feature": _Delete,
        "context_feature": _Context,
    }
    return kinds[conf.feature_type](conf)


def side_and_name(text: str) -> tuple[str, str] | None:
    """`user:x` or `item:x` apart, as PAI-Rec does it: what follows a second colon is nothing. None without a colon."""
    parts = text.split(":")
    return (parts[0], parts[1]) if len(parts) > 1 else None


def user_text(value: Any) -> str:
    """PAI-Rec's text of a user's property. Source: PAIREC.md 0.4."""
    return to_string(value, "")


def item_text(value: Any) -> str:
    """PAI-Rec's text of an item's property: a double loses what is behind its point. Source: PAIREC.md 0.4."""
    if isinstance(value, float):
        return to_string(int(value), "") if abs(value) < 2**63 else str(-(2**63))
    return to_string(value, "")


def texts_of(column: Column | None, count: int) -> Texts:
    """PAI-Rec's texts of a property of each of `count` items."""
    if column is None:
        return np.zeros(count, np.int32), [""]
    if isinstance(column, tuple):
        codes, values = column
        used, which = np.unique(codes, return_inverse=True)
        return which.astype(np.int32), [item_text(values[code]) if code >= 0 else "" for code in used.tolist()]
    distinct, which = np.unique(column, return_inverse=True)
    return which.astype(np.int32), [item_text(one) if one == one else "" for one in distinct.tolist()]


def _ids(query: Query, arena: Arena) -> Texts:
    rows, codes = np.unique(arena.row[: arena.count], return_inverse=True)
    return codes.astype(np.int32), query.ids(rows)


def _joined(first: Texts, second: Texts) -> Texts:
    """`a_b` of each pair of texts that occurs."""
    pairs, codes = np.unique(first[0].astype(np.int64) * len(second[1]) + second[0], return_inverse=True)
    left, right = np.divmod(pairs, max(1, len(second[1])))
    return codes.astype(np.int32), [
        f"{first[1][a]}_{second[1][b]}" for a, b in zip(left.tolist(), right.tolist(), strict=True)
    ]


def _constant(arena: Arena, text: str) -> Texts:
    return np.zeros(arena.count, np.int32), [text]


def _with_nil(column: Column | None, count: int) -> Column:
    """The column, with nil as a value where it is missing: PAI-Rec hands an expression the one value it asks for, and
    nil if there is none, which is no missing name."""
    if column is None:
        return np.zeros(count, np.int32), [None]
    if not isinstance(column, tuple):
        if column.dtype.kind != "f" or not (column != column).any():
            return column
        column = _coded(column)
    codes, values = column
    missing = codes < 0
    if not missing.any():
        return column
    used, which = np.unique(codes[~missing], return_inverse=True)
    out = np.full(count, len(used), np.int32)
    out[~missing] = which
    return out, [*(values[code] for code in used.tolist()), None]


def _exact(column: Column) -> Column:
    """A column of booleans as 1 and 0, and integers as they are: doubles would not hold a hash."""
    if isinstance(column, tuple):
        return column[0], [_number(value) for value in column[1]]
    if column.dtype.kind == "b":
        column = column.astype(np.int64)
    return _coded(column) if column.dtype.kind in "iu" else column


def _coded(column: NDArray[Any]) -> tuple[NDArray[np.int32], list[Any]]:
    here = column == column
    values, which = np.unique(column[here], return_inverse=True)
    codes = np.full(len(column), -1, np.int32)
    codes[here] = which
    return codes, values.tolist()


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def _put(query: Query, arena: Arena, name: str, column: Column) -> None:
    query.given.put(name, arena.place[: arena.count], column)
