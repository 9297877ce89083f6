"""What filters share: the parts of PAI-Rec's FilterConfig that several have, and what is done to candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from pairec_fast.core import Arena, select
from pairec_fast.core.pick import Shares
from pairec_fast.errors import ConfigError
from pairec_fast.expression import Column
from pairec_fast.expression.convert import to_string
from pairec_fast.query import Query
from pairec_fast.snapshot import Texts

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Whole = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class AdjustCountConf(msgspec.Struct, frozen=True, rename="pascal"):
    """What one recall, or what meets one expression, may have. *Source*: PAI-Rec, `AdjustCountConfs`."""

    recall_name: str = ""
    count: Count = 0
    type: Literal["", "fix", "accumulator"] = ""
    expression: str = ""
    weight: Count = 0


class Dao(msgspec.Struct, frozen=True, rename="pascal"):
    """Where a filter's data is: the part of PAI-Rec's DaoConfig that filters read."""

    adapter_type: str = ""
    table_name: str = ""
    redis_name: str = ""
    redis_prefix: str = ""
    hologres_name: str = ""
    hologres_table_name: str = ""


def typed(confs: Sequence[AdjustCountConf], where: str) -> None:
    """Raises ConfigError: no entry, or one whose Type says neither of how its Count is meant."""
    if not confs:
        raise ConfigError(f"{where}: empty; nothing would stay")
    for place, conf in enumerate(confs):
        if not conf.type:
            raise ConfigError(f'{where}[{place}].Type: missing; it is "fix" or "accumulator"')


def shares(confs: Sequence[AdjustCountConf], sources: Sequence[str]) -> Shares:
    """The entries with the place of each recall in `sources`; one the scene does not have gives nothing."""
    place = {name: at for at, name in reversed(list(enumerate(sources)))}
    return Shares(
        (place.get(conf.recall_name, -1), conf.count, conf.weight, conf.type == "accumulator") for conf in confs
    )


def seed(query: Query, purpose: str) -> int:
    """A number of 64 bits that depends on the request id and `purpose` alone: what is drawn can be drawn again."""
    digest = hashlib.blake2b(
        purpose.encode(), digest_size=8, key=hashlib.sha256(query.request_id.encode("utf-8", "replace")).digest()
    ).digest()
    return int.from_bytes(digest, "little")


def scores(arena: Arena) -> NDArray[np.float64]:
    """PAI-Rec's Score of each live candidate: of recall, until rank gives another."""
    return (arena.score if arena.scored else arena.recall_score)[: arena.count]


def select_as(arena: Arena, slots: NDArray[np.int32], source: NDArray[np.uint8], score: NDArray[np.float64]) -> None:
    """Select `slots`, which count for the recalls `source` with `score` from now on."""
    select(arena, slots)
    arena.source[: arena.count] = source
    scores(arena)[:] = score


def item_text(value: Any) -> str:
    """The text of an item's property as PAI-Rec's filters have it: of a number the integer part, of no text "" ."""
    if isinstance(value, float):
        return str(int(value)) if abs(value) < 2**63 else str(-(2**63))
    return "" if isinstance(value, bool) else to_string(value, "")


def text_codes(column: Column | None, count: int, empty: str = "") -> NDArray[np.int32]:
    """A number for each candidate, equal where the texts are; a missing text is `empty`, and where that is "", -1."""
    if column is None:
        return np.full(count, -1 if not empty else 0, np.int32)
    if isinstance(column, tuple):
        known, vocabulary = column
        if isinstance(vocabulary, Texts):  # its texts are distinct: their codes are as good
            instead = -1
            if empty:
                instead = vocabulary.find(empty)
                instead = instead if instead >= 0 else len(vocabulary)
            nothing = (known < 0) | (known == vocabulary.find(""))
            return np.where(nothing, np.int32(instead), known).astype(np.int32, copy=False)
        present, where = np.unique(known, return_inverse=True)
        texts = [item_text(vocabulary[code]) if code >= 0 else "" for code in present.tolist()]
    elif column.dtype.kind == "b":
        texts, where = [""], np.zeros(count, np.intp)
    else:
        distinct, where = np.unique(column, return_inverse=True)
        texts = ["" if value != value else item_text(value) for value in distinct.tolist()]
    number: dict[str, int] = {}
    codes = [number.setdefault(text or empty, len(number)) if text or empty else -1 for text in texts]
    return np.array(codes, np.int32)[where] if count else np.empty(0, np.int32)


def value_codes(column: Column | None, count: int) -> NDArray[np.int32]:
    """A number for each candidate, equal where the values are; a missing one is equal to the text "null"."""
    if column is None:
        return np.zeros(count, np.int32)
    if not isinstance(column, tuple):
        nowhere = np.isnan(column) if column.dtype.kind == "f" else np.zeros(count, np.bool_)
        codes = np.unique(column, return_inverse=True)[1].astype(np.int32)
        return np.where(nowhere, np.int32(-1), codes)
    present, where = np.unique(np.maximum(column[0], -1), return_inverse=True)
    number: dict[Any, int] = {}
    values = [column[1][code] if code >= 0 else "null" for code in present.tolist()]
    keys = [value if isinstance(value, str) else (type(value), repr(value)) for value in values]
    numbers = np.array([number.setdefault(key, len(number)) for key in keys], np.int32)
    return numbers[where] if count else np.empty(0, np.int32)
