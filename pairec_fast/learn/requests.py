"""Requests made up from positives alone: what the line would have recalled for those who chose something next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena, Neighbours, add, drop_exposed
from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.features import table_and_newest
from pairec_fast.learn.dataset import Dataset, Rows
from pairec_fast.learn.derive import DAY, Known
from pairec_fast.learn.sources import Events, Sources
from pairec_fast.learn.spec import ModelSpec, VectorsSpec, World

CUTOFF_DAYS_MIN = 5.0  # a cutoff with less to come after it sees too little of what each user chose next
RECENT_DAYS = 7.0  # the half-life of the popularity that a model is measured against

Bring = Callable[[int, NDArray[np.int32], Arena], None]


class Moment:
    """A time, the world as it would have been built then, and what was chosen next.

    known, dataset: over the events before. user, item: int32, who chose what next, each pair once, ordered by user.
    """

    def __init__(
        self, world: World, folder: Path, sources: Sources, spec: ModelSpec, past: NDArray[np.int64],
        next_: NDArray[np.int64],
    ) -> None:  # fmt: skip
        before = Sources(sources.items, sources.users, sources.events.taken(past), sources.folded)
        self.now = before.now
        self.known = Known(world, folder, before, before.now)
        self.dataset = Dataset(world, folder, before, spec.features)
        self.recalled = Recalled(world, self.known, spec)
        pairs = np.unique(np.stack([sources.events.user[next_], sources.events.item[next_]]), axis=1)
        self.user, self.item = pairs[0], pairs[1]


class Requests:
    """Requests with their candidates, one after the other.

    x [rows, features] float32. label [rows]: 1 chosen next. sizes [requests]: how many rows each has. missed
    [requests]: how many items were chosen next that are no candidates. popular [rows]: how often each had been chosen;
    recent [rows]: the same, halved every `RECENT_DAYS`.
    """

    ROWS = ("x", "label", "popular", "recent")

    def __init__(self, sizes: NDArray[np.int64], missed: NDArray[np.int64], **rows: NDArray[Any]) -> None:
        self.sizes, self.missed = sizes, missed
        self.x, self.label, self.popular, self.recent = (rows[name] for name in self.ROWS)

    def thinned(self, negatives: float, rng: np.random.Generator) -> Requests:
        """With that share of what nobody chose, and only the requests that have a positive."""
        keep, sizes, answered = _thinned(self.label, self.sizes, negatives, rng)
        return Requests(sizes, self.missed[answered], **{name: getattr(self, name)[keep] for name in self.ROWS})


def ask(
    moment: Moment, users: NDArray[np.int32], negatives: float = 1.0, rng: np.random.Generator | None = None
) -> Requests:
    """A request of each of `users` at that moment; thinned, if an `rng` says of what, before features are made."""
    parts, labels, missed = [], [], []
    for user in users.tolist():
        chosen = moment.item[slice(*np.searchsorted(moment.user, [user, user + 1]))]
        chosen = np.setdiff1d(chosen, moment.recalled.history(user))  # the line does not bring what it filters again
        parts.append(moment.recalled.of(user))
        labels.append(np.isin(parts[-1], chosen).astype(float))
        missed.append(len(chosen) - int(labels[-1].sum()))
    item, label = np.concatenate(parts), np.concatenate(labels)
    sizes, asking = np.array([len(part) for part in parts], np.int64), np.arange(len(users))
    if rng is not None:
        keep, sizes, answered = _thinned(label, sizes, negatives, rng)
        item, label, asking = item[keep], label[keep], asking[answered]
    group = np.repeat(asking, sizes)
    rows = Rows(users[group], item, np.full(len(item), moment.now), group, {})
    known, items = moment.known, len(moment.known.sources.items)
    weight = np.exp2((known.when - moment.now) / (RECENT_DAYS * DAY))
    return Requests(
        sizes, np.array(missed, np.int64)[asking], x=moment.dataset.matrix(rows, known), label=label,
        popular=np.bincount(known.item, minlength=items)[item].astype(float),
        recent=np.bincount(known.item, weight, minlength=items)[item],
    )  # fmt: skip


def _thinned(
    label: NDArray[np.float64], sizes: NDArray[np.int64], negatives: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    """(rows to keep, how many of each request that is kept, requests kept)."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    answered = np.bincount(group, label, minlength=len(sizes)) > 0
    keep = ((label > 0) | (rng.random(len(label)) < negatives)) & answered[group]
    return keep, np.bincount(group[keep], minlength=len(sizes))[answered], answered


class Recalled:
    """The candidates of a user, by the kernels and in the order of the line: recalled, then without the history.

    Raises:
        ConfigError: a source of `candidates` that names nothing.
    """

    def __init__(self, world: World, known: Known, spec: ModelSpec) -> None:
        self._offset, self._rows = known.history
        sources = known.sources
        self._recalls = [
            _bring(world, known, name, count, place, f"models.{spec.name}.candidates")
            for place, (name, count) in enumerate(spec.candidates.items())
        ]
        most = sum(min(count, len(sources.items)) for count in spec.candidates.values())
        self._arena = Arena(max(1, most), items_max=len(sources.items))

    def history(self, user: int) -> NDArray[np.int32]:
        return self._rows[self._offset[user] : self._offset[user + 1]]

    def of(self, user: int) -> NDArray[np.int32]:
        arena, history = self._arena, self.history(user)
        arena.reset()
        for recall in self._recalls:
            recall(user, history, arena)
        drop_exposed(arena, history)
        return arena.row[: arena.count].copy()


def moments(sources: Sources, spec: ModelSpec) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(events before, events next) of each cutoff, oldest first; with `hold_last` one, a user's own last next.

    Raises:
        ConfigError: no cutoff is early enough.
    """
    events = sources.events
    if spec.hold_last:
        held = _last(events, spec.hold_last)
        return [(np.flatnonzero(~held), np.flatnonzero(held))]
    end = float(events.time.max())
    cuts = [float(cut) for cut in np.quantile(events.time, sorted(spec.cutoffs))]
    cuts = [cut for cut in cuts if end - cut >= CUTOFF_DAYS_MIN * DAY]
    if not cuts:
        raise ConfigError(
            f"models.{spec.name}.cutoffs: none is {CUTOFF_DAYS_MIN:g} days before the last interaction or earlier"
        )
    return [
        (
            np.flatnonzero(events.time <= cut),
            np.flatnonzero((events.time > cut) & (events.time <= cut + spec.horizon_days * DAY)),
        )
        for cut in cuts
    ]


def _last(events: Events, share: float) -> NDArray[np.bool_]:
    """Whether an event is among the last `share` of its user's, rounded down."""
    order = np.lexsort((np.arange(len(events)), events.time, events.user))
    user = events.user[order]
    count = np.bincount(user)[user]
    begin = np.searchsorted(user, user)
    held = np.empty(len(events), bool)
    held[order] = begin + count - np.arange(len(events)) <= np.floor(count * share)
    return held


def _bring(world: World, known: Known, source: str, count: int, place: int, where: str) -> Bring:
    try:
        name, newest = table_and_newest(source)
    except SnapshotError as error:
        raise ConfigError(f"{where}: {error}") from None
    spec = next((one for one in world.vectors if one.name == source), None)
    if spec is not None:
        return _nearest(spec, known, count, place)
    ranked = next((one for one in world.lists if one.name == source), None)
    if ranked is not None:
        offset, rows, scores = known.ranked(ranked)
        group_of = known.sources.users.columns[ranked.by].values if ranked.by else None

        def popular(user: int, history: NDArray[np.int32], arena: Arena) -> None:
            group = 0 if group_of is None else int(group_of[user])
            if group >= 0:
                best = slice(offset[group], min(offset[group] + count, offset[group + 1]))
                add(arena, rows[best], scores[best], place)

        return popular
    if name not in [one.name for one in world.neighbours]:
        raise ConfigError(f'{where}: "{source}" is none of this world\'s vectors, lists and neighbours')
    table = Neighbours(*known.neighbours_of(name))
    return lambda user, history, arena: table.add_similar(arena, history[-newest:], count, place)  # type: ignore[return-value]


def _nearest(spec: VectorsSpec, known: Known, count: int, place: int) -> Bring:
    """All items compared, as a flat index does; a user without a vector gets nothing."""
    users, items = known.vectors_of(spec.name)
    if spec.metric == "cosine":
        items = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-30)
    square = np.square(items).sum(axis=1)

    def nearest(user: int, history: NDArray[np.int32], arena: Arena) -> None:
        if users[user].any():
            score = items @ users[user]
            score = 2 * score - square if spec.metric == "l2" else score
            best = np.argsort(-score, kind="stable")[:count].astype(np.int32)
            add(arena, best, score[best].astype(np.float32), place)

    return nearest
