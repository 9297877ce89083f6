"""treelite: a `treelite.Model`, for makers that have no reader here, cuML's forests for one.

treelite adds leaves in order from 0, in the type of its leaves, then divides if it averages, then adds the base score:
the base is a last tree of one leaf here. The scores are those of `treelite.gtil.predict(pred_margin=True)`, which are
not the bits of XGBoost or scikit-learn, where the base comes first: import their own models.

Source: treelite's `include/treelite/tree.h` and `enum/operator.h` for the fields, `src/gtil/predict.cc` for the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pairec_fast.errors import SnapshotError
from pairec_fast.learn.trees import Ensemble, Tree, below, grown, interleaved, last_rounding_to, leaf, link_of, names_or

LEAF, BY_CATEGORY = 0, 2  # node_type; 1 is a number
LINKS = {"sigmoid": "binary", "multiclass_ova": "binary", "softmax": "multiclass", "exponential": "poisson"}
BELOW, AT_MOST = 2, 3  # cmp


def read_treelite(model: Any) -> Ensemble:
    """The `treelite.Model`. Leaf vectors of two classes give one score, of the second; of more, one a class.

    Raises:
        SnapshotError: several targets, leaves of mixed kinds, comparisons other than < and <=, a base of averages.
    """
    where, header = "treelite.Model", model.get_header_accessor()
    field = header.get_field
    vector = int(field("leaf_vector_shape")[1])
    classes, average = int(field("num_class")[0]), bool(field("average_tree_output")[0])
    base = [float(each) for each in field("base_scores")]
    if int(field("num_target")[0]) != 1 or vector not in (1, classes) or len(base) != classes:
        raise SnapshotError(
            f"{where}: {field('num_target')[0]} targets, leaves of {vector} for {classes} classes; one target is right"
        )
    if average and any(base):
        raise SnapshotError(f"{where}: base_scores {base} of an average; 0 is right")
    names = names_or("f", [], int(field("num_feature")[0]), where)
    trees: list[Tree] = []
    for place in range(model.num_tree):
        trees += _trees(
            model.get_tree_accessor(place).get_field, vector, model.input_type, len(names), f"{where}: tree {place}"
        )
    if vector == 1:
        trees = interleaved(trees, field("class_id").tolist(), classes, where)
    elif vector == 2:
        classes, base = 1, base[1:]
    single = model.output_type == "float32"
    deviation = ""
    if any(base):
        trees += [leaf(each) for each in base]
        if single and any(float(np.float32(each)) != each for each in base):
            deviation = "the base score is rounded to float32 before it is added: scores may differ by one float32"
    return Ensemble(
        maker="treelite",
        trees=trees,
        feature_names=names,
        input_dtype=model.input_type,
        accumulation=model.output_type,
        base=[0.0] * classes,
        classes=classes,
        objective=field("postprocessor"),
        link=link_of(LINKS.get(field("postprocessor"), ""), classes) if field("sigmoid_alpha")[0] == 1 else "",
        average=average,
        deviation=deviation,
    )


def _trees(field: Any, vector: int, input_type: str, width: int, where: str) -> list[Tree]:
    """One tree, or as many of one shape as its leaves hold numbers."""
    is_leaf = field("node_type") == LEAF
    number = ~is_leaf & (field("node_type") != BY_CATEGORY)
    if not np.isin(field("cmp")[number], (BELOW, AT_MOST)).all():
        raise SnapshotError(f"{where}: a comparison other than < and <=; these are right")
    threshold, is_below = field("threshold"), field("cmp") == BELOW
    if input_type == "float32":
        limit = np.where(is_below, below(threshold), last_rounding_to(threshold))
    else:
        limit = np.where(is_below, np.nextafter(threshold, -np.inf), threshold)
    left, right = field("cleft"), field("cright")
    default_right = field("default_left") == 0
    sets = {}
    mirrored = (field("category_list_right_child") != 0) & (field("node_type") == BY_CATEGORY)
    for node in np.flatnonzero(field("node_type") == BY_CATEGORY).tolist():
        begin, end = field("category_list_begin")[node], field("category_list_end")[node]
        sets[node] = np.unique(field("category_list")[begin:end]).astype(np.int32)
    values = field("leaf_value")[:, None]
    if vector > 1:
        begin, end = field("leaf_vector_begin")[is_leaf].astype(np.int64), field("leaf_vector_end")[is_leaf]
        if (end.astype(np.int64) - begin != vector).any():
            raise SnapshotError(f"{where}: leaves of other than {vector} numbers; leaves of one kind are right")
        values = np.zeros((len(is_leaf), vector))
        values[is_leaf] = field("leaf_vector")[begin[:, None] + np.arange(vector)]
    cover = next((field(name) for name in ("sum_hess", "data_count") if len(field(name))), np.zeros(len(is_leaf)))
    return [
        grown(
            np.where(mirrored, right, left), np.where(mirrored, left, right), is_leaf, where=where, width=width,
            feature=field("split_index"), threshold=limit, nan_right=default_right != mirrored, value=values[:, each],
            cover=cover, sets=sets,
        )
        for each in (range(vector) if vector != 2 else [1])
    ]  # fmt: skip
