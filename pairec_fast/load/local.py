"""Loads from the snapshot's own tables: columns that are there already."""

from __future__ import annotations

from pairec_fast.config import FeatureDaoConf
from pairec_fast.errors import ConfigError
from pairec_fast.snapshot import Column, Snapshot


def local_columns(dao: FeatureDaoConf, snapshot: Snapshot, where: str) -> dict[str, Column]:
    """What a load with the adapter `local` selects, of the items or of the users: name -> column.

    Raises:
        ConfigError: another table, a column the table lacks, or another key than the row's own.
    """
    on_item = dao.feature_store == "item"
    table, own = (snapshot.items, "item:id") if on_item else (snapshot.users, "user:uid")
    if dao.table_name not in ("", table.name):
        raise ConfigError(f'{where}.FeatureDaoConf.TableName: "{dao.table_name}"; for this side it is "{table.name}"')
    if dao.feature_key not in ("", own):
        raise ConfigError(f'{where}.FeatureDaoConf.FeatureKey: "{dao.feature_key}"; of a local table it is "{own}"')
    fields = dao.item_select_fields if on_item else dao.user_select_fields
    names = list(table.columns) if fields.strip() in ("", "*") else [part.strip() for part in fields.split(",")]
    for name in names:
        if name not in table.columns:
            raise ConfigError(
                f'{where}.FeatureDaoConf: table "{table.name}" has no column "{name}"; '
                f"it has {', '.join(sorted(table.columns))}"
            )
    return {name: table.columns[name] for name in names}
