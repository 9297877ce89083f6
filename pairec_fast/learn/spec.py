"""world.toml: what a snapshot is built from."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pairec_fast.errors import ConfigError

Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_-]*$", description="letters, digits, _ and -")]
Days = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Unknown keys are errors: a misspelt one would change what is built."""


class TableSpec(_Spec, frozen=True):
    """`file` (CSV or Parquet), and which of its columns holds the ids."""

    file: str
    id: str


class InteractionsSpec(_Spec, frozen=True):
    """One event a row. `time` in unix seconds. `label` "": every row is a positive; else rows with label 1 are.

    `group`: rows with one value are one request (what was shown together).
    """

    file: str
    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    label: str = ""
    group: str = ""


class AggregateSpec(_Spec, frozen=True):
    """A value of past events, strictly before a time. `by`: user, item, user.column, item.column, or one of each side.

    count, sum, mean   of the group's events; sum and mean are of a column of the interactions, `of`
    recency, age       days since the group's last, or first, event
    share              the group's count over the count of all events
    lift               by one of each side: how much more the user's group chooses the item's than all do. The group's
                       share, drawn towards that of all by `prior` events, over the share of all

    With `positives`, only rows with label 1 count. `window_days` or `half_life_days` forget; 0 does not.
    """

    name: Name
    function: Literal["count", "sum", "mean", "recency", "age", "share", "lift"]
    by: Annotated[list[str], Meta(min_length=1, max_length=2)]
    of: str = ""
    positives: bool = False
    window_days: Days = 0
    half_life_days: Days = 0
    prior: Annotated[float, Meta(gt=0)] = 1000.0


class VectorsSpec(_Spec, frozen=True):
    """User and item vectors in one space: two NPY files [rows, dim] float32 in the order of the tables, or trained.

    `method` "als" trains implicit ALS on the positives. "profile" takes `column`, a vector column of the items, in
    shares of its row's sum; a user is the mean over what they chose, relative to the mean user.
    `kind` is that of the index: "auto" builds the kinds that may be the fastest and keeps the one that was, at `recall`
    of `k` on 200 of the users; "none": for features only, no index is built.
    `lists`: text or number columns of the items that recalls ask for in `Where`; the index's items are listed by each.
    """

    name: Name
    users: str = ""
    items: str = ""
    metric: Literal["ip", "cosine", "l2"] = "ip"
    method: Literal["", "als", "profile"] = ""
    column: str = ""
    factors: Count = 64
    regularization: float = 0.05
    alpha: float = 5.0
    iterations: Count = 10
    kind: Literal["auto", "flat", "hnsw", "partition", "none"] = "auto"
    k: Count = 500
    recall: float = 0.95
    lists: list[str] = []


_SIDES = {"share": 1, "lift": 2}  # how many entries `by` must have


class ListSpec(_Spec, frozen=True):
    """The `count` items with the most positives, for all or `by` a text column of the users."""

    name: Name
    by: str = ""
    count: Count = 500
    half_life_days: Days = 0


class NeighboursSpec(_Spec, frozen=True):
    """For each item the `count` items that go with it.

    "cosine"    of who chose them
    "ease"      the item-to-item regression of that name, with `regularization`; up to 20,000 items
    "sequence"  what is chosen soon after it: the sum over users and places 1 to `lag` of place ** -decay, in both
                directions unless `directed`, over (choices of the item + shrink) * (choices of the other + shrink) **
                popularity
    """

    name: Name
    method: Literal["cosine", "ease", "sequence"] = "cosine"
    count: Count = 50
    regularization: float = 200.0
    lag: Count = 20
    decay: Annotated[float, Meta(ge=0)] = 1.0
    directed: bool = False
    shrink: Annotated[float, Meta(gt=0)] = 5.0
    popularity: Annotated[float, Meta(ge=0)] = 0.5


class FeatureSpec(_Spec, frozen=True):
    """One model input; `source` as in `pairec_fast.features.FeaturePlan`."""

    name: str
    source: str


class ModelSpec(_Spec, frozen=True):
    """A model: a `file`, LightGBM text or a compiled forest, features.json beside it; or `features` to train one on.

    With labels, training rows are the interactions of the last `train_share` of the time; what they read (vectors,
    neighbours, aggregates, histories) is what was known before. The last `holdout_share` is held out and measured.

    Without, every interaction is a positive and requests are made up: at each of `cutoffs`, quantiles of the time, or
    once, before the last `hold_last` of each user's interactions, the world is made anew from what came before. Who
    chose something within `horizon_days` asks (with `hold_last`, whenever). `candidates` says what is recalled, and how
    many: vectors, a list, or neighbours of the history, "table:N" of its newest N. Training rows are those that were
    chosen, and a share `negatives` of the others.

    `params` are LightGBM's, by their own names.
    """

    name: Name
    file: str = ""
    features: list[FeatureSpec] = []
    objective: Literal["lambdarank", "binary"] = "lambdarank"
    train_share: Annotated[float, Meta(gt=0, lt=1)] = 0.4
    holdout_share: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    rounds: Count = 300
    params: dict[str, bool | int | float | str] = {}
    cutoffs: list[Annotated[float, Meta(gt=0, lt=1)]] = []
    hold_last: Annotated[float, Meta(ge=0, lt=1)] = 0
    horizon_days: Annotated[float, Meta(gt=0)] = 45.0
    negatives: Annotated[float, Meta(gt=0, le=1)] = 0.15
    candidates: dict[str, Count] = {}


class World(_Spec, frozen=True):
    """The whole file. Paths are relative to its folder."""

    items: TableSpec
    interactions: InteractionsSpec
    users: TableSpec | None = None
    aggregates: list[AggregateSpec] = []
    vectors: list[VectorsSpec] = []
    lists: list[ListSpec] = []
    neighbours: list[NeighboursSpec] = []
    models: list[ModelSpec] = []
    seed: int = 0


def load_world(path: Path) -> World:
    """Read and check world.toml.

    Raises:
        ConfigError: cannot be read, is no TOML, or has a wrong, unknown or repeated name; the message has the file.
    """
    try:
        value: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        world = msgspec.convert(value, World)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {str(error).replace('`$.', '`')}") from error
    try:
        check_world(world)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return world


def check_world(world: World) -> None:
    """Raises ConfigError: what one section cannot know about itself."""
    sections: tuple[list[Any], ...] = (world.aggregates, world.vectors, world.lists, world.neighbours, world.models)
    names = [one.name for section in sections for one in section]
    for name in names:
        if names.count(name) > 1 or name in ("items", "users", "history"):
            raise ConfigError(f'the name "{name}" is taken twice; every table, vector, list and model has its own')
    for one in world.aggregates:
        sides = [part.partition(".")[0] for part in one.by]
        if any(side not in ("user", "item") for side in sides) or len(set(sides)) != len(sides):
            raise ConfigError(
                f"aggregates.{one.name}.by is {one.by}; write user, item, user.column, item.column, or one of each side"
            )
        if set(one.by) == {"user", "item"}:
            raise ConfigError(f"aggregates.{one.name}.by: a value for every pair of user and item is too many to keep")
        if (one.function in ("sum", "mean")) != bool(one.of):
            raise ConfigError(
                f"aggregates.{one.name}.of: {one.function} {'needs a column' if not one.of else 'has none'}"
            )
        if one.window_days and one.half_life_days:
            raise ConfigError(f"aggregates.{one.name}: window_days or half_life_days, not both")
        if one.function in ("recency", "age") and (one.window_days or one.half_life_days):
            raise ConfigError(
                f"aggregates.{one.name}: {one.function} forgets nothing; leave window_days and half_life_days out"
            )
        if one.function in _SIDES and len(one.by) != _SIDES[one.function]:
            raise ConfigError(
                f"aggregates.{one.name}.by is {one.by}; {one.function} is by "
                f"{'one of each side' if one.function == 'lift' else 'one side'}"
            )
    for vectors in world.vectors:
        if bool(vectors.method) == bool(vectors.users or vectors.items) or bool(vectors.users) != bool(vectors.items):
            raise ConfigError(f"vectors.{vectors.name}: give users and items, two NPY files, or a method")
        if (vectors.method == "profile") != bool(vectors.column):
            raise ConfigError(f'vectors.{vectors.name}.column: method = "profile" needs one, the others have none')
        if vectors.lists and vectors.kind == "none":
            raise ConfigError(f'vectors.{vectors.name}.lists: kind = "none" builds no index whose items to list')
        for column in vectors.lists:
            if vectors.lists.count(column) > 1:
                raise ConfigError(f'vectors.{vectors.name}.lists names "{column}" twice')
    for model in world.models:
        if bool(model.file) == bool(model.features):
            raise ConfigError(f"models.{model.name}: give file, a LightGBM model, or features to train one on")
        made_up = bool(model.cutoffs) + bool(model.hold_last) + bool(model.candidates)
        labelled = bool(world.interactions.label and world.interactions.group)
        if model.features and (made_up if labelled else not (model.candidates and made_up == 2)):
            raise ConfigError(
                f"models.{model.name}.features: to train a model, interactions needs label (1 chosen, 0 shown in vain) "
                "and group (what was shown together); or, without them, the model needs candidates, and cutoffs or "
                "hold_last"
            )
