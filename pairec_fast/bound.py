"""A configuration on a snapshot, bound: all that a request is answered by, from beginning to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pairec_fast.callback_items import CallbackFeatures
from pairec_fast.config import Config
from pairec_fast.experiment import NOTHING, Experiments, Match
from pairec_fast.inquiry import Inquiry
from pairec_fast.items.live import Live
from pairec_fast.scene import Scene
from pairec_fast.snapshot import Snapshot
from pairec_fast.variants import Variants


class Bound(NamedTuple):
    """Replaced as one, so that whoever reads it once reads parts that fit.

    `time` is when it was made current, unix seconds.
    """

    config: Config
    time: float
    snapshot: Snapshot
    live: Live
    scenes: dict[tuple[str, str], Scene]
    variants: Variants
    experiments: Experiments | None
    callback_features: dict[str, CallbackFeatures]  # by scene
    inquiry: Inquiry

    def match(self, scene_id: str, uid: str, features: Mapping[str, Any]) -> Match:
        """The experiments that a request falls into. `features` are those it has, for filters of rooms and groups."""
        return NOTHING if self.experiments is None else self.experiments.match(scene_id, uid, features)
