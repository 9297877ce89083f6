"""The demo: a world, the files that describe it, and what to try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pairec_fast.errors import PairecError
from pairec_fast.learn.movielens import movielens_100k
from pairec_fast.learn.world import generate

FORMAT = 3  # of what a demo folder holds; another one is made anew


class Made(msgspec.Struct, frozen=True):
    """demo.json: what the folder was made from."""

    format: int
    data: str
    items: int
    users: int
    seed: int


class Demo:
    """One demo folder.

    world/        the data and world.toml     engine.json   the configuration that is served
    snapshots/    what was built from it      log/  ring/   the callbacks
    """

    def __init__(self, data: str, directory: Path, items: int, users: int, seed: int, port: int) -> None:
        self.directory, self.port = directory.absolute(), port
        sizes = (items, users, seed) if data == "world" else (0, 0, 0)
        self._made = Made(FORMAT, data, *sizes)
        self.config = self.directory / "engine.json"

    def ready(self) -> bool:
        """Whether the folder holds this very demo."""
        try:
            made = msgspec.json.decode((self.directory / "demo.json").read_bytes(), type=Made)
        except (OSError, msgspec.DecodeError):
            return False
        return made == self._made and self.config.exists()

    def make(
        self, build: Callable[..., Path], say: Callable[[str], None], progress: Callable[[str, int, int], None]
    ) -> None:
        """Generate or fetch the data, write world.toml, build the snapshot, write engine.json; last, demo.json.

        Raises:
            PairecError: the folder holds something else, or a step failed; run it again, it starts anew.
        """
        if self.directory.exists() and any(self.directory.iterdir()) and not (self.directory / "world").exists():
            raise PairecError(f"{self.directory} is not empty and holds no demo; name another folder with --dir")
        (self.directory / "demo.json").unlink(missing_ok=True)
        world = self.directory / "world"
        world.mkdir(parents=True, exist_ok=True)
        if self._made.data == "world":
            generate(
                world, items=self._made.items, users=self._made.users, seed=self._made.seed,
                progress=lambda done, total: progress("world", done, total),
            )  # fmt: skip
        else:
            movielens_100k(world)
        (world / "world.toml").write_text(world_text(self._made.data))
        build(world / "world.toml", self.directory / "snapshots", say=say, progress=progress)
        self.config.write_bytes(
            msgspec.json.format(msgspec.json.encode(engine_config(self._made.data, self.port)), indent=2) + b"\n"
        )
        (self.directory / "demo.json").write_bytes(msgspec.json.encode(self._made))

    def what_to_try(self) -> str:
        """Three lines that work as pasted."""
        user, items = ("u00042", ("i000012", "i000345")) if self._made.data == "world" else ("42", ("50", "181"))
        url = f"http://127.0.0.1:{self.port}/api"
        history = f'["{items[0]}","{items[1]}"]'
        return "\n".join(
            (
                "",
                f"Serving on http://127.0.0.1:{self.port}. Try:",
                "",
                f"""curl -s {url}/rec/feed -d '{{"uid":"{user}","scene_id":"home_feed","size":20}}'""",
                f"""curl -s {url}/rec/feed -d '{{"uid":"nobody","scene_id":"home_feed","size":20,"""
                f""""features":{{"history":{history}}}}}'""",
                f"""curl -s {url}/callback -d '{{"uid":"{user}","scene_id":"home_feed","request_id":"r1","""
                f""""item_list":[{{"item_id":"{items[0]}"}}]}}'""",
                "",
                f"and then: pairec-fast log dump {self.directory / 'log'}        Ctrl-C stops.",
            )
        )


def engine_config(data: str, port: int) -> dict[str, Any]:
    """The configuration of a demo, "world" or "ml-100k", over a folder `snapshots` beside it."""
    films = data != "world"
    recalls = _film_recalls() if films else _shop_recalls()
    names = [recall["Name"] for recall in recalls]
    filters: list[dict[str, Any]] = [
        {
            "Name": "shown",
            "FilterType": "User2ItemExposureFilter",
            "DaoConf": {"AdapterType": "local", "TableName": "history" if films else ""},
        }
    ]
    sorts: list[dict[str, Any]] = []
    if not films:
        filters.append(
            {
                "Name": "in_stock",
                "FilterType": "ItemStateFilter",
                "ItemStateDaoConf": {"AdapterType": "local", "TableName": "items"},
                "FilterParams": [{"Name": "in_stock", "Operator": "equal", "Type": "int", "Value": 1}],
            }
        )
        sorts.append(
            {
                "Name": "spread",
                "SortType": "DiversityRuleSort",
                "DiversityRules": [{"Dimensions": ["category"], "WindowSize": 5, "FrequencySize": 3}],
            }
        )
    return {
        "ListenConf": {"HttpAddr": "127.0.0.1", "HttpPort": port},
        "SnapshotConf": {"Directory": "snapshots"},
        "SceneConfs": {
            "home_feed": {
                "default": {"RecallNames": names, "AutoInvokeCallBack": True, "AutoInvokeCallBackRate": 10},
                "default_category": {"RecallNames": names},
            }
        },
        "RecallConfs": recalls,
        "FilterConfs": filters,
        "FilterNames": {"default": ["UniqueFilter", *(filter_["Name"] for filter_ in filters)]},
        "AlgoConfs": [{"Name": "ranker", "Type": "LIGHTGBM", "LightGBMConf": {"Model": "ranker"}}],
        "RankConf": {"home_feed": {"RankAlgoList": ["ranker"], "RankScore": "${ranker}"}},
        "SortConfs": sorts,
        "SortNames": {"default": ["ItemRankScore", *(sort["Name"] for sort in sorts)]},
        "FeatureConfs": {"home_feed": {"FeatureLoadConfs": [_load("item", "items", "item:id", "ItemSelectFields")]}},
        "UserFeatureConfs": {
            "home_feed": {"FeatureLoadConfs": [_load("user", "users", "user:uid", "UserSelectFields")]}
        },
        "CallBackConfs": {
            "home_feed": {"DataSource": {"Name": "log", "Type": "disk"}, "ItemSize": 20, "UseUserFeatures": True}
        },
        "DiskConfs": {"log": {"Directory": "log"}},
        "LogRingConf": {"Directory": "ring"},
        "PrometheusConfig": {"Enable": True},
    }


def _shop_recalls() -> list[dict[str, Any]]:
    return [
        {"Name": "vectors", "RecallType": "HnswRecall", "RecallCount": 500, "HnswConf": {"Index": "als"}},
        _similar("i2i", 200),
        _hot("hot", 200),
        {
            "Name": "group_hot",
            "RecallType": "UserGroupHotRecall",
            "RecallCount": 200,
            "Triggers": [{"TriggerKey": "gender"}],
            "DaoConf": {"AdapterType": "local", "TableName": "hot_by_group"},
        },
    ]


def _film_recalls() -> list[dict[str, Any]]:
    """What the model was trained on: `candidates` in films.toml."""
    return [
        {"Name": "vectors", "RecallType": "HnswRecall", "RecallCount": 400, "HnswConf": {"Index": "als"}},
        _similar("seq_b", 500) | {"TriggerCount": 10},
        _hot("hot", 500),
        _hot("hot_recent", 500),
    ]


def _similar(table: str, count: int) -> dict[str, Any]:
    dao = {"AdapterType": "local", "User2ItemTable": "history", "Item2ItemTable": table}
    return {
        "Name": "similar",
        "RecallType": "UserCollaborativeFilterRecall",
        "RecallCount": count,
        "UserCollaborativeDaoConf": dao,
    }


def _hot(table: str, count: int) -> dict[str, Any]:
    dao = {"AdapterType": "local", "TableName": table}
    return {"Name": table, "RecallType": "UserGlobalHotRecall", "RecallCount": count, "DaoConf": dao}


def world_text(data: str) -> str:
    """The world file of a demo: "world", the demo shop, or "ml-100k"."""
    name = "world.toml" if data == "world" else "films.toml"
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _load(side: str, table: str, key: str, select: str) -> dict[str, Any]:
    dao = {"AdapterType": "local", "FeatureStore": side, "FeatureKey": key, "TableName": table, select: "*"}
    return {"FeatureDaoConf": dao}
