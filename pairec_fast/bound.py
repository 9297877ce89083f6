"""A configuration on a snapshot, bound: what a request is answered by, from beginning to end."""

from __future__ import annotations

from typing import NamedTuple

from pairec_fast.config import Config
from pairec_fast.inquiry import Inquiry
from pairec_fast.items.live import Live
from pairec_fast.scene import Scene
from pairec_fast.snapshot import Column, Snapshot


class Bound(NamedTuple):
    """A configuration on a snapshot: replaced as one, so that whoever reads it once reads parts that fit.

    `time` is when it was made current, unix seconds.
    """

    config: Config
    time: float
    snapshot: Snapshot
    live: Live
    scenes: dict[tuple[str, str], Scene]
    callback_columns: dict[str, tuple[dict[str, Column], ...]]  # of users and of items, by scene
    inquiry: Inquiry
    item_types: dict[str, str]  # by recall

    def scene(self, scene_id: str, category: str) -> Scene | None:
        """None: an unknown scene, or an unknown category of a scene without a `default_category`."""
        return self.scenes.get((scene_id, category)) or self.scenes.get((scene_id, "default_category"))


def item_types_of(config: Config) -> dict[str, str]:
    """The `ItemType` of each recall, which `/api/recommend` tells."""
    entries = [{key.lower(): value for key, value in entry.items()} for entry in config.raw.get("RecallConfs") or ()]
    return {entry["name"]: entry["itemtype"] for entry in entries if entry.get("itemtype")}
