"""The console's tree of scenes, rooms, layers, groups and experiments, read from JSON. Source: PAIREC.md 10.1.

Keys are matched without regard to case, null is a missing value, and every problem is found at once, with its path.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from pairec_fast.errors import ConfigError

Path = tuple[str | int, ...]
ID_MAX = (1 << 63) - 1
Id = Annotated[int, Meta(ge=0, le=ID_MAX)]
ConfigText = str | dict[str, Any]
"""A JSON object as text, as the console stores it, or, for files written by hand, the object itself."""

ONLINE = (0, 2)  # what the console does not say to be offline; PAI-Rec fetches what is online alone


class Experiment(Struct, frozen=True, kw_only=True):
    """`type` is 1 base, 2 test, 3 default. `experiment_flow` is percent: 0 nobody, 100 all, else by buckets."""

    experiment_id: Id
    experiment_name: str = ""
    type: Literal[0, 1, 2, 3] = 0
    experiment_flow: Annotated[int, Meta(ge=0, le=100)] = 0
    experiment_buckets: str = ""
    experiment_config: ConfigText = ""
    debug_users: str = ""
    debug_crowd_users: tuple[str, ...] = ()
    status: int = 0
    path: Path = ()


class Group(Struct, frozen=True, kw_only=True):
    """`crowd_users` are the users of `crowd_id`, each entry a comma list: here the file holds them."""

    exp_group_id: Id
    exp_group_name: str = ""
    layer_id: Id = 0
    exp_room_id: Id = 0
    crowd_target_type: Literal["", "All", "Filter", "CrowdId", "Random"] = ""
    filter: str = ""
    crowd_id: int = 0
    crowd_users: tuple[str, ...] = ()
    holding_buckets: str = ""
    distribution_type: Literal[0, 1, 2] = 0
    distribution_time_duration: int = 0
    exp_group_config: ConfigText = ""
    debug_users: str = ""
    debug_crowd_users: tuple[str, ...] = ()
    status: int = 0
    experiments: tuple[Experiment, ...] = ()
    path: Path = ()


class Layer(Struct, frozen=True, kw_only=True):
    layer_id: Id
    layer_name: str = ""
    exp_room_id: Id = 0
    experiment_groups: tuple[Group, ...] = ()
    path: Path = ()


class Room(Struct, frozen=True, kw_only=True):
    """`type` is 1 base, 2 normal; `bucket_type` 1 uid, 2 hash of uid, 3 custom (nobody), 4 filter."""

    exp_room_id: Id
    exp_room_name: str = ""
    type: Literal[0, 1, 2] = 0
    bucket_type: Literal[0, 1, 2, 3, 4] = 0
    bucket_count: int = 0
    exp_room_buckets: str = ""
    filter: str = ""
    debug_users: str = ""
    debug_crowd_id_users: tuple[str, ...] = ()
    status: int = 0
    layers: tuple[Layer, ...] = ()
    path: Path = ()


class Scene(Struct, frozen=True, kw_only=True):
    scene_name: Annotated[str, Meta(min_length=1)]
    experiment_rooms: tuple[Room, ...] = ()
    path: Path = ()


_ALIASES = {"scene": "scene_name", "rooms": "experiment_rooms", "crowdusers": "crowd_users"}
# What the console writes and nothing here reads; a key that is neither this nor a field is probably misspelt.
_WRITTEN = (
    "scene_id scene_info exp_room_id exp_room_info exp_room_config environment debug_crowd_id layer_id layer_info "
    "exp_group_id exp_group_info owner reserve_buckets experiment_info gmt_create_time gmt_modified_time"
)
_UNUSED = frozenset(_WRITTEN.split())
_CHILDREN: dict[str, type[Struct]] = {
    "experiment_rooms": Room, "layers": Layer, "experiment_groups": Group, "experiments": Experiment
}  # fmt: skip


class ExperimentError(ConfigError):
    """`places` are the paths and what is wrong there; the message has a line for each."""

    def __init__(self, where: str, problems: list[tuple[Path, str]]) -> None:
        lines = (f"{where}: {render(path)}: {what}" if path else f"{where}: {what}" for path, what in problems)
        super().__init__("\n".join(lines))
        self.places = tuple(problems)


class Reader:
    """Reads a document; `problems` and `warnings` are paths and what is wrong there."""

    def __init__(self) -> None:
        self.problems: list[tuple[Path, str]] = []
        self.warnings: list[tuple[Path, str]] = []

    def scenes(self, document: Any) -> list[Scene]:
        """The scenes of a document: one object, a list, or an object with `scenes`."""
        path: Path = ()
        if isinstance(document, dict):
            key = next((key for key in document if isinstance(key, str) and key.casefold() == "scenes"), None)
            if key is None:
                return [scene for scene in [self._node(document, Scene, ())] if scene]
            document, path = document[key], (key,)
        if not isinstance(document, list | tuple):
            self.problems.append((path, f"expected an object or a list of scenes, got {describe(document)}"))
            return []
        scenes = [scene for at, one in enumerate(document) if (scene := self._node(one, Scene, (*path, at)))]
        seen: set[str] = set()
        for scene in scenes:
            if scene.scene_name in seen:
                self.problems.append((scene.path, f'a scene "{scene.scene_name:.60}" is already in the file'))
            seen.add(scene.scene_name)
        return scenes

    def _node(self, value: Any, cls: type[Any], path: Path) -> Any:
        """`value` as a `cls`; None after noting a problem, or if it is offline."""
        if not isinstance(value, dict):
            self.problems.append((path, f"expected an object, got {describe(value)}"))
            return None
        fields = {field.name: field for field in msgspec.structs.fields(cls) if field.name != "path"}
        found: dict[str, Any] = {"path": path}
        wrong = False
        for name, (key, entry) in self._by_field(value, fields, path).items():
            if entry is None:
                continue
            if name in _CHILDREN:
                found[name] = self._children(entry, _CHILDREN[name], (*path, key))
                continue
            try:
                found[name] = msgspec.convert(entry, fields[name].type)
            except msgspec.ValidationError:
                self.problems.append(((*path, key), _expected(fields[name].type, entry)))
                wrong = True
        for name, field in fields.items():
            if field.required and name not in found and not wrong:
                self.problems.append((path, f"{name} is missing"))
                wrong = True
        if wrong:
            return None
        node = cls(**found)
        return node if getattr(node, "status", 0) in ONLINE else None

    def _children(self, value: Any, cls: type[Any], path: Path) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            self.problems.append((path, f"expected a list, got {describe(value)}"))
            return ()
        nodes = (self._node(one, cls, (*path, at)) for at, one in enumerate(value))
        return tuple(node for node in nodes if node is not None)

    def _by_field(self, value: dict[Any, Any], fields: dict[str, Any], path: Path) -> dict[str, tuple[str, Any]]:
        """Field -> the key that means it, and its value; the exact spelling counts before others."""
        found: dict[str, tuple[str, Any]] = {}
        for key, entry in value.items():
            name = key.casefold() if isinstance(key, str) else ""
            name = name if name in fields else _ALIASES.get(name, name)
            if name in fields:
                if name not in found or found[name][0] != name:
                    found[name] = (key, entry)
            elif name not in _UNUSED:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = f' (did you mean "{near[0]}"?)' if near else ""
                self.warnings.append(((*path, str(key)), f"unknown key, ignored{hint}"))
        return found


def render(path: Path) -> str:
    """`scenes[0].rooms[1].layers`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def describe(value: Any) -> str:
    """A JSON value as an error shows it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return f'text "{value:.60}"'
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def _expected(kind: Any, value: Any) -> str:
    """What a field takes, in words, and what was given."""
    low_high = ""
    if get_origin(kind) is Annotated:
        kind, rule = get_args(kind)
        most = "2^63-1" if rule.le == ID_MAX else rule.le
        low_high = f" from {rule.ge} to {most}" if rule.ge is not None else " that is not empty"
    if get_origin(kind) is Literal:
        words = [f'"{word}"' if isinstance(word, str) else str(word) for word in get_args(kind)]
        texts = {word.casefold(): word for word in get_args(kind) if isinstance(word, str)}
        near = difflib.get_close_matches(str(value).casefold(), texts, n=1)
        hint = f' (did you mean "{texts[near[0]]}"?)' if near else ""
        return f"expected one of {', '.join(words)}, got {describe(value)}{hint}"
    if kind == tuple[str, ...]:
        bad = next((one for one in value if not isinstance(one, str)), None) if isinstance(value, list) else None
        given = describe(value) if bad is None else f"a list with {describe(bad)}"
        return f"expected a list of texts, got {given}"
    word = {int: "an integer", str: "text"}.get(kind, "a JSON object, or one as text")
    return f"expected {word}{low_high}, got {describe(value)}"
