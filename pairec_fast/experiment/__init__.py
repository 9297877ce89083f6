"""A/B experiments: which layers, groups and experiments a request falls into, and the parameters these set.

Parameters override parts of the configuration (PAIREC.md 2.12) and are names in formulas. Source: PAIREC.md 10.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import msgspec

from pairec_fast.errors import ConfigError
from pairec_fast.experiment.buckets import bucket_set, hash_of
from pairec_fast.experiment.params import Params
from pairec_fast.experiment.plan import Choice, Plan, Room, Settings
from pairec_fast.experiment.tree import ExperimentError, Path, Reader, render

__all__ = [
    "GLOBAL_SCENE", "VARIANTS_MAX", "ExperimentError", "Experiments", "Match", "Params", "Variants", "bucket_set",
    "hash_of",
]  # fmt: skip

GLOBAL_SCENE = "pairec_abtest_global_scene"
VARIANTS_MAX = 256
_TRIED_MAX = 1 << 16  # combinations looked at for variants
_KNOWN_MAX = 4096  # assembled matches kept of a scene; beyond, each is assembled for its request

_Key = tuple[Any, ...]


class Match(NamedTuple):
    """`exp_id` is what the answer and the log carry, as `ER2_L3#EG4#E5_L7`."""

    exp_id: str
    params: Params


class Variants(NamedTuple):
    """The distinct parameters that requests of a scene may get; at most `left_out` more were not looked at."""

    params: tuple[Params, ...]
    left_out: int


class _Outcome(NamedTuple):
    match: Match
    values: dict[str, Any]


NOTHING = Match("", Params({}))


class Experiments:
    """A tree of experiments, checked and ready; never changed. Safe to use from many threads.

    `warnings` are lines about what is accepted but probably not meant; `notes` are the same as paths and texts.
    """

    def __init__(
        self, plans: dict[str, Plan], settings: list[tuple[str, Settings]], where: str, notes: list[tuple[Path, str]]
    ) -> None:
        self._plans = plans
        self._settings = settings
        self._global = plans.get(GLOBAL_SCENE)
        self._known: dict[str, dict[_Key, _Outcome]] = {name: {} for name in plans}
        self.notes = tuple(notes)
        self.warnings = tuple(f"{where}: {render(path)}: {what}" for path, what in notes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Experiments:
        """Read a file as `parse` does.

        Raises:
            ConfigError: it cannot be read or is not JSON; else as `parse`, each line begins with the file's name.
        """
        name = os.fspath(path)
        try:
            document = msgspec.json.decode(FilePath(name).read_bytes().removeprefix(b"\xef\xbb\xbf"))
        except OSError as error:
            raise ConfigError(f"{name}: cannot read the experiments: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
            raise ConfigError(f"{name}: not JSON: {error}") from error
        return cls.parse(document, name)

    @classmethod
    def parse(cls, document: Any, where: str = "experiments") -> Experiments:
        """Check and prepare the console's tree: a scene, a list of them, or `{"scenes": [...]}`.

        Raises:
            ExperimentError: a line per problem, each with `where` and the path of the field.
        """
        reader = Reader()
        scenes = reader.scenes(document)
        problems = reader.problems

        def problem(path: Path, what: str) -> None:
            if (path, what) not in problems:
                problems.append((path, what))

        plans = {scene.scene_name: Plan(scene, problem) for scene in scenes}
        if problems:
            raise ExperimentError(where, problems)
        settings = [(name, one) for name, plan in plans.items() for one in plan.settings()]
        notes = [*reader.warnings, *(note for plan in plans.values() for note in plan.warnings())]
        return cls(plans, settings, where, notes)

    @property
    def scenes(self) -> tuple[str, ...]:
        """The names of the scenes, the global one included."""
        return tuple(self._plans)

    def match(
        self, scene: str, uid: str, filter_params: Mapping[str, Any] | None = None, now: float | None = None
    ) -> Match:
        """What a request falls into. An unknown scene gives an empty `exp_id` and no parameters.

        `filter_params` are what filters of rooms and groups read: the request's features. `now` is Unix seconds, for
        groups split by time; None is the clock. Equal choices give the same object.
        """
        plan = self._plans.get(scene)
        if plan is None:
            return NOTHING
        values = {} if filter_params is None else filter_params
        if self._global is None or plan is self._global:
            room, choices = plan.choose(uid, values, now)
            return self._outcome(plan, room, choices, None, ()).match
        global_choice = self._global.choose(uid, values, now)
        above = self._outcome(self._global, *global_choice, None, ())
        room, choices = plan.choose(uid, {**values, **above.values} if above.values else values, now)
        return self._outcome(plan, room, choices, above, global_choice).match

    def variants(self, scene: str) -> Variants:
        """Every distinct set of parameters that requests of a scene may get, at most `VARIANTS_MAX`."""
        plan = self._plans.get(scene)
        if plan is None:
            return Variants((NOTHING.params,), 0)
        found: dict[str, Params] = {}
        total = tried = 0
        aboves, unseen = self._above(plan)
        for above in aboves:
            values = {} if above is None else above.values
            for room in plan.rooms:
                reachable = [layer.reachable() for layer in (room.layers if room else ())]
                total += unseen * math.prod(map(len, reachable))
                layers = [_distinct(choices, values) for choices in reachable]
                total += math.prod(map(len, layers))
                for choices in itertools.product(*layers):
                    if len(found) == VARIANTS_MAX or tried == _TRIED_MAX:
                        break
                    tried += 1
                    params = _merged(plan, choices, above)
                    found.setdefault(params.key, params)
            unseen = 0
        return Variants(tuple(found.values()), total - tried)

    def settings(self) -> Iterator[tuple[Path, str, dict[str, Any]]]:
        """What each group and each experiment may set: path in the document, scene, parameters. For checks."""
        above = [] if self._global is None else list(self.variants(GLOBAL_SCENE).params)
        for name, settings in self._settings:
            seen = set[str]()
            for globals_ in above if settings.has_tags and name != GLOBAL_SCENE and above else [NOTHING.params]:
                params = Params(settings.values(globals_))
                if params.key not in seen:
                    seen.add(params.key)
                    yield settings.path, name, dict(params)

    def choices(
        self, scene: str, uid: str, filter_params: Mapping[str, Any] | None = None, now: float | None = None
    ) -> tuple[Room | None, tuple[Choice, ...]]:
        """The room and, layer by layer, the group and the experiment behind `match`. For those who look on."""
        values = {} if filter_params is None else filter_params
        plan = self._plans[scene]
        if self._global is not None and plan is not self._global:
            values = {**values, **self._outcome(self._global, *self._global.choose(uid, values, now), None, ()).values}
        return plan.choose(uid, values, now)

    def plan(self, scene: str) -> Plan:
        return self._plans[scene]

    def _outcome(
        self, plan: Plan, room: Room | None, choices: tuple[Choice, ...], above: _Outcome | None, above_key: _Key
    ) -> _Outcome:
        known = self._known[plan.scene.scene_name]
        key = (room, choices, above_key)
        found = known.get(key)
        if found is None:
            params = _merged(plan, choices, above)
            exp_id = _exp_id(room, choices, plan is self._global, above)
            found = _Outcome(Match(exp_id, params), dict(params) if plan is self._global else {})
            if len(known) < _KNOWN_MAX:
                found = known.setdefault(key, found)
        return found

    def _above(self, plan: Plan) -> tuple[list[_Outcome | None], int]:
        """What the global scene may give requests of a scene, as `variants` has it."""
        if self._global is None or plan is self._global:
            return [None], 0
        found = self.variants(GLOBAL_SCENE)
        return [_Outcome(Match("", params), dict(params)) for params in found.params], found.left_out


def _distinct(choices: list[Choice], globals_: Mapping[str, Any]) -> list[Choice]:
    """Of choices that set the same, the first."""
    found: dict[str, Choice] = {}
    for choice in choices:
        found.setdefault(Params(choice.values(globals_)).key, choice)
    return list(found.values())


def _merged(plan: Plan, choices: tuple[Choice, ...], above: _Outcome | None) -> Params:
    """The global scene's parameters, those with the scene's prefix also without it, then layer over layer."""
    values: dict[str, Any] = {}
    if above is not None:
        prefix = plan.scene.scene_name + "."
        for name, value in above.values.items():
            if name.startswith(prefix):
                values[name.removeprefix(prefix)] = value
        values |= above.values  # the plain name counts before the one with the prefix taken off
    for choice in choices:
        values |= choice.values({} if above is None else above.values)
    return Params(values)


def _exp_id(room: Room | None, choices: tuple[Choice, ...], is_global: bool, above: _Outcome | None) -> str:
    if is_global:
        return "_".join(f"GL{choice.layer.layer_id}{choice.text}" for choice in choices)
    own = "" if room is None else f"ER{room.room.exp_room_id}"
    own += "".join(f"_L{choice.layer.layer_id}{choice.text}" for choice in choices)
    text = own + "_" + ("" if above is None else above.match.exp_id)
    return text[:-1] if text[-1] in "_#" else text
