"""Train a world's ranker on its own interactions, and say how good it is on those it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import aggregate
from pairec_fast.errors import ConfigError
from pairec_fast.learn.dataset import Dataset, Rows
from pairec_fast.learn.derive import Known
from pairec_fast.learn.measure import auc, ndcg
from pairec_fast.learn.requests import Moment, Requests, ask, moments
from pairec_fast.learn.sources import Events, Sources
from pairec_fast.learn.spec import ModelSpec, World
from pairec_fast.learn.train import fit_ranker
from pairec_fast.manifest import Feature

HELD_SHARE = 0.2  # of the requests, where there is one cutoff only

Progress = Callable[[int, int], None]


class Ranker:
    """A model: `text` as LightGBM saves it, "" of another maker, its features, and a line on how it did held out."""

    def __init__(self, text: str, features: list[Feature], objective: str, report: str) -> None:
        self.text, self.features, self.objective, self.report = text, features, objective, report


def train_ranker(
    world: World, folder: Path, sources: Sources, spec: ModelSpec, progress: Progress | None = None
) -> Ranker:
    """Train on labelled requests if the interactions are such, else on requests made up from them (`ModelSpec`).

    Raises:
        ConfigError: a source that names nothing, or interactions that cannot train a ranker.
    """
    train = _train_labelled if world.interactions.label else _train_positives
    return train(world, folder, sources, spec, progress or (lambda done, total: None))


def _train_labelled(world: World, folder: Path, sources: Sources, spec: ModelSpec, progress: Progress) -> Ranker:
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
    booster = _fit(world, spec, dataset.features, parts[0][:3], parts[1][:3], progress)
    x, y, sizes, rows = parts[2]
    score = np.asarray(booster.predict(x, raw_score=True))
    popular = _popularity(sources, rows)
    report = (
        f"{spec.name}: {len(parts[0][1]):,} training rows, {booster.num_trees()} trees; on {len(sizes):,} held-out "
        f"requests NDCG@20 {ndcg(y, score, sizes):.4f} (popularity {ndcg(y, popular, sizes):.4f}), "
        f"AUC {auc(y, score):.4f} (popularity {auc(y, popular):.4f})"
    )
    return Ranker(booster.model_to_string(), dataset.features, spec.objective, report)


def _train_positives(world: World, folder: Path, sources: Sources, spec: ModelSpec, progress: Progress) -> Ranker:
    """The latest requests are held out and measured by a model of the others; then one is trained on all."""
    rng = np.random.default_rng(world.seed)
    cuts = [(past, next_) for past, next_ in moments(sources, spec) if len(next_)]
    if not cuts:
        raise ConfigError(f"models.{spec.name}: no request to train on; nobody chose anything after a cutoff")
    total = len(cuts) + 2 * spec.rounds
    parts: list[Requests] = []
    for place, (past, next_) in enumerate(cuts):
        moment = Moment(world, folder, sources, spec, past, next_)
        asking = np.unique(moment.user)
        last = np.full(len(asking), place + 1 == len(cuts))
        if len(cuts) == 1:
            last = rng.permutation(len(asking)) < max(1.0, HELD_SHARE * len(asking))
        if not last.all():
            parts.append(ask(moment, asking[~last], spec.negatives, rng))
        if last.any():
            held = ask(moment, asking[last])
        progress(place + 1, total)
    features = moment.dataset.features
    fit = _joined(spec, parts)
    booster = _fit(world, spec, features, fit, None, lambda done, _: progress(len(cuts) + done, total))
    score = np.asarray(booster.predict(held.x, raw_score=True))
    figures = [_ndcg(held, each) for each in (score, held.recent, held.popular)]
    fit = _joined(spec, [*parts, held.thinned(spec.negatives, rng)])
    booster = _fit(world, spec, features, fit, None, lambda done, _: progress(len(cuts) + spec.rounds + done, total))
    report = (
        f"{spec.name}: {len(fit[1]):,} training rows of {len(fit[2]):,} requests at {len(cuts)} cutoffs, "
        f"{booster.num_trees()} trees; trained without the {len(held.sizes):,} requests it is measured on, NDCG@20 "
        f"{figures[0]:.4f} (recent popularity {figures[1]:.4f}, popularity {figures[2]:.4f})"
    )
    return Ranker(booster.model_to_string(), features, spec.objective, report)


def _fit(world: World, spec: ModelSpec, features: list[Feature], fit: Any, valid: Any, progress: Progress) -> Any:
    """`fit` and `valid` are (x, label, sizes)."""
    ranked = spec.objective == "lambdarank"
    x, y, sizes = fit
    return fit_ranker(
        x, y, sizes if ranked else None, [feature.name for feature in features],
        [place for place, feature in enumerate(features) if feature.categories is not None],
        spec.objective, valid=valid and (valid[0], valid[1], valid[2] if ranked else None), rounds=spec.rounds,
        params=dict(spec.params), seed=world.seed, progress=progress,
    )  # fmt: skip


def _joined(spec: ModelSpec, parts: list[Requests]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    if not parts or not any(part.label.any() for part in parts):
        raise ConfigError(f"models.{spec.name}: no request to train on; nobody chose a candidate after a cutoff")
    return tuple(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "label", "sizes"))  # type: ignore[return-value]


def _ndcg(requests: Requests, score: NDArray[np.float64]) -> float:
    """What was chosen and not recalled counts: it stands behind all candidates."""
    count = len(requests.sizes)
    group = np.concatenate([np.repeat(np.arange(count), sizes) for sizes in (requests.sizes, requests.missed)])
    order = np.argsort(group, kind="stable")
    missed = int(requests.missed.sum())
    label = np.concatenate([requests.label, np.ones(missed)])
    score = np.concatenate([score, np.full(missed, -np.inf)])
    return ndcg(label[order], score[order], requests.sizes + requests.missed)


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
