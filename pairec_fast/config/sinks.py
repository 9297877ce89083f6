"""Where records go: the ring, and the sinks behind it. What is not said to be ours is PAI-Rec's."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from pairec_fast.errors import ConfigError
from pairec_fast.sink.topic import COMPRESSORS
from pairec_fast.sink.tuples import TYPES

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Filled = Annotated[str, Meta(min_length=1)]


class DataSource(Struct, frozen=True, rename="pascal"):
    """A sink: `type` is `disk`, `kafka` or `datahub`, `name` one of DiskConfs, KafkaConfs or DatahubConfs."""

    name: str = ""
    type: str = ""


class LogRingConf(Struct, frozen=True, rename="pascal"):
    """Ours: the ring that callbacks are written to and the segments it is flushed to.

    explicit_policy: what an explicit callback does when the ring is full: `block` asks again for block_milliseconds
        before it is answered 503, `drop_newest` does not. Of an automatic one the newest is always dropped.
    durability: the promise of an accepted callback, see `pairec_fast.logs`. durability_milliseconds: how long an
        explicit callback waits for it.
    retention_bytes, retention_seconds: closed segments of a sink are removed beyond this size together or this age, the
        oldest first; 0 keeps them.
    free_bytes_min: with less free space on a sink's disk nothing is written, and records wait in the ring; null is
        1 GiB or, of a smaller disk, 5 % of it; 0 is no mark.
    adopt_seconds: what a dead worker left in its ring is written out by another after so long, if none has followed it.
    dropped_seconds: for so long after a callback was dropped the worker is not ready; 0 is never.
    """

    directory: str = ""
    ring_bytes: Positive = 64 << 20
    segment_bytes: Positive = 128 << 20
    segment_seconds: Positive = 60
    sync_milliseconds: Positive = 50
    explicit_policy: Literal["block", "drop_newest"] = "block"
    block_milliseconds: Annotated[float, Meta(ge=0, le=1000)] = 2.0
    durability: Literal["memory", "process", "synced", "delivered"] = "process"
    durability_milliseconds: Positive = 2000
    retention_bytes: Count = 0
    retention_seconds: Count = 0
    free_bytes_min: Count | None = None
    adopt_seconds: Annotated[float, Meta(gt=0)] = 10.0
    dropped_seconds: Annotated[float, Meta(ge=0)] = 10.0


class DiskConf(Struct, frozen=True, rename="pascal"):
    """Ours: a sink that writes files into a directory."""

    directory: Filled

    def folder(self, name: str) -> str:
        """Where the segments of the sink `name` lie."""
        return self.directory


_ENDPOINT = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")


class DatahubField(Struct, frozen=True, rename="pascal"):
    """A field of a topic: `type` is one of DataHub's, in small letters."""

    field: Filled
    type: str

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ConfigError(f"Type: {unknown(self.type, TYPES)}")


class DatahubConf(Struct, frozen=True, rename="pascal"):
    """A topic of DataHub. No `schemas`: the public set of PAI-Rec's log. `directory` is ours: where records wait for
    delivery, `tmp/PROJECT/TOPIC/NAME` unless given."""

    access_id: Filled
    access_key: Filled
    endpoint: str
    project_name: str
    topic_name: str
    compressor_type: str = ""
    schemas: tuple[DatahubField, ...] = ()
    directory: str = ""

    def __post_init__(self) -> None:
        if "@" in self.endpoint:
            raise ConfigError("Endpoint: expected an address alone; keys belong in AccessId and AccessKey")
        if not _ENDPOINT.fullmatch(self.endpoint):
            raise ConfigError(f'Endpoint: expected "http://HOST" or "https://HOST", got "{self.endpoint:.200}"')
        for key, name, least, most in (
            ("ProjectName", self.project_name, 3, 32),
            ("TopicName", self.topic_name, 1, 128),
        ):
            if not (_NAME.fullmatch(name) and least <= len(name) <= most):
                rule = f"{least} to {most} letters, digits and underscores, a letter first"
                raise ConfigError(f'{key}: expected {rule}, got "{name:.200}"')
        if self.compressor_type.lower() not in COMPRESSORS:
            raise ConfigError(f"CompressorType: {unknown(self.compressor_type, COMPRESSORS)}")
        repeated = [name for name, count in Counter(entry.field for entry in self.schemas).items() if count > 1]
        if repeated:
            raise ConfigError(f'Schemas: "{repeated[0]}" is given more than once')

    def folder(self, name: str) -> str:
        """Where records of the sink `name` wait."""
        return self.directory or f"tmp/{self.project_name}/{self.topic_name}/{name}"

    def __repr__(self) -> str:
        """Without the keys."""
        return f"DatahubConf({self.endpoint!r}, {self.project_name!r}, {self.topic_name!r})"


def unknown(word: str, words: Iterable[str]) -> str:
    """Says that `word` is none of `words`, and which is near."""
    known = [known for known in words if known]
    near = difflib.get_close_matches(word.casefold(), known, n=1)
    hint = f' (did you mean "{near[0]}"?)' if near else ""
    return f'unknown "{word:.100}"{hint}; known are {", ".join(known)}'


class KafkaConf(Struct, frozen=True, rename="pascal"):
    """A topic that records are sent to, one message per row.

    directory: ours; where records wait while brokers are away, and where those go that brokers refuse for good. Unless
        set, `spill/` and the sink's name, beside the configuration.
    properties: ours; settings of librdkafka by its names, for example `security.protocol`. Batches keep to the topic's
        `max.message.bytes` if the user may describe its configuration. If not, and it is below 1,000,000, set
        `batch.size` to it: otherwise brokers refuse batches for their size, and the order of a user's rows is not kept
        around them.
    library: ours; a path of librdkafka, instead of the system's or the confluent-kafka package's.
    """

    bootstrap_servers: str = ""
    topic: str = ""
    directory: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    library: str = ""

    def folder(self, name: str) -> str:
        """Where records of the sink `name` wait."""
        return self.directory or f"spill/{name}"
