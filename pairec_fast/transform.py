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


class Transforms:
    """Those of one load, in order."""

    def __init__(self, confs: Sequence[FeatureConfig], where: str, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError: an expression that does not parse, or lists of different length."""
        self._steps = [(conf.feature_store == "item", _step(conf, f"{where}[{at}]", clock)) for at, conf in
                       enumerate(confs)]  # fmt: skip

    def __bool__(self) -> bool:
        return bool(self._steps)

    def user(self, query: Query) -> None:
        """Those on the user: reads and writes `query.user_features`."""
        for on_item, step in self._steps:
            if not on_item:
                step.user(query, query.user_features)

    def items(self, query: Query, arena: Arena) -> None:
        """Those on the candidates: reads their properties, and writes into `query.given`."""
        for on_item, step in self._steps:
            if on_item:
                step.items(query, arena, query.properties(arena))


class _Step:
    """A transform on either side. `user` is the user's properties; `items` writes a property of each candidate."""

    def __init__(self, conf: FeatureConfig) -> None:
        self.name = conf.feature_name
        self.sources = [_source(one) for one in (conf.feature_value or conf.feature_source).split(",")]

    def user(self, query: Query, user: dict[str, Any]) -> None:
        raise ConfigError(f"{type(self).__name__} on a user")  # pragma: no cover

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        """Nothing, of those that act on users alone."""


class _Raw(_Step):
    """A property under another name, as text; on an item through the normalizer, where there is one."""

    def __init__(self, conf: FeatureConfig, pairs: list[tuple[str, str]], made: Normalizer | None) -> None:
        super().__init__(conf)
        self.pairs = [(name, *_source(source)) for name, source in pairs]
        self.remove, self.made = conf.remove_feature_source, made

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
            texts = _texts(query, arena, properties, source)
            if self.made is None:
                _put(query, arena, name, texts)
            else:
                _put(query, arena, name, self.made.column({source: texts}, arena.count, {}))
            if self.remove:
                query.given.drop(source)


class _Compose(_Step):
    """Texts of all sources, an underscore before each; on an item after the name of the feature."""

    def user(self, query: Query, user: dict[str, Any]) -> None:
        user[self.name] = "".join("_" + user_text(user.get(source)) for _, source in self.sources)

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        composed: Texts = _constant(arena, self.name)
        for side, source in self.sources:
            if side == "user":
                text = user_text(query.user_features.get(source))
                composed = composed[0], [f"{begin}_{text}" for begin in composed[1]]
            else:
                composed = _joined(composed, _texts(query, arena, properties, source))
        _put(query, arena, self.name, composed)


class _Delete(_Step):
    """Forget properties by name."""

    def __init__(self, conf: FeatureConfig) -> None:
        super().__init__(conf)
        self.names = conf.feature_name.split(",")

    def user(self, query: Query, user: dict[str, Any]) -> None:
        for name in self.names:
            user.pop(name, None)

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        for name in self.names:
            query.given.drop(name)


class _Context(_Step):
    """The request's features over those of the user once more."""

    def user(self, query: Query, user: dict[str, Any]) -> None:
        user.update(query.context)


class _New(_Step):
    """What a normalizer gives. On an item it sees what PAI-Rec shows it: all, or one property under its bare name."""

    def __init__(self, conf: FeatureConfig, made: Normalizer | None, clock: Callable[[], float]) -> None:
        super().__init__(conf)
        self.source = conf.feature_value or conf.feature_source
        self.made, self.clock = made, clock
        self.by_row = conf.normalizer == "expr"  # where an item is `item`; else its properties are names of their own
        # A constant's text is no source, though it is written where one is.
        self.reads = self.sources[0][1] if self.source and conf.normalizer != "const_value" else ""

    def user(self, query: Query, user: dict[str, Any]) -> None:
        if self.made is None:
            return
        scope = user if not self.reads else {self.reads: user[self.reads]} if self.reads in user else {}
        value = self.made.value({**scope, "user": user, "currentTime": int(self.clock())})
        user[self.name] = int(value) if isinstance(value, bool) else value

    def items(self, query: Query, arena: Arena, properties: Properties) -> None:
        if self.made is None:
            return
        columns: Mapping[str, Column] = properties
        if self.reads:
            column = properties.get(self.reads)
            columns = {} if column is None else {self.reads: column}
        scalars: dict[str, Any] = {"user": query.user_features, "currentTime": int(self.clock())}
        if self.by_row:
            scalars["item"] = ROW
        _put(query, arena, self.name, _numbers(self.made.column(columns, arena.count, scalars)))


def _step(conf: FeatureConfig, where: str, clock: Callable[[], float]) -> _Step:
    names, sources = conf.feature_name.split(","), (conf.feature_value or conf.feature_source).split(",")
    made = None
    if conf.normalizer in KNOWN:
        try:
            made = normalizer(
                conf.normalizer, conf.expression, text=conf.feature_value or conf.feature_source, clock=clock
            )
        except ConfigError as error:
            raise ConfigError(f"{where}.Expression: {error}") from error
    if conf.feature_type == "raw_feature":
        return _Raw(conf, [(conf.feature_name, ",".join(sources))], made)
    if conf.feature_type == "batch_raw_feature":
        if len(names) != len(sources):
            raise ConfigError(
                f"{where}: {len(names)} names in FeatureName, {len(sources)} sources; one for each is right"
            )
        return _Raw(conf, list(zip(names, sources, strict=True)), None)
    if conf.feature_type == "new_feature":
        return _New(conf, made, clock)
    kinds: dict[str, type[_Step]] = {
        "compose_feature": _Compose,
        "delete_feature": _Delete,
        "context_feature": _Context,
    }
    return kinds[conf.feature_type](conf)


def _source(text: str) -> tuple[str, str]:
    """`user:x` or `item:x` apart."""
    side, _, name = text.partition(":")
    return side, name


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


def _texts(query: Query, arena: Arena, properties: Properties, name: str) -> Texts:
    if name == "id":
        rows, codes = np.unique(arena.row[: arena.count], return_inverse=True)
        return codes.astype(np.int32), query.ids(rows)
    return texts_of(properties.get(name), arena.count)


def _joined(first: Texts, second: Texts) -> Texts:
    """`a_b` of each pair of texts that occurs."""
    pairs, codes = np.unique(first[0].astype(np.int64) * len(second[1]) + second[0], return_inverse=True)
    left, right = np.divmod(pairs, max(1, len(second[1])))
    return codes.astype(np.int32), [
        f"{first[1][a]}_{second[1][b]}" for a, b in zip(left.tolist(), right.tolist(), strict=True)
    ]


def _constant(arena: Arena, text: str) -> Texts:
    return np.zeros(arena.count, np.int32), [text]


def _numbers(column: Column) -> Column:
    """A column of booleans as 1 and 0."""
    if not isinstance(column, tuple):
        return column.astype(np.int64) if column.dtype.kind == "b" else column
    return column[0], [int(value) if isinstance(value, bool) else value for value in column[1]]


def _put(query: Query, arena: Arena, name: str, column: Column) -> None:
    query.given.put(name, arena.place[: arena.count], column)
