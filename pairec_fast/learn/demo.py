"""The demo: a world, the files that describe it, and what to try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pairec_fast.errors import PairecError
from pairec_fast.learn.movielens import movielens_100k
from pairec_fast.learn.world import generate

FORMAT = 1  # of what a demo folder holds; another one is made anew


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
        (world / "world.toml").write_text(WORLD if self._made.data == "world" else FILMS)
        build(world / "world.toml", self.directory / "snapshots", say=say, progress=progress)
        self.config.write_bytes(msgspec.json.format(msgspec.json.encode(self._engine()), indent=2) + b"\n")
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

    def _engine(self) -> dict[str, Any]:
        films = self._made.data != "world"
        group = "age_band" if films else "gender"
        recalls = ["vectors", "similar", "hot", "group_hot"]
        return {
            "ListenConf": {"HttpAddr": "127.0.0.1", "HttpPort": self.port},
            "SnapshotConf": {"Directory": "snapshots"},
            "SceneConfs": {
                "home_feed": {
                    "default": {"RecallNames": recalls, "AutoInvokeCallBack": True, "AutoInvokeCallBackRate": 10},
                    "default_category": {"RecallNames": recalls},
                }
            },
            "RecallConfs": [
                {"Name": "vectors", "RecallType": "HnswRecall", "RecallCount": 500, "HnswConf": {"Index": "als"}},
                {
                    "Name": "similar",
                    "RecallType": "UserCollaborativeFilterRecall",
                    "RecallCount": 200,
                    "UserCollaborativeDaoConf": {
                        "AdapterType": "local",
                        "User2ItemTable": "history",
                        "Item2ItemTable": "i2i",
                    },
                },
                {
                    "Name": "hot",
                    "RecallType": "UserGlobalHotRecall",
                    "RecallCount": 500 if films else 200,
                    "DaoConf": {"AdapterType": "local", "TableName": "hot"},
                },
                {
                    "Name": "group_hot",
                    "RecallType": "UserGroupHotRecall",
                    "RecallCount": 200,
                    "Triggers": [{"TriggerKey": group}],
                    "DaoConf": {"AdapterType": "local", "TableName": "hot_by_group"},
                },
            ],
            "FilterConfs": [
                {
                    "Name": "shown",
                    "FilterType": "User2ItemExposureFilter",
                    "DaoConf": {"AdapterType": "local", "TableName": "history" if films else ""},
                },
                *(
                    []
                    if films
                    else [
                        {
                            "Name": "in_stock",
                            "FilterType": "ItemStateFilter",
                            "ItemStateDaoConf": {"AdapterType": "local", "TableName": "items"},
                            "FilterParams": [{"Name": "in_stock", "Operator": "equal", "Type": "int", "Value": 1}],
                        }
                    ]
                ),
            ],
            "FilterNames": {"default": ["UniqueFilter", "shown", *([] if films else ["in_stock"])]},
            "AlgoConfs": [{"Name": "ranker", "Type": "LIGHTGBM", "LightGBMConf": {"Model": "ranker"}}],
            "RankConf": {"home_feed": {"RankAlgoList": ["ranker"], "RankScore": "${ranker}"}},
            "SortConfs": [
                {
                    "Name": "spread",
                    "SortType": "DiversityRuleSort",
                    "DiversityRules": [{"Dimensions": ["category"], "WindowSize": 5, "FrequencySize": 3}],
                }
            ]
            if not films
            else [],
            "SortNames": {"default": ["ItemRankScore", *([] if films else ["spread"])]},
            "FeatureConfs": {
                "home_feed": {"FeatureLoadConfs": [_load("item", "items", "item:id", "ItemSelectFields")]}
            },
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


def _load(side: str, table: str, key: str, select: str) -> dict[str, Any]:
    dao = {"AdapterType": "local", "FeatureStore": side, "FeatureKey": key, "TableName": table, select: "*"}
    return {"FeatureDaoConf": dao}


WORLD = """\
# The demo shop. `pairec-fast build world.toml -o snapshots` makes a snapshot of it.
seed = 1

[items]
file = "items.parquet"
id = "item_id"

[users]
file = "users.parquet"
id = "user_id"

[interactions]
file = "impressions.parquet"
label = "clicked"
group = "request_id"

[[vectors]]
name = "als"
method = "als"
factors = 64

[[neighbours]]
name = "i2i"
method = "cosine"
count = 50

[[lists]]
name = "hot"
count = 1000
half_life_days = 7

[[lists]]
name = "hot_by_group"
by = "gender"
half_life_days = 7

[[aggregates]]
name = "item_shown_3d"
function = "count"
by = ["item"]
window_days = 3

[[aggregates]]
name = "item_ctr"
function = "mean"
of = "clicked"
by = ["item"]

[[aggregates]]
name = "item_ctr_3d"
function = "mean"
of = "clicked"
by = ["item"]
window_days = 3

[[aggregates]]
name = "item_clicks_recent"
function = "count"
positives = true
by = ["item"]
half_life_days = 3

[[aggregates]]
name = "item_last_click_days"
function = "recency"
positives = true
by = ["item"]

[[aggregates]]
name = "category_ctr"
function = "mean"
of = "clicked"
by = ["item.category"]

[[aggregates]]
name = "user_ctr"
function = "mean"
of = "clicked"
by = ["user"]

[[aggregates]]
name = "user_clicks"
function = "count"
positives = true
by = ["user"]

[[aggregates]]
name = "user_category_ctr"
function = "mean"
of = "clicked"
by = ["user", "item.category"]

[[aggregates]]
name = "user_category_clicks"
function = "count"
positives = true
by = ["user", "item.category"]

[[aggregates]]
name = "gender_category_ctr"
function = "mean"
of = "clicked"
by = ["user.gender", "item.category"]

[[models]]
name = "ranker"
objective = "binary"
features = [
  { name = "price", source = "item:price" },
  { name = "category", source = "item:category" },
  { name = "age_days", source = "item:age_days" },
  { name = "user_age", source = "user:age" },
  { name = "gender", source = "user:gender" },
  { name = "hour", source = "context:hour" },
  { name = "device", source = "context:device" },
  { name = "item_shown_3d", source = "aggregate:item_shown_3d" },
  { name = "item_ctr", source = "aggregate:item_ctr" },
  { name = "item_ctr_3d", source = "aggregate:item_ctr_3d" },
  { name = "item_clicks_recent", source = "aggregate:item_clicks_recent" },
  { name = "item_last_click_days", source = "aggregate:item_last_click_days" },
  { name = "category_ctr", source = "aggregate:category_ctr" },
  { name = "user_ctr", source = "aggregate:user_ctr" },
  { name = "user_clicks", source = "aggregate:user_clicks" },
  { name = "user_category_ctr", source = "aggregate:user_category_ctr" },
  { name = "user_category_clicks", source = "aggregate:user_category_clicks" },
  { name = "gender_category_ctr", source = "aggregate:gender_category_ctr" },
  { name = "als", source = "dot:als" },
  { name = "i2i", source = "similarity:i2i" },
]
"""
FILMS = ""
