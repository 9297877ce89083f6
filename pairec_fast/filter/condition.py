"""A filter for some users, another for others."""

from __future__ import annotations

from typing import Any

import msgspec

from pairec_fast.binding import Binding, Fetching, Loading, Stage
from pairec_fast.core import Arena
from pairec_fast.expression import Condition, check, matches
from pairec_fast.query import Query


class Case(msgspec.Struct, frozen=True, rename="pascal"):
    """The filter `filter_name` for users who meet all `conditions`; without conditions it is never chosen."""

    conditions: list[Condition] = []
    filter_name: str = ""


class Cases(msgspec.Struct, frozen=True, rename="pascal"):
    filter_confs: list[Case] = []
    default_filter_name: str = ""


class ConditionFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Runs the filter of the first case whose conditions the user meets, else the default one, else none.

    *Source*: PAI-Rec, `ConditionFilter`.
    """

    name: str
    condition_filter_confs: Cases = Cases()

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a filter that is not defined, or a condition that cannot be evaluated."""
        conf = self.condition_filter_confs
        where = f"FilterConfs.{self.name}.ConditionFilterConfs.FilterConfs"
        cases = []
        for place, case in enumerate(conf.filter_confs):
            check(case.conditions, f"{where}[{place}].Conditions")
            if case.conditions:
                cases.append((case.conditions, at.filter(case.filter_name)))
        default = at.filter(conf.default_filter_name) if conf.default_filter_name else None
        return Chooser(self.name, cases, default)

    @property
    def leads_to(self) -> list[str]:
        """Names of the filters that it may run."""
        conf = self.condition_filter_confs
        names = [case.filter_name for case in conf.filter_confs if case.conditions]
        return names + ([conf.default_filter_name] if conf.default_filter_name else [])


class Chooser:
    """Which filter a query gets. It fetches and loads if one of them does."""

    def __init__(self, name: str, cases: list[tuple[list[Condition], Stage]], default: Stage | None) -> None:
        self.name = name
        self._cases, self._default = cases, default
        stages = [stage for _, stage in cases] + ([default] if default is not None else [])
        waits: list[Any] = [stage for stage in stages if isinstance(stage, Fetching | Loading)]
        self.timeout = max((stage.timeout for stage in waits), default=0.0)
        if any(isinstance(stage, Fetching) for stage in waits):
            self.fetch = self._fetch
        if any(isinstance(stage, Loading) for stage in waits):
            self.load = self._load

    def __call__(self, query: Query, arena: Arena) -> None:
        stage = self._chosen(query)
        if stage is not None:
            stage(query, arena)

    async def _fetch(self, query: Query) -> None:
        stage = self._chosen(query)
        if isinstance(stage, Fetching):
            await stage.fetch(query)

    async def _load(self, query: Query, arena: Arena) -> None:
        stage = self._chosen(query)
        if isinstance(stage, Loading):
            await stage.load(query, arena)

    def _chosen(self, query: Query) -> Stage | None:
        for conditions, stage in self._cases:
            if matches(conditions, query.user_features, {}):
                return stage
        return self._default
