"""Texts that expressions write: under which key a store knows a user, or an item."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

import numpy as np

from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.expression import ROW, Expression, Failure, expr
from pairec_fast.expression.convert import to_string
from pairec_fast.expression.printf import SPRINTF
from pairec_fast.expression.syntax import PerRow
from pairec_fast.query import Query


def written(text: str, where: str) -> Expression | None:
    """The expression `text` of the language expr, or None of an empty one.

    Raises:
        ConfigError: it is none.
    """
    if not text:
        return None
    try:
        return expr(text, extra=SPRINTF)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def text_of_query(expression: Expression, names: Mapping[str, Any]) -> str | None:
    """What `expression` writes of `names`; None where that is no text, or an empty one."""
    try:
        return to_string(expression.value(names), "") or None
    except Failure:
        return None


def texts_of_items(expression: Expression, query: Query, arena: Arena, names: Mapping[str, Any]) -> list[str]:
    """What `expression` writes of each live candidate, `item` being its properties; where that is no text, its id."""
    count = arena.count
    ids = query.ids(arena.row[:count])
    item_id = np.arange(count, dtype=np.int32), ids
    columns: Any = ChainMap({"item_id": item_id}, query.properties(arena))  # type: ignore[arg-type]  # never written
    column = expression.column(columns, count, {**names, "item": ROW, "item_id": PerRow(item_id)})
    if isinstance(column, tuple):
        distinct, which = np.unique(column[0], return_inverse=True)
        values = [column[1][code] if code >= 0 else "" for code in distinct.tolist()]
    else:
        distinct, which = np.unique(column, return_inverse=True)
        values = ["" if value != value else value for value in distinct.tolist()]
    texts = np.array([to_string(value, "") for value in values], object)
    found = np.where((texts != "")[which], texts[which], np.array(ids, object))
    listed: list[str] = found.tolist()
    return listed
