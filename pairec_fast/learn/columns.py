"""From a table's columns to what LightGBM reads: which are features, what their categories are, what the label says."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pairec_fast.errors import SnapshotError
from pairec_fast.learn.frame import Frame, TextColumn, TextLists, is_number
from pairec_fast.manifest import Feature

REFUSED = re.compile(r'[\s",:\[\]{}=]')
CATEGORIES_MAX = 10_000
GRADE_MAX = 30  # LightGBM's label_gain has 31 entries
ROWS_MIN = 10


def label_of(frame: Frame, name: str, objective: str) -> npt.NDArray[np.float64]:
    """The label [rows] float64, checked for what `objective` can learn.

    Raises:
        SnapshotError: text, empty, not 0 or 1 (binary), not 0 to 30 (lambdarank), or the same in all rows.
    """
    values = np.asarray(frame.numbers(name), np.float64)
    if len(values) < ROWS_MIN:
        raise SnapshotError(f"{frame.path} has {len(values)} rows; at least {ROWS_MIN} would be right")
    _refuse(frame, name, values, ~np.isfinite(values), "a number in every row")
    if objective == "binary":
        wanted = '0 or 1 (objective "regression" takes any number, "lambdarank" grades)'
        _refuse(frame, name, values, (values != 0) & (values != 1), wanted)
    elif objective == "lambdarank":
        bad = (values < 0) | (values > GRADE_MAX) | (values != np.floor(values))
        _refuse(frame, name, values, bad, f"a whole number from 0 to {GRADE_MAX}")
    if np.ptp(values) == 0:
        raise SnapshotError(f"{frame.path}: {name} is {values[0]:g} in all {len(values):,} rows: nothing to learn")
    return values


def choose_columns(
    frame: Frame, label: str, excluded: Collection[str], categorical: Collection[str]
) -> tuple[list[str], list[str]]:
    """The columns that are features, in the order of the file, and notes on those that are not.

    Raises:
        SnapshotError: none is left, two would have one name in the model, or a column of numbers has text in it.
    """
    chosen, lists, empty, crowded = [], [], [], []
    for name, column in frame.columns.items():
        if name in excluded or name == label:
            continue
        if isinstance(column, TextLists) or (isinstance(column, np.ndarray) and column.ndim > 1):
            lists.append(name)
        elif isinstance(column, TextColumn):
            distinct = len(column.vocabulary)
            if name not in categorical:
                _refuse_typing_error(frame, name, column)
            if not distinct:
                empty.append(name)
            elif distinct > CATEGORIES_MAX or distinct > max(20, len(frame) // 2):
                crowded.append(f"{name} ({distinct:,})")
            else:
                chosen.append(name)
        elif column.dtype.kind == "f" and np.isnan(column).all():
            empty.append(name)
        else:
            chosen.append(name)
    found = [name for name in frame.names if name in excluded and name != "position"]
    notes = [f"not features: {', '.join(found)}"] if found else []
    if "position" in excluded and "position" in frame:
        notes.append("not a feature, known only after ranking: position")
    for names, why in ((lists, "lists"), (empty, "empty"), (crowded, "too many different texts")):
        if names:
            notes.append(f"not features, {why}: {', '.join(names)}")
    if not chosen:
        raise SnapshotError(f"{frame.path} has no feature columns; {'; '.join(notes)}. Numbers or text would be right")
    called: dict[str, str] = {}
    for name in chosen:
        other = called.setdefault(REFUSED.sub("_", name), name)
        if other != name:
            raise SnapshotError(
                f'{frame.path}: columns "{other}" and "{name}" are both "{REFUSED.sub("_", name)}" to LightGBM; '
                "rename or drop one"
            )
    return chosen, notes


def matrix(
    frame: Frame, columns: Sequence[str], rows: npt.NDArray[np.int64]
) -> tuple[list[Feature], npt.NDArray[np.float32]]:
    """The features and their values [all rows, width] float32; null, and a text not in `rows`, is NaN.

    Categories are those of `rows`, the ones trained on, sorted: in the holdout a new one is NaN as it will be when
    served.
    """
    x = np.empty((len(frame), len(columns)), np.float32)
    features = []
    for position, name in enumerate(columns):
        column = frame.columns[name]
        categories = None
        if isinstance(column, TextColumn):
            known = np.unique(column.codes[rows])
            known = np.array(sorted(known[known >= 0].tolist(), key=column.vocabulary.__getitem__), np.int64)
            categories = [column.vocabulary[code] for code in known]
            value = np.full(len(column.vocabulary) + 1, np.nan, np.float32)  # code -1 is the last one: null
            value[known] = np.arange(len(known))
            x[:, position] = value[column.codes]
        else:
            x[:, position] = frame.numbers(name)
        features.append(Feature(REFUSED.sub("_", name), name, categories))
    return features, x


def _refuse(frame: Frame, name: str, values: npt.NDArray[Any], bad: npt.NDArray[np.bool_], wanted: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        row = int(rows[0])
        found = "empty" if np.isnan(values[row]) else f"{values[row]:g}"
        others = f" (and {len(rows) - 1:,} rows more)" if len(rows) > 1 else ""
        raise SnapshotError(f"{frame.path}: {frame.place(row)}: {name} is {found}{others}; {wanted} would be right")


def _refuse_typing_error(frame: Frame, name: str, column: TextColumn) -> None:
    """A slip in one line makes a column of numbers one of text: refuse rather than learn a price as a category."""
    words = [word for word in column.vocabulary if not is_number(word)]
    numbers = len(column.vocabulary) - len(words)
    if not words or numbers < 20 or len(words) * 10 > numbers:
        return
    row = int(np.flatnonzero(column.codes == column.vocabulary.index(words[0]))[0])
    raise SnapshotError(
        f"{frame.path}: {frame.place(row)}: {name} is {column.value(row)!r}, where nearly all others are numbers; "
        f'a number would be right, or "{name}" among the categorical or dropped columns'
    )
