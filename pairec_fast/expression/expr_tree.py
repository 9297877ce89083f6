"""The parts of expr-lang that other languages lack: functions with a predicate, `any(list, # > 3)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pairec_fast.expression.expr_values import BINARY, kind_of, total
from pairec_fast.expression.syntax import Node, Whole
from pairec_fast.expression.value import Failure


class Local(Node):
    """What a predicate looks at: `#`, `#index` or `#acc`."""

    def __init__(self, name: str, place: int) -> None:
        self.name = name
        self.place = place

    def value(self, names: Mapping[str, Any]) -> Any:
        return names[self.name]

    def leaves(self) -> Iterator[tuple[str, str | None]]:
        return iter(())


class Each(Whole):
    """A function of a list and of a predicate that is asked for its elements."""

    def __init__(self, kind: str, values: Node, body: Node | None, rest: tuple[Node, ...], place: int) -> None:
        self.kind = kind
        self.values = values
        self.body = body
        self.rest = rest
        self.place = place

    def parts(self) -> tuple[Node, ...]:
        return (self.values, *([self.body] if self.body is not None else []), *self.rest)

    def value(self, names: Mapping[str, Any]) -> Any:
        values = self.values.value(names)
        if not isinstance(values, (list, tuple)):
            raise Failure(f"{self.kind} is not defined on {kind_of(values)}")
        inner = dict(names)

        def ask(element: Any, place: int) -> Any:
            if self.body is None:
                return element
            inner["#"], inner["#index"] = element, place
            return self.body.value(inner)

        if self.kind == "reduce":
            return self._reduce(list(values), inner, ask, names)
        return PREDICATES[self.kind](list(values), ask)

    def _reduce(self, values: list[Any], inner: dict[str, Any], ask: Any, names: Mapping[str, Any]) -> Any:
        if not self.rest and not values:
            raise Failure("reduce of an empty list needs a first value")
        first = 0 if self.rest else 1
        inner["#acc"] = self.rest[0].value(names) if self.rest else values[0]
        for place, element in list(enumerate(values))[first:]:
            inner["#acc"] = ask(element, place)
        return inner["#acc"]


Ask = Callable[[Any, int], Any]


def _holds(values: list[Any], ask: Ask) -> Iterator[tuple[int, Any, bool]]:
    for place, element in enumerate(values):
        answer = ask(element, place)
        if type(answer) is not bool:
            raise Failure("a predicate must be a boolean")
        yield place, element, answer


def _find(values: list[Any], ask: Ask, last: bool, place_wanted: bool) -> Any:
    for place, element in list(enumerate(values))[:: -1 if last else 1]:
        answer = ask(element, place)
        if type(answer) is not bool:
            raise Failure("a predicate must be a boolean")
        if answer:
            return place if place_wanted else element
    return None


def _sort_by(values: list[Any], ask: Ask) -> list[Any]:
    keys = [ask(element, place) for place, element in enumerate(values)]
    less = BINARY["<"].function
    order = list(range(len(values)))
    for at in range(1, len(order)):  # by insertion: lists are short, and keys that do not compare are noticed
        while at > 0 and less(keys[order[at]], keys[order[at - 1]]):
            order[at], order[at - 1] = order[at - 1], order[at]
            at -= 1
    return [values[place] for place in order]


PREDICATES: dict[str, Callable[[list[Any], Ask], Any]] = {
    "all": lambda values, ask: all(answer for _, _, answer in _holds(values, ask)),
    "any": lambda values, ask: any(answer for _, _, answer in _holds(values, ask)),
    "none": lambda values, ask: not any(answer for _, _, answer in _holds(values, ask)),
    "one": lambda values, ask: sum(answer for _, _, answer in _holds(values, ask)) == 1,
    "filter": lambda values, ask: [element for _, element, answer in _holds(values, ask) if answer],
    "map": lambda values, ask: [ask(element, place) for place, element in enumerate(values)],
    "count": lambda values, ask: sum(answer for _, _, answer in _holds(values, ask)),
    "sum": lambda values, ask: total([ask(element, place) for place, element in enumerate(values)]),
    "find": lambda values, ask: _find(values, ask, False, False),
    "findIndex": lambda values, ask: _find(values, ask, False, True),
    "findLast": lambda values, ask: _find(values, ask, True, False),
    "findLastIndex": lambda values, ask: _find(values, ask, True, True),
    "sortBy": _sort_by,
}
WITH_PREDICATE = {*PREDICATES, "reduce"}
PREDICATE_OPTIONAL = {"count", "sum"}
