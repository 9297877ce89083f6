"""Runs PAI-Rec's cases about what answers of model servers say of items."""

from __future__ import annotations

from typing import Any

from pairec_fast.remote.answers import read
from tests.services.easyrec import array, doubles, entry, put


def run_rank_response(case_input: dict[str, Any]) -> dict[str, Any]:
    """What the response function says of each item: output -> its values, one or one per class."""
    function, ids = case_input["response_func"], case_input["item_ids"]
    torch = function.startswith("torchrec")
    body = b"".join(put(4 if torch else 7, one) for one in ids)
    body += b"".join(put(8, name) for name in case_input.get("outputs", ()))
    for one, scores in case_input.get("results", {}).items():
        body += entry(1, one, put(1, doubles(scores["scores"] if isinstance(scores, dict) else scores)))
    for name, tensor in (case_input.get("map_outputs") or case_input.get("tf_outputs") or {}).items():
        wide = "double_val" in tensor
        values = tensor["double_val" if wide else "float_val"]
        body += entry(1 if torch else 10, name, array(tensor["shape"], values, 2 if wide else 1))
    scored = read(function, body, ids)
    items: list[dict[str, Any]] = [{} for _ in ids]
    classes = {f"{name}_{label}" for name, table in scored.lists.items() for label in range(table.shape[1])}
    for name, column in scored.scores.items():
        if name in classes:
            continue
        for item, value in zip(items, column.tolist(), strict=True):
            item[name.removeprefix("_")] = [value] if "MutClassification" in function else value
    for name, table in scored.lists.items():
        for item, values in zip(items, table.tolist(), strict=True):
            item[name.removeprefix("_")] = values
    return {"items": items}
