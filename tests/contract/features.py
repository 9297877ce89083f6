"""Transforms over given users and items: suite feature_op."""

from __future__ import annotations

from typing import Any

import numpy as np

from pairec_fast.config.convert import Converter
from pairec_fast.config.positions import Document
from pairec_fast.config.report import Report
from pairec_fast.core.columns import MISSING
from pairec_fast.transform import FeatureConfig, Transforms
from tests.contract.filters import Case


def run_feature_op(given: dict[str, Any]) -> dict[str, Any]:
    """Properties of the user and of the items, by id, after the transforms."""
    user = given["user"] or {"id": "", "properties": {}}
    items = [[item["id"], 0.0, item["retrieve_id"], item["properties"]] for item in given["items"] or []]
    case = Case(items, {"uid": user["id"], **user["properties"]})
    report = Report(Document("case"))
    confs = Converter(report).take(given["features"], tuple[FeatureConfig, ...], ("Features",))
    report.raise_errors()
    Transforms(confs, "Features")(case.query, case.arena)
    properties, count = case.query.properties(case.arena), case.arena.count
    slots = np.arange(count, dtype=np.int32)
    out: dict[str, Any] = {id: {} for id in case.query.ids(case.arena.row[:count])}
    for name in case.query.given:
        for known, value in zip(out.values(), properties.of_each(name, slots), strict=True):
            if value is not MISSING:
                known[name] = value
    return {"user": case.query.user_features, "items": out}
