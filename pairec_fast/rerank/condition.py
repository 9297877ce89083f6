"""Another sort for other users."""

from __future__ import annotations

from typing import Any

import msgspec

from pairec_fast.binding import Binding, Loading, Stage
from pairec_fast.core import Arena
from pairec_fast.expression import Condition, check, matches
from pairec_fast.query import Query


class ConditionSortItem(msgspec.Struct, frozen=True, rename="pascal"):
    """Whose users run which sort."""

    conditions: list[Condition] = []
    sort_name: str = ""


class ConditionSortConfs(msgspec.Struct, frozen=True, rename="pascal"):
    """The first entry of `sort_confs` that holds, else the default."""

    sort_confs: list[ConditionSortItem] = []
    default_sort_name: str = ""


class ConditionSort(msgspec.Struct, frozen=True, rename="pascal"):
    """Runs the sort of the first conditions that hold on the user; an entry without conditions never does. *Source*:
    PAI-Rec, `ConditionSort` (PAIREC 7)."""

    name: str
    condition_sort_confs: ConditionSortConfs = ConditionSortConfs()

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a sort that is not configured, or a condition that cannot be evaluated."""
        where, confs = f"SortConfs.{self.name}.ConditionSortConfs", self.condition_sort_confs
        choices = []
        for place, one in enumerate(confs.sort_confs):
            check(one.conditions, f"{where}.SortConfs[{place}].Conditions")
            if one.conditions:
                choices.append((one.conditions, at.sort(one.sort_name)))
        default = at.sort(confs.default_sort_name) if confs.default_sort_name else None
        stages = [stage for _, stage in choices] + ([] if default is None else [default])
        chosen = Chosen(choices, default)
        timeouts = [loading.timeout for loading in map(_loading, stages) if loading is not None]
        return ChosenLoading(self.name, max(timeouts), chosen) if timeouts else chosen


class Chosen:
    """A sort that asks the user's features which one it is."""

    def __init__(self, choices: list[tuple[list[Condition], Stage]], default: Stage | None) -> None:
        self._choices, self._default = choices, default

    def stage(self, query: Query) -> Stage | None:
        for conditions, stage in self._choices:
            if matches(conditions, query.user_features, {}):
                return stage
        return self._default

    def __call__(self, query: Query, arena: Arena) -> None:
        stage = self.stage(query)
        if stage is not None:
            stage(query, arena)


class ChosenLoading:
    """The same, where one of them needs the network."""

    def __init__(self, name: str, timeout: float, chosen: Chosen) -> None:
        self.name, self.timeout, self._chosen = name, timeout, chosen

    async def load(self, query: Query, arena: Arena) -> None:
        loading = _loading(self._chosen.stage(query))
        if loading is not None:
            await loading.load(query, arena)

    def __call__(self, query: Query, arena: Arena) -> None:
        self._chosen(query, arena)


def _loading(stage: Any) -> Loading | None:
    return stage if isinstance(stage, Loading) else None
