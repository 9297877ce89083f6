"""What a recall, a filter or a sort is given when it is bound, and what it becomes.

A plug-in is a frozen msgspec Struct whose `bind(Binding)` makes a `Stage`; one that awaits makes a `Fetching` or a
`Loading`. A recall with `brings_guests` may bring items that the snapshot lacks. A filter with `counts` sees an item
once for each recall that brought it if one with `merges` comes later, and one with `reads_recall_scores` knows what was
merged; otherwise recall brings each item once, from the recall named first. A filter may have a `recorder(Binding)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Arena
from pairec_fast.errors import ConfigError
from pairec_fast.query import Query
from pairec_fast.snapshot import Snapshot

Stage = Callable[[Query, Arena], None]

Recorder = Callable[[Query, Arena, NDArray[np.int32]], Callable[[], None] | None]
"""What keeps a record of answers: given the slots that are answered, best first, it takes what it needs of them and
returns what is to be done once the answer has left. *Source*: PAI-Rec's clean hooks (PAIREC 3.1, 11)."""


@runtime_checkable
class Fetching(Protocol):
    """A stage that needs the network for what a query says: `fetch` is awaited before the walk, beside all others of
    the scene, for `timeout` seconds at most. It leaves what it got in `query.fetched[self]`.

    One that says `reads_user = False` needs nothing that is loaded of the user, and begins beside those loads.
    """

    name: str
    timeout: float

    async def fetch(self, query: Query) -> None: ...


@runtime_checkable
class Loading(Protocol):
    """A stage that needs the network for what is known of the candidates: `load` is awaited just before the stage is
    called, for `timeout` seconds at most. It leaves what it got in `query.fetched[self]`."""

    name: str
    timeout: float

    async def load(self, query: Query, arena: Arena) -> None: ...


def apart(stages: Iterable[Fetching]) -> tuple[list[Fetching], list[Fetching]]:
    """Those that may begin beside the loads of the user's features, and those that read them."""
    early, late = list[Fetching](), list[Fetching]()
    for stage in stages:
        (late if getattr(stage, "reads_user", True) else early).append(stage)
    return early, late


def _none(name: str) -> Stage:
    raise ConfigError(f'nothing is named "{name}" here')


@dataclass(frozen=True)
class Binding:
    """The surroundings of a stage.

    Attributes:
        snapshot: all that is known before a request.
        sources: names of the recalls of the scene; `source` is the place of the one that is bound.
        outputs: names of what the algorithms of the scene give, as `arena.algo_score` has them; for sorts.
        last: whether a sort is the last of its chain, which orders only what will be shown.
        scene, category: of the scene that is bound. params: those of the experiment's
            parameters that DPP and SSD read when they are bound.
        stores: live stores by name, None where there are none.
        filter, sort: another stage of the configuration by its name, bound; ConfigError for an unknown name.
        directory: where relative paths start.
    """

    snapshot: Snapshot
    sources: Sequence[str] = ()
    source: int = 0
    outputs: Sequence[str] = ()
    last: bool = True
    scene: str = ""
    category: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    stores: Any = None
    filter: Callable[[str], Stage] = _none
    sort: Callable[[str], Stage] = _none
    directory: Path = Path()
