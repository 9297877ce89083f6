"""The suite `config`: what of the free section `UserDefineConfs` a configuration hands out."""

from __future__ import annotations

from typing import Any

from pairec_fast.config import Config
from pairec_fast.scene import KINDS


def run_config(case_input: dict[str, Any]) -> Any:
    """The value of `UserDefineConfs` under the case's `key`, or the whole section."""
    config = Config.parse({name: part for name, part in case_input.items() if name != "key"}, KINDS)
    return config.user_defined(case_input["key"]) if "key" in case_input else config.user_defined()
