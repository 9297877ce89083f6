"""Small plug-ins and ways to load a configuration, shared by the configuration's tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any, Literal

import msgspec
import pytest

from pairec_fast.config import Config
from pairec_fast.errors import ConfigError


class MockRecall(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    recall_count: int = 0


class Trigger(msgspec.Struct, frozen=True, rename="pascal"):
    trigger_key: str
    boundaries: tuple[int, ...] = ()


class HotRecall(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    triggers: list[Trigger] = []
    share: float = 1.0

    def __post_init__(self):
        if self.share > 1:
            raise ValueError(f"Share is {self.share}; at most 1")


class Condition(msgspec.Struct, frozen=True, rename="pascal"):
    operator: str
    value: Any = None
    configs: tuple[Condition, ...] = ()


class ConditionRecall(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    when: Condition | None = None
    mode: Literal["sum", "snake"] = "sum"
    limit: int | str = 0
    weights: dict[str, Annotated[float, msgspec.Meta(ge=0)]] = {}


class AdjustCountFilter(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    retain_num: int = 0
    shuffle_item: bool = False


class FieldSort(msgspec.Struct, frozen=True, rename="pascal", tag_field="SortType", tag="CustomFieldSort"):
    name: str
    sort_by_field: str = ""


KINDS = SimpleNamespace(
    recall={"MockRecall": MockRecall, "UserGroupHotRecall": HotRecall, "ConditionRecall": ConditionRecall},
    filter={"AdjustCountFilter": AdjustCountFilter},
    sort={"CustomFieldSort": FieldSort},
)

MINIMAL = {
    "ListenConf": {"HttpAddr": "", "HttpPort": 8000},
    "RecallConfs": [{"Name": "mock_recall", "RecallType": "MockRecall", "RecallCount": 200}],
    "SortNames": {"default": ["ItemRankScore"]},
    "FilterNames": {"default": ["UniqueFilter"]},
    "SceneConfs": {"home_feed": {"default": {"RecallNames": ["mock_recall"]}}},
}


def parse(**sections):
    return Config.parse(sections, KINDS)


def errors_of(**sections) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(**sections)
    return [line.removeprefix("configuration: ") for line in str(caught.value).split("\n")]


def load(folder, text, monkeypatch):
    """As a user starts it: the file beside them, named without its folder."""
    monkeypatch.chdir(folder)
    (folder / "engine.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Config.load("engine.json", KINDS)


def load_errors(folder, text, monkeypatch) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, monkeypatch)
    return str(caught.value).split("\n")
