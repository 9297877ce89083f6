"""An engine whose scenes are single recalls, for tests of what each brings."""

from __future__ import annotations

import json
from typing import Any

from pairec_fast import Engine


class Lives:
    """`recalls` by name; the scene of the same name has that one alone, and neither filters, models nor sorts."""

    def __init__(self, shop: Any, folder: Any, recalls: list[dict[str, Any]], **more: Any) -> None:
        given = json.loads((shop / "engine.json").read_text())
        conf: dict[str, Any] = {
            "SnapshotConf": {"Directory": str(shop / "snapshots")},
            "RecallConfs": recalls,
            "SceneConfs": {one["Name"]: {"default": {"RecallNames": [one["Name"]]}} for one in recalls},
            "SortNames": {one["Name"]: [] for one in recalls},
            "FilterNames": {one["Name"]: [] for one in recalls},
            "UserFeatureConfs": {one["Name"]: given["UserFeatureConfs"]["home_feed"] for one in recalls},
        }
        self.engine = Engine.from_config(conf | more)

    def ask(self, scene: str, uid: str = "u00007", size: int = 50, **more: Any) -> Any:
        return self.engine.recommend({"uid": uid, "scene_id": scene, "size": size, **more})

    def items(self, scene: str, **more: Any) -> list[tuple[str, float, str]]:
        """Id, score and recall of each item of an answer."""
        reply = self.ask(scene, **more)
        return [(item.item_id, item.score, item.retrieve_id) for item in reply.items]

    def __enter__(self) -> Lives:
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.close()
