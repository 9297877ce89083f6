"""What DPP and SSD have in common: who takes part, what each is worth, and where vectors come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding
from pairec_fast.core import Arena, order_by_score, set_order
from pairec_fast.errors import ConfigError
from pairec_fast.expression.convert import to_float, to_int, to_string_array
from pairec_fast.query import Query
from pairec_fast.snapshot import pick

EPSILON = 1e-6  # the least of a relevance that is scaled between the extremes

Slots = NDArray[np.int32]
Choose = Callable[[Query, Arena, Slots, "Params"], Slots | None]


class SortDao(msgspec.Struct, frozen=True, rename="pascal"):
    """Where a sort's table is. `adapter_type` "local": in the snapshot. *Source*: PAIREC 2.4."""

    adapter_type: str = ""
    table_name: str = ""


class LikenessConf(msgspec.Struct, frozen=True, rename="pascal"):
    """The fields that DPPConf and SSDConf share. *Source*: PAIREC 2.7."""

    name: str = ""
    dao_conf: SortDao = SortDao()
    table_name: str = ""
    embedding_column: str = ""
    normalize_emb: str = ""
    window_size: int = 0
    abort_run_count: int = 0
    candidate_count: int = 0
    min_score_percent: float = 0.0
    emb_missed_threshold: float = 0.0
    filter_retrieve_ids: list[str] = []
    ensure_positive_sim: str = ""

    @property
    def normalises(self) -> bool:
        return self.normalize_emb.lower() != "false"

    @property
    def positive(self) -> bool:
        return self.ensure_positive_sim.lower() != "false"

    @property
    def missing_max(self) -> float:
        return self.emb_missed_threshold if self.emb_missed_threshold > 0 else 0.5


class Vectors(msgspec.Struct, frozen=True):
    """float32 [rows of the item table, dim], zeros where an item has none. `of_items`: a column of the items."""

    table: NDArray[np.float32]
    of_items: bool


def vectors_of(conf: LikenessConf, at: Binding, where: str) -> Vectors | None:
    """The vectors that a configuration names; None where it names none.

    Raises:
        ConfigError: another adapter, or vectors that the snapshot does not have.
    """
    table = conf.table_name or conf.dao_conf.table_name
    if not table and not conf.embedding_column:
        return None
    adapter = conf.dao_conf.adapter_type
    if adapter != "local":
        given = f'"{adapter}"' if adapter else "missing"
        raise ConfigError(
            f'{where}.DaoConf.AdapterType: {given}; only "local" is available in this version, with TableName a '
            "vectors block of the snapshot, or EmbeddingColumn a vector column of its items"
        )
    if table in ("", "items"):
        column = pick(at.snapshot.items.columns, conf.embedding_column, f"{where}.EmbeddingColumn")
        if column.kind != "vector":
            raise ConfigError(f'{where}.EmbeddingColumn: "{conf.embedding_column}" holds {column.kind}s, not vectors')
        return Vectors(column.values, True)
    return Vectors(pick(at.snapshot.vectors, table, f"{where}.TableName").items, False)


class Params:
    """An experiment's parameters that begin with a prefix, over what is configured."""

    def __init__(self, prefix: str, *maps: Mapping[str, Any]) -> None:
        self._prefix = prefix
        self._maps = [one for one in maps if one]

    def get(self, name: str) -> Any:
        key = self._prefix + name
        return next((one[key] for one in self._maps if key in one), None)

    def int(self, name: str, default: int) -> int:
        return to_int(self.get(name), default) if self._maps else default

    def float(self, name: str, default: float) -> float:
        return to_float(self.get(name), default) if self._maps else default

    def texts(self, name: str, default: Sequence[str]) -> Sequence[str]:
        return (to_string_array(self.get(name)) or default) if self._maps else default


def run(conf: LikenessConf, prefix: str, at: Binding, choose: Choose) -> Callable[[Query, Arena], None]:
    """Lets `choose` reorder those who take part, and appends those of `FilterRetrieveIds`.

    With no more than `AbortRunCount` candidates all are sorted by score.
    """

    def sort(query: Query, arena: Arena) -> None:
        count = arena.order_count
        if count == 0:
            return
        if conf.abort_run_count > 0 and count <= conf.abort_run_count:
            order_by_score(arena)
            return
        params = Params(prefix, query.params, at.params)
        order = np.array(arena.order[:count])
        names = params.texts("filter_retrieve_ids", conf.filter_retrieve_ids)
        apart = [source for source, name in enumerate(at.sources) if name in names]
        if apart:
            aside = np.isin(arena.source[order], apart)
            chosen = choose(query, arena, order[~aside], params) if not aside.all() else None
            order = np.concatenate([order[~aside] if chosen is None else chosen, order[aside]])
        else:
            chosen = choose(query, arena, order, params)
            order = order if chosen is None else chosen
        set_order(arena, order)

    return sort


def by_score(arena: Arena, slots: Slots) -> Slots:
    """`slots` by score, descending; equal scores as they were."""
    return slots[np.argsort(-arena.score[slots], kind="stable")]


def cut(arena: Arena, slots: Slots, size: int, conf: LikenessConf, params: Params, *, ordered: bool) -> Slots:
    """Of more than `size` candidates the best `CandidateCount`, and of these from `size` on those whose score is above
    `MinScorePercent` of the best. They come `ordered` by score, or leave so."""
    most = params.int("candidate_count", conf.candidate_count)
    percent = params.float("min_score_percent", conf.min_score_percent)
    if (most <= 0 and percent <= 0) or len(slots) <= size:
        return slots
    if not ordered:
        slots = by_score(arena, slots)
    if most > 0:
        slots = slots[: max(size, most)]
    if percent > 0 and len(slots) > size:
        with np.errstate(all="ignore"):
            low = arena.score[slots[size:]] / arena.score[slots[0]] < percent
        if low.any():
            slots = slots[: size + int(low.argmax())]
    return slots


def worth(score: NDArray[np.float64], norm: int) -> NDArray[np.float64] | None:
    """Scores as they are (0), as distances from their mean (1), or between the first and the last (2); None where these
    do not differ."""
    if norm == 1:
        mean, variance = score.mean(), score.var()
        if mean == 0 or not variance > 0:
            return None
        score = (score - mean) / np.sqrt(variance)
    elif norm == 2:
        span = score[0] - score[-1]
        if span == 0 or span != span:
            return None
        score = (score - score[-1]) / span * (1 - EPSILON) + EPSILON
    return np.where(score == score, score, -np.inf)
