"""PAI-Rec's response functions: what an answer of a model server says of the items that were asked about.

A function reads a whole answer and gives columns, [items] each, in the order of the request. Names of scores are
suffixes of the algorithm's: "" is the algorithm itself. *Source*: PAIREC 6.2, 6.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.remote import easyrec, features, wire
from pairec_fast.remote.easyrec import DT_DOUBLE, DT_FLOAT, DT_STRING, Answer, Array, Results


class AnswerError(Exception):
    """An answer that cannot be used: the algorithm has failed."""


class Features(NamedTuple):
    """What a model server saw of each item, as texts; "" where it did not say."""

    raw: list[str]
    generate: list[str]
    context: list[str]


class Scored(msgspec.Struct, frozen=True):
    """Attributes:

    scores: suffix -> [items] float64.
    lists: suffix -> [items, classes] float64, of outputs with several classes; `scores` has each class as well.
    features: of functions whose name ends with `Debug`.
    embedding: numbers of a vector. user_embedding: the same as text; several vectors stand between bars.
    nearest: (item id, score) of the items a server found itself.
    model: what the server passes on about itself.
    """

    scores: dict[str, NDArray[np.float64]]
    lists: dict[str, NDArray[np.float64]] = {}
    features: Features | None = None
    embedding: Sequence[float] = ()
    user_embedding: str = ""
    nearest: Sequence[tuple[str, float]] = ()
    model: dict[str, str] = {}


def read(function: str, body: bytes, ids: Sequence[str]) -> Scored:
    """What `body` says of the items `ids`, as the response function `function` reads it.

    Raises:
        AnswerError: no answer of this kind of server, one that says it failed, or one of another shape.
        KeyError: an unknown function; `FUNCTIONS` has them.
    """
    scored = FUNCTIONS[function]
    try:
        if function.startswith("torchrec"):
            return scored(easyrec.read_torchrec(body), ids)
        answer = easyrec.read_easyrec(body)
        if answer.status:
            raise AnswerError(f"status {answer.status}: {answer.error or 'no message'}")
        return scored(answer, ids)
    except wire.WireError as error:
        raise AnswerError(str(error)) from error


def _single(answer: Answer, ids: Sequence[str]) -> Scored:
    """The first score of each item; 0 for one the answer does not have."""
    return Scored({"": _first(answer.results, ids)})


def _first(results: Results, ids: Sequence[str]) -> NDArray[np.float64]:
    counts, places = results.counts(), results.places(ids)
    _all_have(counts, results, "one", lambda count: count > 0)
    firsts = np.append(results.values[results.ends - counts], 0.0)  # the entry -1 is this 0
    return firsts[places]


def _multiple(answer: Answer, ids: Sequence[str]) -> Scored:
    """A score for each of `outputs`; 0 for an item the answer does not have."""
    results, width = answer.results, len(answer.outputs)
    _all_have(results.counts(), results, f"{width}, one for each of its outputs", lambda count: count == width)
    table = np.append(results.values, np.zeros(width)).reshape(len(results.ends) + 1, width) if width else None
    if table is None:
        return Scored({})
    return Scored(_named(dict(zip(answer.outputs, table[results.places(ids)].T, strict=True))))


def _all_have(
    counts: NDArray[np.int64], results: Results, rule: str, holds: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> None:
    """Raises AnswerError, with the item that has another number of scores."""
    wrong = ~holds(counts)
    if not wrong.any():
        return
    for item_id, place in results.entries.items():
        if wrong[place]:
            raise AnswerError(f"item {item_id!r} has {counts[place]} scores; expected {rule}")
    raise AnswerError(f"an item is given twice, once with another number of scores; expected {rule}")


def _multiple_debug(answer: Answer, ids: Sequence[str]) -> Scored:
    """Features; of scores only the names, all of them 0."""
    zeros = _named({name: np.zeros(len(ids)) for name in answer.outputs})
    return Scored(zeros, features=_features(answer, ids))


def _classes(answer: Answer, ids: Sequence[str]) -> Scored:
    """One value an item of an array [items]; n of an array [_, n]; other arrays say nothing of items."""
    scores: dict[str, NDArray[np.float64]] = {}
    lists: dict[str, NDArray[np.float64]] = {}
    count = len(ids)
    for name, array in answer.arrays.items():
        if len(array.shape) not in (1, 2):
            continue
        width = array.shape[1] if len(array.shape) == 2 else 1
        if width < 0 or len(array.values) < count * width:
            raise AnswerError(_short(name, array, count))
        table = array.values[: count * width].reshape(count, width)
        if width == 1:
            scores[name] = table[:, 0]
        elif width > 1:
            scores |= {f"{name}_{label}": table[:, label] for label in range(width)}
            lists[name] = table
    return Scored(_named(scores), _named(lists))


def _tensors(answer: Answer, ids: Sequence[str]) -> Scored:
    """One value an item of every float and double array, whatever its shape; others are left out."""
    scores: dict[str, NDArray[np.float64]] = {}
    for name, array in answer.arrays.items():
        if array.dtype not in (DT_FLOAT, DT_DOUBLE):
            continue
        if len(array.values) < len(ids):
            raise AnswerError(_short(name, array, len(ids)))
        scores[name] = array.values[: len(ids)]
    return Scored(_named(scores))


def _short(name: str, array: Array, count: int) -> str:
    return (
        f"output {name!r} of shape {list(array.shape)} has {len(array.values)} values; {count} items were asked about"
    )


def _named(columns: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    return {f"_{name}": column for name, column in columns.items()}


def _features(answer: Answer, ids: Sequence[str]) -> Features:
    raw, generated, context = answer.raw_features, answer.generate_features, answer.context_features
    return Features(
        [raw.get(one, "") for one in ids],
        [generated.get(one, "") for one in ids],
        [features.go_text(context[one]) if one in context else "" for one in ids],
    )


def _debug(function: Callable[[Answer, Sequence[str]], Scored]) -> Callable[[Answer, Sequence[str]], Scored]:
    return lambda answer, ids: msgspec.structs.replace(function(answer, ids), features=_features(answer, ids))


def _user_text(answer: Answer, _: Sequence[str]) -> Scored:
    """The first text of the first text array: the user's vector as the model writes it."""
    texts = (array.texts[0] for array in answer.arrays.values() if array.dtype == DT_STRING and array.texts)
    return Scored({}, user_embedding=next(texts, b"").decode("utf-8", "replace"))


def _realtime(answer: Answer, _: Sequence[str]) -> Scored:
    """The user's vector, and the items the server found near it."""
    numbers = [_number(value) for array in answer.arrays.values() for value in array.values]
    found = list(answer.results.entries)
    nearest = list(zip(found, _first(answer.results, found).tolist(), strict=True))
    return Scored({}, user_embedding=",".join(numbers), nearest=nearest, features=_first_features(answer))


def _mind(answer: Answer, _: Sequence[str]) -> Scored:
    """Several interests of the user, a vector each, and the items found near each of them."""
    ids, scores = answer.arrays.get("match_item_ids"), answer.arrays.get("match_item_scores")
    nearest: list[tuple[str, float]] = []
    if ids is not None and scores is not None:
        if len(ids.texts) != len(scores.values):
            raise AnswerError(f"{len(ids.texts)} match_item_ids, {len(scores.values)} match_item_scores")
        texts = [one.decode("utf-8", "replace") for one in ids.texts]
        nearest = list(zip(texts, scores.values.tolist(), strict=True))
    vectors = ""
    interests = answer.arrays.get("user_interests")
    if interests is not None:
        width = interests.shape[-1] if interests.shape else 0
        if width <= 0:
            raise AnswerError(
                f"user_interests has the shape {list(interests.shape)}; its last number is a vector's size"
            )
        numbers = [_number(value) for value in interests.values]
        whole = len(numbers) - len(numbers) % width
        vectors = "|".join(",".join(numbers[at : at + width]) for at in range(0, whole, width))
    return Scored({}, user_embedding=vectors, nearest=nearest, features=_first_features(answer))


def _embedding(answer: Answer, _: Sequence[str]) -> Scored:
    """The first array, if its numbers are floats."""
    first = next(iter(answer.arrays.values()), None)
    values = first.values.tolist() if first is not None and first.dtype == DT_FLOAT else []
    return Scored({}, embedding=values, model=answer.pass_through)


def _embedding_items(answer: Answer, _: Sequence[str]) -> Scored:
    """The items the server found near the user: its own ids, and `match_item_scores`."""
    array = answer.arrays.get("match_item_scores")
    if not answer.item_ids:
        return Scored({})
    if array is None or len(array.values) < len(answer.item_ids):
        have = 0 if array is None else len(array.values)
        raise AnswerError(f"{len(answer.item_ids)} items, {have} match_item_scores")
    return Scored({}, nearest=list(zip(answer.item_ids, array.values.tolist(), strict=False)))


def _embedding_items_debug(answer: Answer, _: Sequence[str]) -> Scored:
    return Scored({}, features=_first_features(answer))


def _first_features(answer: Answer) -> Features:
    """Of a server that was asked about a user: its one entry, whatever its key."""
    raw, generated = (next(iter(texts.values()), "") for texts in (answer.raw_features, answer.generate_features))
    return Features([raw], [generated], [""])


def _number(value: float) -> str:
    """All digits of the double, and no exponent."""
    return np.format_float_positional(value, trim="-")


FUNCTIONS: dict[str, Callable[[Answer, Sequence[str]], Scored]] = {
    "easyrecResponseFunc": _single,
    "easyrecResponseFuncDebug": _debug(_single),
    "easyrecMutValResponseFunc": _multiple,
    "easyrecMutValResponseFuncDebug": _multiple_debug,
    "easyrecMutClassificationResponseFunc": _classes,
    "easyrecMutClassificationResponseFuncDebug": _debug(_classes),
    "easyrecUserEmbResponseFunc": _user_text,
    "easyrecUserRealtimeEmbeddingResponseFunc": _realtime,
    "easyrecUserRealtimeEmbeddingMindResponseFunc": _mind,
    "torchrecMutValResponseFunc": _tensors,
    "torchrecMutValResponseFuncDebug": _debug(_tensors),
    "torchrecMutClassificationResponseFunc": _classes,
    "torchrecMutClassificationResponseFuncDebug": _debug(_classes),
    "torchrecEmbeddingResponseFunc": _embedding,
    "torchrecEmbeddingItemsResponseFunc": _embedding_items,
    "torchrecEmbeddingItemsResponseFuncDebug": _embedding_items_debug,
}
