"""A scene's tree made ready for matching: who goes where is looked up, and hashed at most once a layer.

Source of the order in which things are tried: PAIREC.md 10.2; of hash keys and buckets: 10.3.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pairec_fast.errors import ConfigError
from pairec_fast.experiment import buckets, tree
from pairec_fast.experiment.holds import holds
from pairec_fast.experiment.params import read_object

DEFAULT, BASE, OFF_BY_TIME = 3, 1, 2
_TAG = re.compile(r"\$\{(.*?)\}", re.DOTALL)

Values = Mapping[str, Any]
Test = Callable[[str, Values], bool]
Problem = Callable[[tree.Path, str], None]


class Settings:
    """What a group or an experiment sets: an object, or a text that becomes one when `${x}` in it is replaced."""

    def __init__(self, text: tree.ConfigText, path: tree.Path, problem: Problem) -> None:
        self.path = path
        self.text = text if isinstance(text, str) else msgspec.json.encode(text).decode()
        self.has_tags = "${" in self.text
        self.fixed: dict[str, Any] = {}
        if self.has_tags:
            if "${" in _TAG.sub("", self.text):
                problem(path, "a ${ is not closed")
            return
        try:
            self.fixed = read_object(self.text)
        except ValueError as error:
            problem(path, str(error))

    def values(self, globals_: Values) -> dict[str, Any]:
        """The parameters, with `${x}` replaced by the scalars among `globals_`; unknown names stay as they are.

        What is no object after that sets nothing.
        """
        if not self.has_tags:
            return self.fixed
        text = _TAG.sub(lambda tag: _scalar(globals_[tag[1]], tag[0]) if tag[1] in globals_ else tag[0], self.text)
        try:
            return read_object(text)
        except ValueError:
            return {}


class Choice:
    """What a layer gives a request: a group, an experiment of it, or none. One object for each, so it is a key."""

    def __init__(
        self, text: str, layer: tree.Layer, group: tree.Group | None, experiment: tree.Experiment | None,
        settings: tuple[Settings, ...],
    ) -> None:  # fmt: skip
        self.text = text
        self.layer, self.group, self.experiment = layer, group, experiment
        self.settings = settings

    def values(self, globals_: Values) -> dict[str, Any]:
        """The group's settings, overlaid with the experiment's."""
        found: dict[str, Any] = {}
        for settings in self.settings:
            found |= settings.values(globals_)
        return found


class Group:
    """The experiments of a group, as a table of the choice for each bucket."""

    def __init__(self, room: tree.Room, layer: tree.Layer, group: tree.Group, problem: Problem) -> None:
        self.minutes = 0
        if group.distribution_type == OFF_BY_TIME:
            self.minutes = max(group.distribution_time_duration, 1)
            if group.distribution_time_duration < 1:
                told = f"expected at least 1 minute, got {group.distribution_time_duration}"
                problem((*group.path, "distribution_time_duration"), told)
        place = f"_EXPROOM{group.exp_room_id or room.exp_room_id}_LAYER{group.layer_id or layer.layer_id}"
        self._key = f"{place}_EXPGROUP{group.exp_group_id}"
        own = Settings(group.exp_group_config, (*group.path, "exp_group_config"), problem)
        text = f"#EG{group.exp_group_id}"

        def choice(one: tree.Experiment | None, shown: bool) -> Choice:
            if one is None:
                return Choice(text, layer, group, None, (own,))
            settings = Settings(one.experiment_config, (*one.path, "experiment_config"), problem)
            return Choice(f"{text}#E{one.experiment_id}" if shown else text, layer, group, one, (own, settings))

        takers = [(one, choice(one, True)) for one in group.experiments if one.type != DEFAULT]
        # Of several defaults, and of several bases in their place, the last counts, as in PAI-Rec.
        rest = [one for one in group.experiments if one.type == DEFAULT]
        rest = rest or [one for one in group.experiments if one.type == BASE]
        default = choice(rest[-1] if rest else None, False)
        self._debug: dict[str, Choice] = {}
        for one, taken in takers:
            for uid in users(one.debug_users, one.debug_crowd_users):
                self._debug.setdefault(uid, taken)
        self._table = [default] * buckets.BUCKETS
        for one, taken in reversed(takers):  # reversed: the first that takes a bucket keeps it
            for bucket, is_in in enumerate(_flow(one)):
                if is_in:
                    self._table[bucket] = taken
        self._only = self._table[0] if len(set(self._table)) == 1 else None  # then there is nothing to hash for

    def choose(self, uid: str, now: float | None) -> Choice:
        if uid in self._debug:
            return self._debug[uid]
        if self._only is not None:
            return self._only
        return self._table[buckets.hash_of(self.hash_key(uid, now)) % buckets.BUCKETS]

    def hash_key(self, uid: str, now: float | None = None) -> str:
        """The text whose hash is the bucket: the user's, or, split by time, the day's part everyone is in."""
        if not self.minutes:
            return uid + self._key
        now = time.time() if now is None else now
        return f"{time.strftime('%Y%m%d', time.localtime(now))}_{int(now) % 86400 // (self.minutes * 60)}{self._key}"

    def reachable(self) -> Iterator[Choice]:
        return iter(dict.fromkeys((*self._table, *self._debug.values())))


class Layer:
    """The groups of a layer: those of debug users, those with a filter or a crowd, Random ones, and the rest's."""

    def __init__(self, room: tree.Room, layer: tree.Layer, problem: Problem) -> None:
        self.layer = layer
        self._nobody = Choice("", layer, None, None, ())
        groups = [(one, Group(room, layer, one, problem)) for one in layer.experiment_groups]
        self._debug: dict[str, Group] = {}
        self._conditional: list[tuple[Test, Group]] = []
        self._rest: Group | None = None
        self._random: list[Group | None] | None = None
        self._key = f"_EXPROOM{layer.exp_room_id or room.exp_room_id}_LAYER{layer.layer_id}"
        for one, group in groups:
            for uid in users(one.debug_users, one.debug_crowd_users):
                self._debug.setdefault(uid, group)
            kind = one.crowd_target_type
            if kind == "Random":
                self._random = self._random or [None] * buckets.BUCKETS
                for bucket, is_in in enumerate(buckets.table(one.holding_buckets, buckets.BUCKETS)):
                    if is_in:
                        self._random[bucket] = self._random[bucket] or group
            elif kind == "Filter" or (kind == "" and one.filter):
                if one.filter:
                    self._conditional.append((_filter(one.filter, (*one.path, "filter"), problem), group))
            elif kind == "CrowdId" or (kind == "" and one.crowd_id > 0):
                self._conditional.append((_crowd(one.crowd_users), group))
            elif kind == "All" or one.crowd_id == 0:
                self._rest = self._rest or group

    def choose(self, uid: str, values: Values, now: float | None) -> Choice:
        group = self._group(uid, values)
        return self._nobody if group is None else group.choose(uid, now)

    def _group(self, uid: str, values: Values) -> Group | None:
        if uid in self._debug:
            return self._debug[uid]
        for test, group in self._conditional:
            if test(uid, values):
                return group
        if self._random is not None:
            found = self._random[buckets.hash_of(uid + self._key) % buckets.BUCKETS]
            if found is not None:
                return found
        return self._rest

    def reachable(self) -> list[Choice]:
        """Every choice that some request may get, each once."""
        groups = [*self._debug.values(), *(group for _, group in self._conditional), *(self._random or ())]
        if self._random is None or None in self._random:
            groups.append(self._rest)
        each = ([self._nobody] if group is None else group.reachable() for group in dict.fromkeys(groups))
        return list(itertools.chain.from_iterable(each))


class Room:
    """A room's layers, and whom it takes: `test` is None for a room that takes no one but its debug users."""

    def __init__(self, room: tree.Room, problem: Problem) -> None:
        self.room = room
        self.is_base = room.type == BASE
        self.layers = [Layer(room, layer, problem) for layer in room.layers]
        self.test = None if self.is_base else _room_test(room, problem)


class Plan:
    """A scene's rooms. `rooms` are the reachable ones; None among them is no room at all."""

    def __init__(self, scene: tree.Scene, problem: Problem) -> None:
        self.scene = scene
        rooms = [Room(one, problem) for one in scene.experiment_rooms]
        self._debug: dict[str, Room] = {}
        for room in rooms:
            for uid in users(room.room.debug_users, room.room.debug_crowd_id_users):
                self._debug.setdefault(uid, room)
        self._normal = [(room.test, room) for room in rooms if room.test is not None]
        self._base = next((room for room in rooms if room.is_base), None)
        self.rooms = list(dict.fromkeys([*self._debug.values(), *(room for _, room in self._normal), self._base]))

    def settings(self) -> list[Settings]:
        """Of every group and experiment that some request may get, in the order of the tree."""
        layers = [layer for room in self.rooms if room is not None for layer in room.layers]
        each = (one for layer in layers for choice in layer.reachable() for one in choice.settings)
        return list({one.path: one for one in each}.values())

    def warnings(self) -> list[tuple[tree.Path, str]]:
        """What PAI-Rec takes without a word and nobody means."""
        found: list[tuple[tree.Path, str]] = []
        rooms = self.scene.experiment_rooms
        for room in [one for one in rooms if one.type == BASE][1:]:
            found.append(((*room.path, "type"), "a second base room; the first one counts"))
        for room in rooms:
            if room.type != BASE and room.bucket_type == 4 and not room.filter:
                found.append((room.path, "a room by filter without a filter takes nobody"))
            names = [layer.layer_name for layer in room.layers if layer.layer_name]
            for layer in room.layers:
                if names.count(layer.layer_name) > 1:
                    found.append((layer.path, f'"{layer.layer_name:.60}" is the name of two layers of this room'))
                for group in layer.experiment_groups:
                    found += _group_warnings(group)
        return found

    def choose(self, uid: str, values: Values, now: float | None) -> tuple[Room | None, tuple[Choice, ...]]:
        """The room of a request and, layer by layer, what it gives."""
        room = self._debug[uid] if uid in self._debug else self._room(uid, values)
        if room is None:
            return None, ()
        return room, tuple([layer.choose(uid, values, now) for layer in room.layers])

    def _room(self, uid: str, values: Values) -> Room | None:
        for test, room in self._normal:
            if test(uid, values):
                return room
        return self._base


def _group_warnings(group: tree.Group) -> list[tuple[tree.Path, str]]:
    found: list[tuple[tree.Path, str]] = []
    kind = group.crowd_target_type
    if kind == "Filter" and not group.filter:
        found.append((group.path, "a group by filter without a filter takes nobody"))
    if (kind == "CrowdId" or (kind == "" and group.crowd_id > 0 and not group.filter)) and not group.crowd_users:
        found.append((group.path, f"crowd_users of crowd {group.crowd_id} are missing: the group takes nobody"))
    ids = [one.experiment_id for one in group.experiments]
    taken = [0] * buckets.BUCKETS
    for one in group.experiments:
        if ids.count(one.experiment_id) > 1:
            found.append((one.path, f"experiment_id {one.experiment_id} is given twice in this group"))
        if one.type != DEFAULT:
            taken = [count + is_in for count, is_in in zip(taken, _flow(one), strict=True)]
    if any(count > 1 for count in taken):
        told = f"experiments share the bucket {next(at for at, count in enumerate(taken) if count > 1)}"
        found.append((group.path, f"{told}: the first one gets it"))
    return found


def users(listed: str, crowd: tuple[str, ...]) -> list[str]:
    """The users of a comma list, blanks and all, and those of a crowd."""
    return [*(listed.split(",") if listed else ()), *crowd]


def _flow(one: tree.Experiment) -> bytes:
    if one.experiment_flow in (0, 100):
        return bytes([one.experiment_flow == 100]) * buckets.BUCKETS
    return buckets.table(one.experiment_buckets, buckets.BUCKETS)


def _filter(text: str, path: tree.Path, problem: Problem) -> Test:
    try:
        held = holds(text)
    except ConfigError as error:
        problem(path, str(error))
        return lambda uid, values: False
    return lambda uid, values: held(values)


def _crowd(entries: tuple[str, ...]) -> Test:
    crowd = frozenset(uid.strip() for entry in entries for uid in entry.split(","))
    return lambda uid, values: uid in crowd


def _room_test(room: tree.Room, problem: Problem) -> Test | None:
    if room.bucket_type == 4:
        return _filter(room.filter, (*room.path, "filter"), problem) if room.filter else None
    if room.bucket_type not in (1, 2):
        return None
    count = room.bucket_count
    if not 1 <= count <= buckets.BUCKET_COUNT_MAX:
        told = f"expected 1 to {buckets.BUCKET_COUNT_MAX:,} buckets, got {count}"
        problem((*room.path, "bucket_count"), told)
        return None
    table = buckets.table(room.exp_room_buckets, count)
    if room.bucket_type == 2:
        return lambda uid, values: bool(table[buckets.hash_of(uid) % count])

    def by_number(uid: str, values: Values) -> bool:
        number = buckets.number_of(uid)
        return number is not None and bool(table[number % count])

    return by_number


def _scalar(value: Any, tag: str) -> str:
    """A global as text in a configuration, as Go's `%v` prints it; objects and lists leave the tag as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _shortest(float(value))
    return tag if value is not None else "<nil>"


def _shortest(value: float) -> str:
    """Go's `%g` with the fewest digits: exponent form below 1e-4 and from 1e6 on."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # the settings are JSON: no NaN, no infinity
    power = len(digits) - 1 + exponent
    if value == 0 or -4 <= power < 6:
        return format(Decimal(repr(value)).normalize(), "f")
    first, *others = map(str, digits)
    return f"{'-' * sign}{first}{'.' * bool(others)}{''.join(others)}e{power:+03d}"
