"""What every maker's model becomes before it is compiled: plain trees, and how their leaves are summed.

A file per maker reads what that maker writes; all end here, in `grown`, which refuses what is no tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pairec_fast.errors import SnapshotError

WIDTH_MAX = 2**23 - 1  # about that of LightGBM's text: names are made for as many as a file claims

Ints = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Splits and leaves, each numbered from 0; split 0 is the root, no split is a single leaf.

    feature     [splits] int32
    threshold   [splits] float64   a number goes left if x <= threshold
    left, right [splits] int32     a split if >= 0, else ~leaf
    nan_right   [splits] bool      where NaN goes
    sets        split -> int32     below 2**24; that split is by category: these go left, others right, NaN by nan_right
    value       [leaves] float64   as it is added, scaled by the learning rate where the maker scales it
    cover       [splits + leaves] float64   training samples or hessians that came by: splits, then leaves
    """

    feature: Ints
    threshold: Doubles
    left: Ints
    right: Ints
    nan_right: Flags
    sets: dict[int, Ints]
    value: Doubles
    cover: Doubles


@dataclass(frozen=True, slots=True, eq=False)
class Ensemble:
    """A model as read: its trees and how they are summed.

    maker         who made it, and with which version if the model says
    input_dtype   "float32" or "float64": what the maker rounds a value to before it compares
    accumulation  "float32" or "float64": what the maker rounds the sum to after each addition
    base          [classes] the sum's start; rounded to `accumulation` already
    objective     the maker's own name for it
    link          what the maker makes of the sum, in the words of LightGBM's `objective=`; "" where it stays
    average       the maker's prediction is the sum divided by the number of trees of a class
    categories    feature -> its categories in the order of the codes 0, 1, ... that X holds, where the model names them
    deviation     "" if scores are the maker's own bits, else how far and where they may differ
    """

    maker: str
    trees: list[Tree]
    feature_names: list[str]
    input_dtype: str
    accumulation: str
    base: list[float]
    classes: int = 1
    objective: str = ""
    link: str = ""
    average: bool = False
    categories: dict[str, list[str | int | float]] = field(default_factory=dict)
    deviation: str = ""


def last_rounding_to(value: npt.NDArray[np.float32]) -> Doubles:
    """The largest float64 that rounds to float32 `value` (to nearest, ties to even), or to one below it.

    A maker that rounds x to float32 and then takes `x <= value` decides as `x <= last_rounding_to(value)` does on
    unrounded x, and on float32 x too. The next float32 beyond the largest counts as 2**128: so rounding goes.
    """

    def wide(narrow: npt.NDArray[np.float32]) -> Doubles:
        return np.clip(narrow.astype(np.float64), -(2.0**128), 2.0**128)

    with np.errstate(over="ignore"):
        middle = (wide(value) + wide(np.nextafter(value, np.float32(np.inf)))) / 2
        tie_goes_down = middle.astype(np.float32) <= value
    limit = np.where(tie_goes_down, middle, np.nextafter(middle, -np.inf))
    return np.where(value == np.inf, np.inf, limit)


def below(value: npt.NDArray[np.float32]) -> Doubles:
    """As `last_rounding_to` for a maker that takes `x < value` of float32 x."""
    with np.errstate(over="ignore"):
        return last_rounding_to(np.nextafter(value, np.float32(-np.inf)))


def rounded_down(value: Doubles) -> npt.NDArray[np.float32]:
    """The largest float32 <= value."""
    with np.errstate(over="ignore"):
        near = value.astype(np.float32)
        return np.where(near > value, np.nextafter(near, np.float32(-np.inf)), near)


def link_of(kind: str, classes: int) -> str:
    """`Ensemble.link` of scores that are log-odds (binary), of a softmax (multiclass), or whatever of one class."""
    if kind == "binary":
        return "binary sigmoid:1" if classes == 1 else f"multiclassova num_class:{classes} sigmoid:1"
    if kind == "multiclass":
        return f"multiclass num_class:{classes}"
    return kind if classes == 1 else ""


def leaf(value: float) -> Tree:
    """A tree that adds `value` to every row: what a maker adds after its trees."""
    none = np.empty(0, np.int32)
    return Tree(none, np.empty(0), none, none, np.empty(0, bool), {}, np.array([value], np.float64), np.zeros(1))


def interleaved(trees: list[Tree], info: Sequence[int], classes: int, where: str) -> list[Tree]:
    """Trees so ordered that tree i is of class i % classes; `info` [trees] says of which each is.

    The order within a class stays, and so does its sum.
    """
    by_class: dict[int, list[Tree]] = {each: [] for each in range(min(classes, len(trees) + 1))}
    for tree, each in zip(trees, info, strict=False):
        by_class.setdefault(each, []).append(tree)
    if len(info) != len(trees) or not trees or len(by_class) != classes or len({*map(len, by_class.values())}) != 1:
        raise SnapshotError(
            f"{where}: {len(trees)} trees, for {len(set(info))} of {classes} classes; trees for each class, "
            "as many for one as for another, are right"
        )
    return [tree for round_ in zip(*(by_class[each] for each in range(classes)), strict=True) for tree in round_]


def names_or(default: str, names: list[str], width: int, where: str) -> list[str]:
    """`names`, or where the model has none, `default` with each column's number."""
    if not 0 < width <= WIDTH_MAX:
        raise SnapshotError(f"{where}: the model reads {width} features; 1 to {WIDTH_MAX} is right")
    if names and len(names) != width:
        raise SnapshotError(f"{where}: {len(names)} feature names, {width} features; a name each is right")
    return names or [f"{default}{column}" for column in range(width)]


def grown(
    left: npt.NDArray[Any], right: npt.NDArray[Any], is_leaf: Flags, *, where: str, width: int,
    feature: npt.NDArray[Any], threshold: npt.NDArray[Any], nan_right: npt.NDArray[Any], value: npt.NDArray[Any],
    cover: npt.NDArray[Any], sets: dict[int, Ints] | None = None,
) -> Tree:  # fmt: skip
    """The tree of node 0: all arrays are [nodes], and `sets` by node. Nodes that the root does not reach are dropped.

    Raises:
        SnapshotError: a child that is no node or has two parents, a feature that is no column of `width`, a number
            that is none. The message begins with `where`.
    """
    nodes = len(is_leaf)
    if not nodes:
        raise SnapshotError(f"{where}: a tree without nodes; a leaf at least is right")
    levels = [np.zeros(1, np.int64)]
    seen = np.zeros(nodes, bool)
    while len(levels[-1]):
        level = levels[-1]
        if seen[level].any() or len(np.unique(level)) != len(level):
            raise SnapshotError(f"{where}: a node is the child of two; every node has one parent where trees are sound")
        seen[level] = True
        splits = level[~is_leaf[level]]
        children = np.stack([left[splits], right[splits]], axis=1).astype(np.int64).ravel()
        if (wrong := children[(children < 0) | (children >= nodes)]).size:
            raise SnapshotError(f"{where}: child {wrong[0]} of a tree of {nodes} nodes; 0 to {nodes - 1} is right")
        levels.append(children)
    order = np.concatenate(levels)
    split, leaves = order[~is_leaf[order]], order[is_leaf[order]]
    number = np.zeros(nodes, np.int32)
    number[split] = np.arange(len(split))
    number[leaves] = ~np.arange(len(leaves))
    columns, sums = feature[split].astype(np.int64), value[leaves].astype(np.float64)
    if (wrong := columns[(columns < 0) | (columns >= width)]).size:
        raise SnapshotError(f"{where}: splits feature {wrong[0]} of {width}; 0 to {width - 1} is right")
    if not np.isfinite(sums).all():
        raise SnapshotError(f"{where}: a leaf is {sums[~np.isfinite(sums)][0]}; finite numbers are right")
    covers = cover[np.concatenate([split, leaves])].astype(np.float64)
    if not np.isfinite(covers).all():
        raise SnapshotError(f"{where}: a node's cover is {covers[~np.isfinite(covers)][0]}; finite numbers are right")
    by_split = {int(number[node]): chosen for node, chosen in (sets or {}).items() if number[node] >= 0 and seen[node]}
    limits = threshold[split].astype(np.float64)
    limits[list(by_split)] = 0.0
    if np.isnan(limits).any():
        raise SnapshotError(f"{where}: a threshold is NaN; numbers are right")
    return Tree(
        columns.astype(np.int32), limits, number[left[split]], number[right[split]], nan_right[split].astype(bool),
        by_split, sums, covers,
    )  # fmt: skip
