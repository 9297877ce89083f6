"""What is popular: with everyone, and in the user's group."""

from __future__ import annotations

from typing import Any

import msgspec

from pairec_fast.binding import Binding, Stage
from pairec_fast.core import Arena, add
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.recall.kind import Dao, positive
from pairec_fast.snapshot import Ranked, Snapshot, pick


class UserGlobalHotRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """`DaoConf.TableName` names a list for all. *Source*: PAI-Rec, `UserGlobalHotRecall`."""

    name: str
    dao_conf: Dao
    recall_count: int = 200

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: the snapshot has no such list, or it is one of groups."""
        where, snapshot, source = f"RecallConfs.{self.name}", at.snapshot, at.source
        table = _list(snapshot, self.dao_conf, where)
        if table.by:
            raise ConfigError(f'{where}.DaoConf.TableName: a list by "{table.by}"; use UserGroupHotRecall')
        (rows, scores), count = table.of(0), positive(self.recall_count, where)

        def recall(query: Query, arena: Arena) -> None:
            add(arena, rows, scores, source, count)

        return recall


class Trigger(msgspec.Struct, frozen=True, rename="pascal"):
    """`trigger_key`: the user column or feature that names the group; `default_value` stands for a missing one."""

    trigger_key: str
    default_value: str = ""


class UserGroupHotRecall(msgspec.Struct, frozen=True, rename="pascal"):
    """`DaoConf.TableName` names a list by the column of the one trigger. *Source*: PAI-Rec, `UserGroupHotRecall`."""

    name: str
    dao_conf: Dao
    triggers: list[Trigger]
    recall_count: int = 200

    def bind(self, at: Binding) -> Stage:
        """Raises ConfigError: no such list, or one by another column than the trigger's."""
        where, snapshot, source = f"RecallConfs.{self.name}", at.snapshot, at.source
        table = _list(snapshot, self.dao_conf, where)
        keys = [trigger.trigger_key for trigger in self.triggers]
        if keys != [table.by]:
            raise ConfigError(f'{where}.Triggers: the list is by "{table.by}", the triggers are {keys}')
        texts = snapshot.users.columns[table.by].texts
        assert texts is not None, "build makes lists by text columns only"
        group_of, default = texts.code, self.triggers[0].default_value
        count = positive(self.recall_count, where)

        def recall(query: Query, arena: Arena) -> None:
            value: Any = query.user_value(table.by)
            group = group_of.get(value if isinstance(value, str) else default)
            if group is not None:
                rows, scores = table.of(group)
                add(arena, rows, scores, source, count)

        return recall


def _list(snapshot: Snapshot, dao: Dao, where: str) -> Ranked:
    table: Ranked = pick(snapshot.lists, dao.local(f"{where}.DaoConf").table_name, f"{where}.DaoConf.TableName")
    return table
