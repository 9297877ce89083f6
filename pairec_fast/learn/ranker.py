"""Train a world's ranker on its own interactions, and say how good it is on those it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import aggregate
from pairec_fast.errors import ConfigError
from pairec_fast.learn.dataset import Dataset, Rows
from pairec_fast.learn.derive import Known
from pairec_fast.learn.measure import auc, ndcg
from pairec_fast.learn.sources import Events, Sources
from pairec_fast.learn.spec import ModelSpec, World
from pairec_fast.learn.train import fit_ranker
from pairec_fast.snapshot import Feature


class Ranker:
    """A trained model: `text` as LightGBM saves it, its features, and a line on how it did on the held-out requests."""

    def __init__(self, text: str, features: list[Feature], objective: str, report: str) -> None:
        self.text, self.features, self.objective, self.report = text, features, objective, report


def train_ranker(
    world: World, folder: Path, sources: Sources, spec: ModelSpec, progress: Callable[[int, int], None] | None = None
) -> Ranker:
    """Train on the interactions of the last `train_share` of the time; the last `holdout_share` is measured.

    Raises:
        ConfigError: a source that names nothing, or interactions that cannot train a ranker.
    """
    conf = world.interactions
    if not conf.label or not conf.group:
        raise ConfigError(
            f"models.{spec.name}.features: to train a model, interactions needs label (1 chosen, 0 shown in vain) "
            "and group (what was shown together)"
        )
    dataset = Dataset(world, folder, sources, spec.features)
    events = sources.events
    begin, cut = np.quantile(events.time, [1 - spec.train_share, 1 - spec.holdout_share])
    known = Known(world, folder, sources, float(begin))
    fit, held = (_part(events, *span) for span in ((begin, cut), (cut, np.inf)))
    stop = _part(events, float(np.quantile(events.time[fit], 0.9)), cut)  # the last tenth says when to stop
    fit = np.setdiff1d(fit, stop, assume_unique=True)
    parts = []
    for part in (fit, stop, held):
        rows, label, sizes = _requests(events, part)
        if not 0 < label.sum() < len(label):
            raise ConfigError(f"models.{spec.name}: {len(label):,} rows to train or measure on, all with one label")
        parts.append((dataset.matrix(rows, known), label, sizes, rows))
    x, y, sizes, _ = parts[0]
    ranked = spec.objective == "lambdarank"
    booster = fit_ranker(
        x, y, sizes if ranked else None, [feature.name for feature in dataset.features],
        [place for place, feature in enumerate(dataset.features) if feature.categories is not None],
        spec.objective, valid=(parts[1][0], parts[1][1], parts[1][2] if ranked else None), rounds=spec.rounds,
        params={"num_leaves": spec.leaves, "learning_rate": spec.learning_rate}, seed=world.seed, progress=progress,
    )  # fmt: skip
    x, y, sizes, rows = parts[2]
    score = np.asarray(booster.predict(x, raw_score=True))
    popular = _popularity(sources, rows)
    report = (
        f"{spec.name}: {len(parts[0][1]):,} training rows, {booster.num_trees()} trees; on {len(sizes):,} held-out "
        f"requests NDCG@20 {ndcg(y, score, sizes):.4f} (popularity {ndcg(y, popular, sizes):.4f}), "
        f"AUC {auc(y, score):.4f} (popularity {auc(y, popular):.4f})"
    )
    return Ranker(booster.model_to_string(), dataset.features, spec.objective, report)


def _part(events: Events, begin: float, end: float) -> NDArray[np.int64]:
    return np.flatnonzero((events.time >= begin) & (events.time < end))


def _requests(events: Events, part: NDArray[np.int64]) -> tuple[Rows, NDArray[np.float64], NDArray[np.int64]]:
    """The rows of `part`, request after request, their labels, and how many rows each request has."""
    part = part[np.lexsort((part, events.group[part]))]
    group = events.group[part]
    sizes = np.diff(np.flatnonzero(np.r_[True, group[1:] != group[:-1], True]))
    # A request has one time: when its first row was shown.
    begin = np.cumsum(sizes) - sizes
    time = np.repeat(np.minimum.reduceat(events.time[part], begin), sizes)
    rows = Rows(events.user[part], events.item[part], time, group, events.columns(part))
    return rows, events.positive[part].astype(float), sizes


def _popularity(sources: Sources, rows: Rows) -> NDArray[np.float64]:
    """How often each row's item was chosen before the row's time."""
    events = sources.events
    chosen = events.positive
    ones = np.ones(int(chosen.sum()))
    return aggregate(events.item[chosen], events.time[chosen], ones, rows.item, rows.time)[0]
