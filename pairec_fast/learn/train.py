"""Table in, ranker out: `model.txt` for LightGBM and for the core, `features.json` for the plan that feeds it.

The model is measured on rows it never saw and that stopped nothing: a fifth of the table is held out, and how many
trees are enough is decided on a tenth of the rest.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.features import FeatureSchema
from pairec_fast.learn import holdout as holdouts
from pairec_fast.learn import measure
from pairec_fast.learn.columns import GRADE_MAX, choose_columns, label_of, matrix
from pairec_fast.learn.frame import Frame
from pairec_fast.learn.table import read_table

OBJECTIVES = {"binary": "binary_logloss", "lambdarank": "ndcg", "regression": "l2"}  # and what stops training
# Never features: who and what, when, and what is known only after ranking.
NOT_FEATURES = ("user_id", "item_id", "request_id", "timestamp", "position")
HOLDOUT_SHARE = 0.2
STOPPING_SHARE = 0.1
STOPPING_ROWS_MIN = 50  # below, a validation curve is noise
ROUNDS_BLIND = 60  # trees when nothing can say when to stop
GROUP_ROWS_MAX = 10_000  # LightGBM's own limit
THREADED_SIZE_MIN = 200_000  # values in the matrix
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What came of it. Figures are on the holdout; None where the objective has none, NaN where it has one class."""

    report: str
    rows: int
    rows_holdout: int
    trees: int
    auc: float
    log_loss: float | None
    ndcg: float | None
    rmse: float | None
    importances: dict[str, float]  # by feature, share of the gain, largest first
    schema: FeatureSchema
    model_path: Path
    schema_path: Path


def train_table(
    path: str | PathLike[str],
    *,
    label: str,
    output: str | PathLike[str],
    objective: str = "binary",
    group: str | None = None,
    time: str | None = None,
    holdout: str | None = None,
    user: str = "user_id",
    drop: Sequence[str] = (),
    categorical: Sequence[str] = (),
    not_features: Sequence[str] = NOT_FEATURES,
    seed: int = 0,
    rounds: int = 300,
    params: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train on a CSV or Parquet table and write `output/model.txt` and `output/features.json`.

    Features are all columns but `label`, `group`, `time`, `user`, `drop` and `not_features`; text columns, and those
    named `categorical`, are categorical. Without `time` a column "timestamp" is taken. Held out are the last 20 % by
    time if there is one, else 20 % of the users, else of the groups, else of the rows (`holdout`: "time" or "user"
    insists). `lambdarank` needs `group`, the rows ranked against each other; no group is ever split.

    A feature is called as its column, with blanks and the characters LightGBM refuses (`" , : [ ] { } =`) made "_".
    The same table, arguments and LightGBM give the same model.

    Raises:
        ConfigError: an argument that cannot be right whatever the table holds.
        SnapshotError: the table cannot be read or used, or the output cannot be written; names file and place.
    """
    output = Path(output)
    _check_arguments(objective, group, rounds, output)
    frame = read_table(path, text=categorical)
    if time is None and "timestamp" in frame:
        time = "timestamp"
    frame.require([label, *(name for name in (group, time) if name is not None), *drop, *categorical])
    target = label_of(frame, label, objective)
    excluded = {*not_features, *drop, user, *(name for name in (group, time) if name is not None)}
    columns, notes = choose_columns(frame, label, excluded, set(categorical))

    cut, note = holdouts.choose(frame, holdout, time=time, user=user, group=group, seed=seed)
    notes += [note] * bool(note)
    rows = np.arange(len(frame))
    groups = None
    if group is not None:
        groups = holdouts.units(frame, group)[0]
        rows = np.argsort(groups, kind="stable")
    held = cut.held(rows, HOLDOUT_SHARE)
    rest, test = rows[~held], rows[held]
    if np.ptp(target[rest]) == 0:
        raise SnapshotError(
            f"{frame.path}: {label} is {target[rest][0]:g} in all {len(rest):,} rows that are not held out "
            f"(by {cut.what}); both values would be right, so try another holdout"
        )
    stopping = cut.held(rest, STOPPING_SHARE)
    fit, valid = rest[~stopping], rest[stopping]
    if len(valid) < STOPPING_ROWS_MIN or np.ptp(target[valid]) == 0 or np.ptp(target[fit]) == 0:
        fit, valid, rounds = rest, rest[:0], min(rounds, ROUNDS_BLIND)
        notes.append(f"too few rows to tell when to stop: {rounds} trees, unchecked")

    features, x = matrix(frame, columns, rest)
    sizes = [None if groups is None else _sizes(frame, group, groups[part]) for part in (fit, valid, test)]
    ranked = objective == "lambdarank"
    booster = fit_ranker(
        x[fit],
        target[fit],
        sizes[0] if ranked else None,
        [feature.name for feature in features],
        [position for position, feature in enumerate(features) if feature.categories is not None],
        objective,
        valid=(x[valid], target[valid], sizes[1] if ranked else None) if len(valid) else None,
        rounds=rounds,
        params=params,
        seed=seed,
        progress=progress,
    )

    schema = FeatureSchema(features, label=label, objective=objective)
    score = np.asarray(booster.predict(x[test]))
    graded = target.min() >= 0 and target.max() <= GRADE_MAX
    gains = booster.feature_importance("gain")
    total = float(gains.sum())
    shares = {feature.name: float(gain) / (total or 1.0) for feature, gain in zip(features, gains, strict=True)}
    if not total:
        notes.append("no feature told anything: the model is a constant")
    model_path, schema_path = _write(output, booster, schema)
    result = TrainResult(
        report="",
        rows=len(frame),
        rows_holdout=len(test),
        trees=booster.num_trees(),
        auc=measure.auc(target[test], score),
        log_loss=measure.log_loss(target[test], score) if objective == "binary" else None,
        ndcg=measure.ndcg(target[test], score, sizes[2]) if sizes[2] is not None and graded else None,
        rmse=measure.rmse(target[test], score) if objective == "regression" else None,
        importances=dict(sorted(shares.items(), key=lambda item: -item[1])),
        schema=schema,
        model_path=model_path,
        schema_path=schema_path,
    )
    return dataclasses.replace(result, report=_report(result, frame, cut, target, rest, test, len(valid), notes))


def fit_ranker(
    x: Matrix,
    y: npt.NDArray[Any],
    group_sizes: npt.NDArray[Any] | None,
    feature_names: Sequence[str],
    categorical_indices: Sequence[int],
    objective: str,
    *,
    valid: tuple[Matrix, npt.NDArray[Any], npt.NDArray[Any] | None] | None = None,
    rounds: int = 300,
    stopping_rounds: int = 30,
    params: dict[str, Any] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> lgb.Booster:
    """Fit a forest to a matrix; quiet, repeatable, on all cores.

    x           [rows, width] float32, NaN where missing; a categorical's value is its category's index
    y           [rows]        label
    group_sizes [groups]      rows of each group, which stand together; needed by lambdarank
    valid       (x, y, group_sizes) to stop on, after `stopping_rounds` trees that bring nothing; the trees behind the
                best one are cut off

    `params` override LightGBM's parameters. `progress(done, rounds)` is called after every tree.

    Raises:
        ConfigError: unknown objective, or LightGBM refuses (its words are in the message).
    """
    if objective not in OBJECTIVES:
        raise ConfigError(_unknown_objective(objective))
    if objective == "lambdarank" and group_sizes is None:
        raise ConfigError("lambdarank needs group_sizes: the rows that are ranked against each other")
    settings: dict[str, Any] = {
        "objective": objective,
        "metric": OBJECTIVES[objective],
        "eval_at": [20],
        "learning_rate": 0.08,
        "num_leaves": 31,
        "min_data_in_leaf": int(np.clip(len(y) // 50, 1, 20)),
        "lambdarank_truncation_level": 30,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,  # LightGBM would time both layouts and take the faster: not twice the same
        # Below this the threads wait for each other longer than they work; the trees are the same.
        "num_threads": (os.cpu_count() or 1) if x.size >= THREADED_SIZE_MIN else 1,
        "verbosity": -1,
    } | (params or {})
    callbacks: list[Callable[..., Any]] = []
    if valid is not None:
        callbacks.append(lgb.early_stopping(stopping_rounds, first_metric_only=True, verbose=False))
    if progress is not None:
        callbacks.append(lambda environment: progress(environment.iteration + 1, rounds))
    try:
        data = lgb.Dataset(
            x,
            y,
            group=group_sizes,
            feature_name=list(feature_names),
            categorical_feature=list(categorical_indices),
            params=settings,
        )
        sets = [lgb.Dataset(valid[0], valid[1], group=valid[2], reference=data, params=settings)] if valid else []
        booster = lgb.train(settings, data, rounds, valid_sets=sets, callbacks=callbacks)
        if booster.best_iteration > 0:
            text = booster.model_to_string(num_iteration=booster.best_iteration)
            booster = lgb.Booster(model_str=text)
    except lgb.basic.LightGBMError as error:
        raise ConfigError(f"LightGBM refuses: {error}") from error
    return booster


def _check_arguments(objective: str, group: str | None, rounds: int, output: Path) -> None:
    if objective not in OBJECTIVES:
        raise ConfigError(_unknown_objective(objective))
    if objective == "lambdarank" and group is None:
        raise ConfigError(
            'lambdarank needs a group: the column that says what is ranked together, such as "request_id"'
        )
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; at least 1 would be right")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output {output} is a file; a directory would be right")


def _unknown_objective(objective: str) -> str:
    near = difflib.get_close_matches(objective, OBJECTIVES, 1)
    return (
        f'unknown objective "{objective}"'
        + (f' (did you mean "{near[0]}"?)' if near else "")
        + (f"; one of {', '.join(OBJECTIVES)} would be right")
    )


def _sizes(frame: Frame, name: str | None, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Lengths of the runs of equal codes."""
    starts = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]])) if len(groups) else np.zeros(0, int)
    sizes = np.diff(np.append(starts, len(groups)))
    if len(sizes) and sizes.max() > GROUP_ROWS_MAX:
        code = groups[starts[int(sizes.argmax())]]
        value = holdouts.units(frame, str(name))[1][code]
        raise SnapshotError(
            f'{frame.path}: {name} "{value}" has {sizes.max():,} rows; LightGBM ranks at most {GROUP_ROWS_MAX:,} '
            "together. Is it the column that names a request?"
        )
    return sizes


def _write(output: Path, booster: lgb.Booster, schema: FeatureSchema) -> tuple[Path, Path]:
    """Both files, each whole; the old ones stay if the new ones do not fit on the disk."""
    model_path, schema_path = output / "model.txt", output / "features.json"
    partial = output / f".model.txt.{os.getpid()}.partial"
    try:
        output.mkdir(parents=True, exist_ok=True)
        partial.write_text(booster.model_to_string(), encoding="utf-8")
        schema.save(schema_path)
        partial.replace(model_path)
    except OSError as error:
        raise SnapshotError(f"{output} cannot be written: {error}") from error
    finally:
        if output.is_dir():
            partial.unlink(missing_ok=True)
    return model_path, schema_path


def _report(
    result: TrainResult,
    frame: Frame,
    cut: holdouts.Cut,
    target: npt.NDArray[np.float64],
    rest: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    stopped_on: int,
    notes: list[str],
) -> str:
    features = result.schema.features
    kinds = [f"{feature.name} ({len(feature.categories)})" for feature in features if feature.categories is not None]
    lines = [
        f"{frame.path}: {len(frame):,} rows, {result.schema.label} {target.mean():.4g} on average",
        f"features    {len(features)}" + (f", categorical: {', '.join(kinds)}" if kinds else ""),
        f"held out    {len(test):,} rows, {_held(cut, test)}",
        f"trained on  {len(rest) - stopped_on:,} rows"
        + (f", stopped on {stopped_on:,} others" if stopped_on else "")
        + f": {result.trees} trees, {result.schema.objective}",
        f"AUC         {result.auc:.4f}"
        if result.auc == result.auc
        else "AUC         undefined: the holdout has one class",
    ]
    if result.log_loss is not None:
        constant = measure.log_loss(target[test], np.full(len(test), target[rest].mean()))
        lines.append(f"log loss    {result.log_loss:.4f} (a constant: {constant:.4f})")
    if result.rmse is not None:
        constant = measure.rmse(target[test], np.full(len(test), target[rest].mean()))
        lines.append(f"RMSE        {result.rmse:.4g} (a constant: {constant:.4g})")
    if result.ndcg is not None:
        lines.append(f"NDCG@20     {result.ndcg:.4f}")
    lines += [f"note        {note}" for note in notes]
    lines.append("importance  (share of gain)")
    width = max(len(name) for name in result.importances)
    lines += [f"  {name:<{width}}  {share:7.2%}" for name, share in result.importances.items()]
    lines.append(f"wrote       {result.model_path}, {result.schema_path}")
    return "\n".join(lines)


def _held(cut: holdouts.Cut, test: npt.NDArray[np.int64]) -> str:
    if cut.by_time:
        return f"the last by {cut.what}, from {holdouts.shown_time(float(cut.key[test].min()))}"
    return f"by {cut.what}" if cut.what == "row" else f"by {cut.what}: {len(np.unique(cut.key[test])):,} of them"
