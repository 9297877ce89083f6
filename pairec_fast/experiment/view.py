"""Who falls where: what `check --experiments` prints."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from pairec_fast.experiment import Experiments
from pairec_fast.experiment.tree import Group, Path, Room

_KINDS = {0: "", 1: "base", 2: "test", 3: "default"}
_HEAD = ("scene", "room", "layer", "group", "experiment", "takes", "buckets", "share")


_Place = tuple[Path | None, ...]


class Row(Struct, frozen=True, omit_defaults=True):
    """A place that requests may fall into; `share` is the part of the users tried who did.

    Without `layer` it is a room, without `experiment` a group; `takes` says whom. "the rest" are those whom none of a
    scene's rooms, a layer's groups or a group's experiments take.
    """

    scene: str
    room: int | None
    share: float
    layer: int | None = None
    layer_name: str = ""
    group: int | None = None
    experiment: int | None = None
    takes: str = ""
    buckets: str = ""


class Fall(Struct, frozen=True):
    """What one user falls into in one scene."""

    scene: str
    uid: str
    exp_id: str
    params: dict[str, Any]


def falls(experiments: Experiments, uids: Iterable[str], features: Mapping[str, Any]) -> list[Fall]:
    """Each user in each scene, with what requests of these features get."""
    return [
        Fall(scene, uid, match.exp_id, dict(match.params))
        for uid in uids
        for scene in experiments.scenes
        for match in [experiments.match(scene, uid, features)]
    ]


def rows(experiments: Experiments, users: int, features: Mapping[str, Any]) -> list[Row]:
    """Every room, group and experiment, with the share of the uids `1` to `users` that fall there.

    Digits, because rooms by uid take nothing else. The rests have rows of their own where somebody falls.
    """
    found: list[Row] = []
    for scene in experiments.scenes:
        count: Counter[_Place] = Counter()
        for number in range(1, users + 1):
            room, choices = experiments.choices(scene, str(number), features)
            count[_place(room and room.room)] += 1
            for choice in choices:
                count[_place(choice.layer, choice.group)] += 1
                if choice.group is not None:
                    count[_place(choice.layer, choice.group, choice.experiment)] += 1
        share = {place: times / users for place, times in count.items()}
        for one in experiments.plan(scene).scene.experiment_rooms:
            found += _room(scene, one, share)
        if _place(None) in share:
            found.append(Row(scene, None, share[_place(None)], takes="the rest"))
    return found


def _place(*nodes: Any) -> _Place:
    """Where these are in the document: nodes themselves may be equal in two places."""
    return tuple(None if node is None else node.path for node in nodes)


def _room(scene: str, room: Room, share: Mapping[_Place, float]) -> list[Row]:
    is_split = room.type != 1 and room.bucket_type < 3
    buckets = f"{room.exp_room_buckets} of {room.bucket_count}" if is_split else ""
    found = [Row(scene, room.exp_room_id, share.get(_place(room), 0.0), takes=_whom(room), buckets=buckets)]
    for layer in room.layers:
        add = functools.partial(Row, scene, room.exp_room_id, layer=layer.layer_id, layer_name=layer.layer_name)
        for group in layer.experiment_groups:
            of = share.get(_place(layer, group), 0.0)
            id = group.exp_group_id
            found.append(add(of, group=id, takes=_whom_of(group), buckets=group.holding_buckets))
            for one in group.experiments:
                flow = f"{_KINDS[one.type]} {one.experiment_flow} %".strip()
                of = share.get(_place(layer, group, one), 0.0)
                found.append(
                    add(of, group=id, experiment=one.experiment_id, takes=flow, buckets=one.experiment_buckets)
                )
            rest = share.get(_place(layer, group, None))
            if rest is not None and group.experiments:
                found.append(add(rest, group=id, takes="the rest"))
        rest = share.get(_place(layer, None))
        if rest is not None:
            found.append(add(rest, takes="the rest"))
    return found


def _whom(room: Room) -> str:
    if room.type == 1:
        return "base"
    kind = {1: "uid", 2: "hash of uid", 3: "custom: nobody", 4: f"filter {room.filter}"}
    return kind.get(room.bucket_type, "nobody")


def _whom_of(group: Group) -> str:
    kind = group.crowd_target_type
    if kind == "CrowdId" or (kind == "" and group.crowd_id > 0 and not group.filter):
        return f"crowd {group.crowd_id}"
    if kind == "Filter" or (kind == "" and group.filter):
        return f"filter {group.filter}"
    return kind or "All"


def table(found: Iterable[Row]) -> list[str]:
    """Lines in columns, a head first."""
    cells = [_HEAD, *map(_cells, found)]
    width = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        *texts, share = (cell.ljust(wide) for cell, wide in zip(row, width, strict=True))
        lines.append("  ".join((*texts, share.strip().rjust(width[-1]))))
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    layer = "" if row.layer is None else f"{row.layer} {row.layer_name}".strip()
    numbers = ["-" if row.room is None else str(row.room), layer]
    numbers += ["" if number is None else str(number) for number in (row.group, row.experiment)]
    takes = row.takes if len(row.takes) <= 40 else row.takes[:37] + "..."
    return (row.scene, *numbers, takes, row.buckets, f"{row.share:.2%}")
