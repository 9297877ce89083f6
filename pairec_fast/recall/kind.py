"""The part of PAI-Rec's DaoConfig that names a table of the snapshot."""

from __future__ import annotations

import msgspec

from pairec_fast.errors import ConfigError


class Dao(msgspec.Struct, frozen=True, rename="pascal"):
    """`adapter_type` "local": the tables are those of the snapshot."""

    adapter_type: str
    table_name: str = ""
    user2_item_table: str = msgspec.field(name="User2ItemTable", default="")
    item2_item_table: str = msgspec.field(name="Item2ItemTable", default="")

    def local(self, where: str) -> Dao:
        """Itself. Raises ConfigError for another adapter."""
        if self.adapter_type != "local":
            raise ConfigError(
                f'{where}.AdapterType: "{self.adapter_type}" is not available in this version; '
                'use "local", a table of the snapshot'
            )
        return self


def positive(count: int, where: str) -> int:
    """`count`. Raises ConfigError when it is not positive."""
    if count <= 0:
        raise ConfigError(f"{where}.RecallCount must be positive, got {count}")
    return count
