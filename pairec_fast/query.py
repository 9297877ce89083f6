"""Who asks: what one request says, resolved against one snapshot."""

from __future__ import annotations

import asyncio
import copy
import re
import sys
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena, join
from pairec_fast.core.meter import Laps
from pairec_fast.core.pick import Merged
from pairec_fast.errors import RequestError
from pairec_fast.expression.convert import to_float, to_int, to_string
from pairec_fast.properties import Given, Labels, Properties, loaded
from pairec_fast.snapshot import Column, Snapshot

NOBODY = np.empty(0, np.int32)


class Query:
    """Attributes:

    uid, size, item_id: as the request says.
    user: row in the user table, -1 for a user the snapshot has not seen.
    shown: int32, rows of the items in this request's own `history` feature, in its order.
    history: int32, rows of what the user chose, oldest first: the snapshot's, then `shown`; each item once. These are
        rows of the item table, that item-to-item tables know: of a changed item the one it had, of a new one none.
    context: the request's features.
    kinds: the types that the request gave some of them, by name.
    item_list: the request's own candidates.
    request_id: as the answer gives it; what is drawn at random is drawn from a hash of it.
    experiment_id: what the answer and the log carry. params: what its experiments set.
    sources: names of the scene's recalls.
    labels: recalls that lists named; None, if none did.
    given: properties of candidates that the snapshot does not know, or knows otherwise.
    fetched: what stages have got from live stores, by stage.
    degraded: what this answer had to do without, as `name: why`.
    cached_sets: features that were loaded aside, by the name of their set. running: loads that still run aside; these
        tasks leave their outcome in themselves, so that they may outlive the request.
    user_loaded: names of the user's properties that live loads and transforms have set.
    merged: which recalls brought each item with what scores, by place, once UniqueFilter has merged them.
    own_end: the slot from which on the candidates came from side pipelines, which ranked them themselves.
    laps: when each stage ended, what it left and how long it waited.
    watch: called with the name of each stage that is over and the arena it left, where somebody wants to know.
    """

    __slots__ = (
        "_guests", "_places", "_snapshot", "_user_features", "cached_sets", "context", "degraded", "experiment_id",
        "fetched", "given", "history", "item_id", "item_list", "kinds", "labels", "laps", "merged", "own_end", "params",
        "request_id", "running", "shown", "size", "sources", "uid", "user", "user_columns", "user_loaded", "watch",
    )  # fmt: skip

    def __init__(
        self,
        snapshot: Snapshot,
        uid: str,
        size: int,
        context: dict[str, Any],
        *,
        history_max: int,
        item_id: str = "",
        item_list: list[dict[str, Any]] | None = None,
        request_id: str = "",
        sources: Sequence[str] = (),
        places: int = 0,
        user_columns: Mapping[str, Column] | None = None,
        params: Mapping[str, Any] | None = None,
        kinds: Mapping[str, str] | None = None,
        laps: Laps | None = None,
    ) -> None:
        """`places` is how many candidates there may be; `user_columns` what of the snapshot is loaded; `laps` when the
        request began, by default now."""
        self.laps = Laps() if laps is None else laps
        self._snapshot = snapshot
        self.request_id, self.sources, self.params = request_id, sources, params or {}
        self.experiment_id = ""
        self.given, self._places = Given(places), places
        self.labels: Labels | None = None
        self.own_end = sys.maxsize
        self.kinds = kinds or {}
        self.user_columns = user_columns or {}
        self._user_features: dict[str, Any] | None = None
        self._guests: dict[str, int] = {}
        self.fetched: dict[Any, Any] = {}
        self.degraded: list[str] = []
        self.cached_sets: dict[str, dict[str, Any]] = {}
        self.running: dict[Any, asyncio.Future[Any]] = {}
        self.user_loaded: set[str] = set()
        self.merged: Merged | None = None
        self.watch: Callable[[str, Arena], None] | None = None
        self.uid, self.size, self.context = uid, size, context
        self.item_id, self.item_list = item_id, item_list or []
        self.user = snapshot.users.ids.find(uid)
        shown = self.shown = NOBODY
        if (given := context.get("history")) is not None:
            shown = self.shown = snapshot.items.ids.find_all(item_ids(given)[-history_max:])
        known = snapshot.history.of(self.user) if self.user >= 0 else NOBODY
        if snapshot.overlay.changed:
            known, shown = snapshot.overlay.bases(known), snapshot.overlay.bases(shown)
        self.history = known[-history_max:] if shown is NOBODY else recent(known, shown, history_max)

    @property
    def user_features(self) -> dict[str, Any]:
        """PAI-Rec's user properties: the request's features that are not empty texts, the uid, and what was loaded over
        them. Loads and transforms write into it."""
        if self._user_features is None:
            given = {name: value for name, value in self.context.items() if value != ""} | {"uid": self.uid}
            self._user_features = loaded(given, self.user_columns, self.user)
        return self._user_features

    def row(self, id: str, *, removed: bool = False) -> int:
        """The row of an item by its id: the snapshot's, or a guest's.

        -1 for an item that was removed, for what is no id, and when there is no room for more guests. With `removed`
        such an item is a guest.
        """
        ids, guests = self._snapshot.items.ids, self._snapshot.guests
        row = ids.find(id)
        if row >= 0:
            return row
        known = self._guests.get(id)
        if known is not None:
            return known
        if not id or (ids.gone(id) and not removed) or len(self._guests) == len(guests) or _has_surrogates(id):
            return -1
        row = self._guests[id] = guests.start + len(self._guests)
        return row

    def rows(self, ids: list[str]) -> NDArray[np.int32]:
        """`row` of each of `ids` [n]."""
        rows = self._snapshot.items.ids.find_each(ids)
        for place in np.flatnonzero(rows < 0).tolist():  # items that the snapshot has not
            rows[place] = self.row(ids[place])
        return rows

    def label(self, arena: Arena, slots: slice, name: str) -> None:
        """The candidates in `slots` are said to be of recall `name`, which the scene does not have."""
        if self.labels is None:
            self.labels = Labels(self._places)
        self.labels.put(arena, slots, name)

    def recall_names(self, arena: Arena, slots: NDArray[np.int32] | slice) -> list[str]:
        """Which recall each candidate is said to be of."""
        if self.labels is None:
            return [self.sources[source] for source in arena.source[slots].tolist()]
        codes, names = self.labels.over(arena, slots, self.sources)
        return [names[code] for code in codes.tolist()]

    def known(self, rows: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of `rows` are the snapshot's, and no guest's."""
        guests = self._snapshot.guests
        return (rows >= 0) & ((rows < guests.start) | (rows >= guests.stop))

    def forget_items(self) -> None:
        """Begin anew with other candidates, of whom nothing is known yet."""
        self._guests.clear()
        self.given = Given(self.given.places)

    def beside(self) -> Query:
        """The same for a side pipeline: guests are shared, candidates have properties of its own, and what it loads of
        the user the main line does not see, nor it what the main line loads from now on."""
        side = copy.copy(self)
        side.given, side.labels = Given(self._places), None
        side._user_features, side.user_loaded = dict(self.user_features), set(self.user_loaded)
        side.cached_sets, side.running, side.fetched = dict(self.cached_sets), dict(self.running), {}
        side.watch, side.laps = None, Laps()
        return side

    def join(self, arena: Arena, side: Query, other: Arena) -> None:
        """The candidates that a side pipeline ordered in `other` come behind those of `arena`, with what `side` has of
        them; to an item that is there they only give its properties."""
        before = arena.count
        slots = join(arena, other)
        self.own_end = min(self.own_end, before)
        came = slots >= 0
        theirs, places = other.place[other.order[: other.order_count][came]], arena.place[slots[came]]
        new = slots[came] >= before
        self.given.clear_at(places[new])
        self.given.take(side.given, theirs, places)
        if self.labels is None and side.labels is not None:
            self.labels = Labels(self._places)
        if self.labels is not None:
            self.labels.take(side.labels, theirs[new], places[new])

    def find(self, ids: Iterable[str]) -> NDArray[np.int32]:
        """The rows of those items that the snapshot knows, in the order given, and then of this request's guests."""
        listed = list(ids)
        rows = self._snapshot.items.ids.find_all(listed)
        if not self._guests:
            return rows
        guests = [self._guests[id] for id in listed if id in self._guests]
        return np.concatenate([rows, np.array(guests, np.int32)])

    def guests_among(self, ids: Container[str]) -> NDArray[np.int32]:
        """The rows of this request's guests whose ids are among `ids`."""
        return np.array([row for id, row in self._guests.items() if id in ids], np.int32)

    def ids(self, rows: NDArray[np.int32]) -> list[str]:
        """The ids of items by their rows, guests among them."""
        ids, first = self._snapshot.items.ids, self._snapshot.guests
        if not self._guests:
            return ids.id_each(rows)
        names = list(self._guests)
        return [names[row - first.start] if row in first else ids.id(row) for row in rows.tolist()]

    def properties(self, arena: Arena) -> Properties:
        """What is known of the live candidates, by name."""
        return Properties(self._snapshot, self.given, arena, self.sources, self.labels)

    def user_property(self, name: str) -> Any:
        """`user_value`; of a name that only they have, what `user_features` say."""
        value = self.user_value(name)
        if value is not None:
            return value
        if self._user_features is None and name not in self.user_columns and name != "uid":
            return None  # the request has none of that name, and they would hold none either
        return self.user_features.get(name)

    def user_value(self, column: str) -> Any:
        """What is known of the user by that name: what was loaded or made for this request, else the snapshot's column,
        else the request's feature, else None."""
        if column in self.user_loaded and (value := self.user_features.get(column)) is not None:
            return value
        table = self._snapshot.users
        if self.user >= 0 and column in table.columns:
            value = table.columns[column].value(self.user)
            if value is not None:
                return value
        return self.context.get(column)


def _has_surrogates(id: str) -> bool:
    """Such a text has no UTF-8, so no answer could name it."""
    return any("\ud800" <= character <= "\udfff" for character in id)


def item_ids(value: Any) -> list[str]:
    """Item ids of a `history` feature: a list of texts, or one text with commas between them. Anything else: none."""
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []


def recent(known: NDArray[np.int32], shown: NDArray[np.int32], most: int) -> NDArray[np.int32]:
    """The last `most` of `known` followed by `shown`, each row once, at its last place."""
    if len(shown) == 0:  # `known` is free of repeats: build saw to that
        return known[-most:]
    newest_first = dict.fromkeys([*shown[::-1].tolist(), *known[-2 * most :][::-1].tolist()])
    return np.array(list(newest_first)[:most][::-1], np.int32)


def merged_features(features: dict[str, Any], typed: list[Any]) -> dict[str, Any]:
    """The features of a request with its `complex_type_features` laid over them. *Source*: PAIREC 1.5.

    Raises:
        RequestError: an entry is no object, or its name or type no text.
    """
    if not typed:
        return features
    merged = dict(features)
    for given in typed:
        entry = _entry(given)
        value = _typed(entry.get("values"), entry["type"])
        if value is not _DROPPED:
            merged[entry["name"]] = value
    return merged


def kinds_of(typed: list[Any]) -> dict[str, str]:
    """The types that `complex_type_features` names: what a model server is sent depends on them."""
    return {entry["name"]: entry["type"] for entry in map(_entry, typed)}


def _entry(given: Any) -> dict[str, Any]:
    """An entry with its keys in small letters; name and type are texts, "" where they miss."""
    if given is not None and not isinstance(given, dict):
        raise RequestError(f"complex_type_features: expected objects, got {given!r:.100}")
    fields: dict[str, Any] = given or {}
    entry = {"name": "", "type": ""}
    for key, value in fields.items():
        small = key.lower()
        if value is not None and (key == small or small not in fields):
            entry[small] = value
    for field in ("name", "type"):
        if not isinstance(entry[field], str):
            raise RequestError(f"complex_type_features: {field} must be a text, got {entry[field]!r:.100}")
    return entry


_DROPPED = object()
_SCALARS: dict[str, Callable[[Any], Any]] = {
    "string": lambda value: to_string(_double(value), ""),
    "int": lambda value: to_int(_double(value), 0),
    "int64": lambda value: to_int(_double(value), 0),
    "float": lambda value: _float32(to_float(_double(value), 0.0)),
    "double": lambda value: to_float(_double(value), 0.0),
}
_TYPES = {"string": "string", "int": "int", "int64": "int64", "float": "float32", "double": "float64"}
_KIND = re.compile(
    r"(?P<scalar>string|int|int64|float|double)|list<(?P<of>string|int|int64|float|double)>"
    r"|list<list<(?P<inner>float|double)>>|map<(?P<key>string|int|int64),(?P<value>string|int|int64|float|double)>"
)


def feature_type(kind: str) -> str:
    """What a value of `complex_type_features` is in PAI-Rec, by its declared type: `list<float>` is `list<float32>`.

    It selects the field of a model request. "" for a type PAI-Rec does not know: the value stays as the body has it.
    """
    match = _KIND.fullmatch(kind)
    if match is None:
        return ""
    if match["scalar"]:
        return _TYPES[kind]
    if match["of"]:
        return f"list<{_TYPES[match['of']]}>"
    return (
        f"list<list<{_TYPES[match['inner']]}>>" if match["inner"] else f"map<{match['key']},{_TYPES[match['value']]}>"
    )


def _typed(value: Any, kind: str) -> Any:
    match = _KIND.fullmatch(kind)
    if match is None:
        return value
    if match["scalar"]:
        return _SCALARS[kind](value)
    if match["key"]:
        if not isinstance(value, dict):
            return _DROPPED
        key_of, value_of = _SCALARS[match["key"]], _SCALARS[match["value"]]
        return {key_of(key): value_of(part) for key, part in value.items()}
    if not isinstance(value, list):
        return _DROPPED
    if match["inner"]:
        inner = _SCALARS[match["inner"]]
        return [[inner(part) for part in row] for row in value if isinstance(row, list)]
    return [_SCALARS[match["of"]](part) for part in value]


def _double(value: Any) -> Any:
    """Go reads every number of a body as a double first: an integer beyond 2**53 loses digits, as there."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _float32(value: float) -> float:
    """The nearest float32, as the double of its shortest digits: what it prints as."""
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))
