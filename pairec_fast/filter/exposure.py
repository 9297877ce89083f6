"""Not again what the user has been shown."""

from __future__ import annotations

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, drop_exposed
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query


class ExposureDao(msgspec.Struct, frozen=True, rename="pascal"):
    """`adapter_type` "local". `table_name` "": only the request's own history; "history": the snapshot's as well."""

    adapter_type: str = "local"
    table_name: str = ""


class User2ItemExposureFilter(msgspec.Struct, frozen=True, rename="pascal"):
    """Drops the items of the request's `history` feature. *Source*: PAI-Rec, `User2ItemExposureFilter`."""

    name: str
    dao_conf: ExposureDao = ExposureDao()

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: a table or adapter that does not exist here."""
        where, dao, snapshot = f"FilterConfs.{self.name}.DaoConf", self.dao_conf, at.snapshot
        if dao.adapter_type != "local":
            raise ConfigError(
                f'{where}.AdapterType: "{dao.adapter_type}" is not available in this version; use "local"'
            )
        if dao.table_name not in ("", "history"):
            raise ConfigError(f'{where}.TableName: "{dao.table_name}"; a snapshot has "history"')

        def drop_shown(query: Query, arena: Arena) -> None:
            drop_exposed(arena, query.shown)

        def drop_history(query: Query, arena: Arena) -> None:
            drop_exposed(arena, query.shown)
            if query.user >= 0:
                drop_exposed(arena, snapshot.history.of(query.user))

        return drop_history if dao.table_name else drop_shown
