"""Which candidates may be shown. `FilterType` in the configuration is the key here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pairec_fast.filter.condition import ConditionFilter
from pairec_fast.filter.count import AdjustCountFilter, CompletelyFairFilter
from pairec_fast.filter.custom import ItemCustomFilter, User2ItemCustomFilter
from pairec_fast.filter.dimension import DimensionFieldUniqueFilter
from pairec_fast.filter.diversity import DiversityAdjustCountFilter
from pairec_fast.filter.exposure import User2ItemExposureFilter, User2ItemExposureWithConditionFilter
from pairec_fast.filter.group_weight import GroupWeightCountFilter
from pairec_fast.filter.item_state import ItemStateFilter
from pairec_fast.filter.priority import PriorityAdjustCountFilter, PriorityAdjustCountFilterV2
from pairec_fast.filter.snake import SnakeFilter
from pairec_fast.filter.unique import UniqueFilter

KINDS = {
    kind.__name__: kind
    for kind in (
        AdjustCountFilter,
        CompletelyFairFilter,
        ConditionFilter,
        DimensionFieldUniqueFilter,
        DiversityAdjustCountFilter,
        GroupWeightCountFilter,
        ItemCustomFilter,
        ItemStateFilter,
        PriorityAdjustCountFilter,
        PriorityAdjustCountFilterV2,
        SnakeFilter,
        UniqueFilter,
        User2ItemCustomFilter,
        User2ItemExposureFilter,
        User2ItemExposureWithConditionFilter,
    )
}

__all__ = ["KINDS", "UniqueFilter", "sees_repeats"]


def sees_repeats(names: Sequence[str], known: Mapping[str, Any]) -> bool:
    """Whether recall has to keep an item once for each recall that brings it, for the chain of filters `names`.

    That is where a filter counts candidates before they are merged, or reads afterwards what was merged. Where nothing
    merges them, no answer shows an item twice.
    """
    merging = (place for place, name in enumerate(names) if getattr(known[name], "merges", False))
    first = next(merging, None)
    if first is None:
        return False
    before, after = _reached(names[:first], known), _reached(names[first:], known)
    return any(getattr(one, "counts", False) for one in before) or any(
        getattr(one, "reads_recall_scores", False) for one in after
    )


def _reached(names: Sequence[str], known: Mapping[str, Any]) -> Iterator[Any]:
    """The filters of these names and those they may lead to; names of none, which binding refuses, are passed over."""
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen and name in known:
            seen.add(name)
            yield known[name]
            waiting += getattr(known[name], "leads_to", ())
