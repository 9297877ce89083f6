"""Only what may be shown now: in stock, published, allowed here."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, keep_allowed
from pairec_fast.errors import ConfigError
from pairec_fast.expression import Column, Condition, depends_on_user, mask
from pairec_fast.query import Query


class ItemStateDao(msgspec.Struct, frozen=True, rename="pascal"):
    """`adapter_type` "local", `table_name` "items": the columns of the snapshot's item table."""

    adapter_type: str
    table_name: str = "items"


class ItemStateFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Keeps the items whose columns meet all `FilterParams`. *Source*: PAI-Rec, `ItemStateFilter`.

    Conditions on the item alone are evaluated once, at bind; a request then reads one byte a candidate.
    """

    name: str
    item_state_dao_conf: ItemStateDao
    filter_params: list[Condition] = []

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: another adapter or table, or a condition that cannot be evaluated."""
        where, dao, snapshot = f"FilterConfs.{self.name}.ItemStateDaoConf", self.item_state_dao_conf, at.snapshot
        if dao.adapter_type != "local" or dao.table_name != "items":
            raise ConfigError(f'{where}: only AdapterType "local" with TableName "items" is available in this version')
        if depends_on_user(self.filter_params):
            raise ConfigError(
                f"FilterConfs.{self.name}.FilterParams: conditions on the user are not available here yet"
            )
        usable = {name: one for name, one in snapshot.items.columns.items() if one.kind in ("number", "text")}
        for name in _names(self.filter_params):
            if name not in usable:
                raise ConfigError(
                    f'FilterConfs.{self.name}.FilterParams: the item table has no column "{name}"; '
                    f"it has {', '.join(sorted(usable)) or 'none'}"
                )
        allowed = np.zeros(snapshot.overlay.capacity, np.uint8)

        def decide(rows: NDArray[np.int32] | slice, count: int) -> None:
            columns: dict[str, Column] = {
                name: one.values[rows] if one.texts is None else (one.values[rows], one.texts)  # type: ignore[misc]
                for name, one in usable.items()
            }
            allowed[rows] = mask(self.filter_params, columns, count)

        decide(slice(len(snapshot.items)), len(snapshot.items))
        snapshot.follow(lambda rows: decide(rows, len(rows)))

        def keep(query: Query, arena: Arena) -> None:
            keep_allowed(arena, allowed)

        return keep


def _names(conditions: list[Condition] | tuple[Condition, ...]) -> list[str]:
    names = []
    for condition in conditions:
        names += [condition.name] if condition.name else []
        names += _names(condition.configs)
    return names
