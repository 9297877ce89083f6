"""What DPP and SSD have in common: who takes part, what each is worth, and where vectors come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding
from pairec_fast.core import Arena, order_by_score, set_order
from pairec_fast.errors import ConfigError
from pairec_fast.expression import Condition, matches
from pairec_fast.expression.convert import to_float, to_int, to_string_array
from pairec_fast.query import Query
from pairec_fast.rerank.live import ASK_SECONDS, Fetched, awaited, from_postgres, from_redis
from pairec_fast.snapshot import pick

CACHE_MINUTES = 360  # PAI-Rec's default
EPSILON = 1e-6  # the least of a relevance that is scaled between the extremes

Slots = NDArray[np.int32]


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


class Found(NamedTuple):
    """Vectors float32 [any, dim], and the row of each candidate that takes part, -1 where it has none."""

    table: NDArray[np.float32]
    rows: NDArray[np.int32]


class Rules(NamedTuple):
    """What makes a sort of its kind: who of those not set aside takes part, and in which order; and their new order, or
    None where they stay. For users who do not meet `conditions` all are sorted by score."""

    takes: Callable[[Query, Arena, Slots, Params], Slots]
    choose: Callable[[Query, Arena, Slots, Found, Params], Slots | None]
    conditions: Sequence[Condition] = ()


class SortDao(msgspec.Struct, frozen=True, rename="pascal"):
    """Where a sort's table is. `adapter_type` "local": in the snapshot. *Source*: PAIREC 2.4."""

    adapter_type: str = ""
    table_name: str = ""
    hologres_name: str = ""
    hologres_table_name: str = ""
    redis_name: str = ""
    redis_prefix: str = ""


class LikenessConf(msgspec.Struct, frozen=True, rename="pascal"):
    """The fields that DPPConf and SSDConf share. *Source*: PAIREC 2.7."""

    name: str = ""
    dao_conf: SortDao = SortDao()
    table_name: str = ""
    table_p_key: str = msgspec.field(name="TablePKey", default="")
    embedding_column: str = ""
    embedding_separator: str = ""
    cache_time_in_minutes: int = 0
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


def vectors_of(conf: LikenessConf, at: Binding, where: str) -> Vectors | Fetched | None:
    """The vectors that a configuration names; None where it names none.

    Raises:
        ConfigError: another adapter, or vectors that are not there.
    """
    dao = conf.dao_conf
    table = conf.table_name or dao.table_name
    adapter = dao.adapter_type or ("hologres" if dao.hologres_name else "")
    if not table and not conf.embedding_column and adapter != "redis":
        return None
    if adapter in ("hologres", "redis"):
        if adapter == "redis":
            ask = from_redis(at.stores, dao.redis_name, dao.redis_prefix, where)
        else:
            ask = from_postgres(at.stores, dao.hologres_name, table, conf.table_p_key, conf.embedding_column, where)
        minutes = conf.cache_time_in_minutes if conf.cache_time_in_minutes > 0 else CACHE_MINUTES
        return Fetched(ask, conf.embedding_separator or ",", 60.0 * minutes)
    if adapter != "local":
        given = f'"{adapter}"' if adapter else "missing"
        raise ConfigError(
            f'{where}.DaoConf.AdapterType: {given}; "hologres" or "redis" would be right, or "local" with TableName a '
            "vectors block of the snapshot or EmbeddingColumn a vector column of its items"
        )
    if table in ("", "items"):
        column = pick(at.snapshot.items.columns, conf.embedding_column, f"{where}.EmbeddingColumn")
        if column.kind != "vector":
            raise ConfigError(f'{where}.EmbeddingColumn: "{conf.embedding_column}" holds {column.kind}s, not vectors')
        return Vectors(column.values, True)
    return Vectors(pick(at.snapshot.vectors, table, f"{where}.TableName").items, False)


class LikenessSort:
    """Reorders those who take part, and appends those of `FilterRetrieveIds`.

    With no more than `AbortRunCount` candidates all are sorted by score. Where there are no vectors, or too many are
    missing, those who take part stay in the order they take part in.
    """

    def __init__(
        self, conf: LikenessConf, prefix: str, at: Binding, vectors: Vectors | Fetched | None, rules: Rules
    ) -> None:
        self._conf, self._prefix, self._vectors, self._rules = conf, prefix, vectors, rules
        self._sources, self._params = list(at.sources), at.params

    def params(self, query: Query) -> Params:
        return Params(self._prefix, query.params, self._params)

    def aborts(self, query: Query, arena: Arena) -> bool:
        """Whether all are only sorted by score."""
        conditions = self._rules.conditions
        few = arena.order_count <= self._conf.abort_run_count
        return few or (len(conditions) > 0 and not matches(conditions, query.user_features, {}))

    def parts(self, query: Query, arena: Arena, params: Params) -> tuple[Slots, Slots]:
        """Who takes part, and who is set aside."""
        order = np.array(arena.order[: arena.order_count])
        names = params.texts("filter_retrieve_ids", self._conf.filter_retrieve_ids)
        apart = [source for source, name in enumerate(self._sources) if name in names]
        aside = np.isin(arena.source[order], apart) if apart else np.zeros(len(order), np.bool_)
        slots = order[~aside]
        return self._rules.takes(query, arena, slots, params) if len(slots) else slots, order[aside]

    def found(self, query: Query, arena: Arena, slots: Slots) -> Found | None:
        """The vectors of `slots`; None where there are none."""
        return Found(self._vectors.table, arena.row[slots]) if isinstance(self._vectors, Vectors) else None

    def __call__(self, query: Query, arena: Arena) -> None:
        if arena.order_count == 0:
            return
        if self.aborts(query, arena):
            order_by_score(arena)
            return
        params = self.params(query)
        slots, aside = self.parts(query, arena, params)
        found = self.found(query, arena, slots) if len(slots) else None
        chosen = None if found is None else self._rules.choose(query, arena, slots, found, params)
        set_order(arena, np.concatenate([slots if chosen is None else chosen, aside]))


class LoadingSort(LikenessSort):
    """The same, with vectors of a live store."""

    timeout = ASK_SECONDS + 0.1  # stores have limits of their own; this one only ends what would never end

    def __init__(self, name: str, conf: LikenessConf, prefix: str, at: Binding, vectors: Fetched, rules: Rules) -> None:
        super().__init__(conf, prefix, at, vectors, rules)
        self.name, self._stores, self._fetched = name, at.stores, vectors

    async def load(self, query: Query, arena: Arena) -> None:
        """Raises StoreError: the vectors cannot be had."""
        if arena.order_count == 0 or self.aborts(query, arena):
            return
        slots, _ = self.parts(query, arena, self.params(query))
        if len(slots):
            table, rows = await awaited(self._stores, self._fetched, query.ids(arena.row[slots]))
            query.fetched[self] = slots, Found(table, rows)

    def found(self, query: Query, arena: Arena, slots: Slots) -> Found | None:
        asked, found = query.fetched.get(self, (None, None))
        return found if asked is not None and np.array_equal(asked, slots) and len(found.table) else None


def sort_of(
    name: str, conf: LikenessConf, prefix: str, at: Binding, vectors: Vectors | Fetched | None, rules: Rules
) -> LikenessSort:
    """The stage, which loads where its vectors are those of a live store."""
    if isinstance(vectors, Fetched):
        return LoadingSort(name, conf, prefix, at, vectors, rules)
    return LikenessSort(conf, prefix, at, vectors, rules)


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
