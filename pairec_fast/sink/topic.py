"""A DataHub topic through the official client: made on demand, written to, its errors sorted by what to do about them.

The client is optional (`pip install 'pairec_fast[datahub]'`) and is touched nowhere else. *Source*: PAI-Rec's
`DatahubConfs` (PAIREC 2 and 9.5); the client is `pydatahub`, protocol `protobuf`, so that doubles arrive as they are.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import re
import time
import zlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from pairec_fast.errors import ConfigError
from pairec_fast.sink.tuples import PUBLIC, Column, Tuples

SHARDS = 6
LIFECYCLE_DAYS = 3
CONNECT_SECONDS, ANSWER_SECONDS = 5, 30

# What the configuration may say -> the client's name. Its "deflate" sends bytes as they are; its "zlib" deflates them.
COMPRESSORS = {"": "LZ4", "lz4": "LZ4", "zlib": "ZLIB", "deflate": "ZLIB", "none": "NONE"}

_ADDRESS = re.compile(r"<[\w.]+(\([^<>]*\))? ?(object at 0x[0-9a-f]+)?>:? ?")  # of objects, in texts of exceptions

Kind = Literal["retry", "throttled", "denied", "moved", "refused", "too large"]

_KINDS: dict[str, Kind] = {
    "LimitExceeded": "throttled",
    "Unauthorized": "denied",
    "NoPermission": "denied",
    "OperationDenied": "denied",
    "NoSuchProject": "denied",
    "NoSuchTopic": "moved",
    "NoSuchShard": "moved",
    "InvalidShardId": "moved",
    "InvalidShardOperation": "moved",
    "InvalidOperation": "moved",
    "InvalidParameter": "refused",
    "InvalidSchema": "refused",
    "MalformedRecord": "refused",
    "RequestTooLarge": "too large",
}


class Target(NamedTuple):
    """Whom to write to. No columns: the public set, or those of the topic if it is there already."""

    access_id: str
    access_key: str
    endpoint: str
    project: str
    topic: str
    compressor: str = ""
    columns: tuple[Column, ...] = ()

    def __repr__(self) -> str:
        return f"Target({self.endpoint!r}, {self.project!r}, {self.topic!r})"


class Row(NamedTuple):
    """One tuple to be written. `name` says which row of which record it is; equal keys go to one shard."""

    values: list[Any]
    key: str
    name: dict[str, str]


class Failure(NamedTuple):
    """A row of a batch that was not taken, by its place there."""

    place: int
    kind: Kind
    code: str
    reason: str


class Trouble(Exception):
    """A request that failed as a whole. `kind` says what to do about it, `code` what the server or the socket said."""

    def __init__(self, kind: Kind, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.kind, self.code, self.reason = kind, code, reason


def require_client() -> None:
    """Refuse to start without the client.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        importlib.metadata.version("pydatahub")  # by its package: another one has a module of that name too
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            'DataSource.Type "datahub" needs the package pydatahub, which is not installed; '
            "pip install 'pairec_fast[datahub]'"
        ) from None


class Topic:
    """Writes batches. One thread at a time; `connect` comes first, and again after `Trouble` of kind `moved`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tuples: Tuples | None = None  # None until connected
        self.differs = ""  # how the topic that was there differs from the configured columns
        self._client: Any = None
        self._booleans: tuple[int, ...] = ()
        self._shards: list[str] = []

    @property
    def shards(self) -> tuple[str, ...]:
        """The active ones, as of the last `connect`."""
        return tuple(self._shards)

    def connect(self) -> None:
        """Look the topic up, make it if there is none, and list its active shards.

        The schema of a topic that is there already counts, as in PAI-Rec.

        Raises:
            Trouble
        """
        from datahub.exceptions import ResourceExistException, ResourceNotFoundException

        project, topic = self.target.project, self.target.topic
        try:
            client = self._client = self._client or self._new_client()
            try:
                schema = client.get_topic(project, topic).record_schema
            except ResourceNotFoundException as missing:
                if missing.error_code == "NoSuchProject":
                    raise
                with contextlib.suppress(ResourceExistException):  # another worker was faster
                    client.create_tuple_topic(
                        project, topic, SHARDS, LIFECYCLE_DAYS, self._wanted_schema(), f"create topic {topic}"
                    )
                client.wait_shards_ready(project, topic, ANSWER_SECONDS)
                schema = client.get_topic(project, topic).record_schema
            shards = client.list_shard(project, topic).shards
        except Exception as error:
            raise self._trouble(error) from None
        if schema is None:
            raise Trouble("denied", "NotTuple", f"topic {project}/{topic} holds blobs, not tuples")
        columns = tuple(Column(field.name, field.type.value, field.allow_null) for field in schema.field_list)
        if self.tuples is None or self.tuples.columns != columns:
            self.tuples = Tuples(columns)
            self._booleans = tuple(at for at, column in enumerate(columns) if column.type == "boolean")
        self.differs = _difference(self.target.columns, columns)
        self._shards = [shard.shard_id for shard in shards if shard.state.value == "ACTIVE"]
        if not self._shards:
            raise Trouble("retry", "NoActiveShard", f"topic {project}/{topic} has no active shard")

    def put(self, rows: Sequence[Row]) -> list[Failure]:
        """Write a batch. Answers the rows that were not taken; all others were.

        Raises:
            Trouble: none was taken, as far as one can know.
        """
        try:
            records = [
                Encoded(row, self._shards[zlib.crc32(row.key.encode()) % len(self._shards)], self._booleans)
                for row in rows
            ]
            time.sleep(0)  # others may have the interpreter now: the client encodes in one go
            answer = self._client.put_records(self.target.project, self.target.topic, records)
        except Exception as error:
            raise self._trouble(error) from None
        return [
            Failure(failed.index, *_sorted(str(failed.error_code or ""), -1), self._clean(str(failed.error_message)))
            for failed in answer.failed_records or ()
        ]

    def close(self) -> None:
        """Let the connections go."""
        self._client = None

    def _new_client(self) -> Any:
        from datahub import DataHub
        from datahub.core import DatahubProtocolType
        from datahub.models.compress import CompressFormat

        client = DataHub(
            self.target.access_id, self.target.access_key, self.target.endpoint,
            CompressFormat[COMPRESSORS[self.target.compressor.lower()]], protocol_type=DatahubProtocolType.PB,
            user_agent="pairec_fast", retry_times=0, conn_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS,
        )  # fmt: skip
        _verify_certificates(client)
        for name in ("datahub.rest", "datahub.account"):  # what they say may quote keys; `Trouble` does not
            logging.getLogger(name).setLevel(logging.CRITICAL)
        return client

    def _wanted_schema(self) -> Any:
        from datahub.models import FieldType, RecordSchema

        columns = self.target.columns or PUBLIC
        return RecordSchema.from_lists(
            [column.name for column in columns], [FieldType(column.type) for column in columns]
        )

    def _trouble(self, error: Exception) -> Trouble:
        """What the client raised, sorted. Its texts may quote what it was given, so keys are taken out of them."""
        if isinstance(error, Trouble):
            return error
        code = str(getattr(error, "error_code", None) or type(error).__name__)
        status = getattr(error, "status_code", -1)
        reason = self._clean(str(getattr(error, "error_msg", None) or error))
        return Trouble(*_sorted(code, status if isinstance(status, int) else -1), reason)

    def _clean(self, text: str) -> str:
        for secret in (self.target.access_key, self.target.access_id):
            if secret:
                text = text.replace(secret, "***")
        return " ".join(_ADDRESS.sub("", text).split())[:500]


class Encoded:
    """What the client's `TupleRecord` makes of a row, without its checks, which `Tuples` has made already."""

    __slots__ = ("_entry",)

    def __init__(self, row: Row, shard: str, booleans: tuple[int, ...]) -> None:
        cells = [{"value": None if value is None else str(value).encode()} for value in row.values]
        for at in booleans:
            if row.values[at] is not None:
                cells[at] = {"value": b"true" if row.values[at] else b"false"}
        pairs = [{"key": key, "value": value} for key, value in row.name.items()]
        self._entry = {"shard_id": shard, "attributes": {"attributes": pairs}, "data": {"data": cells}}

    def to_pb_record_entry(self) -> dict[str, Any]:
        return self._entry


def _sorted(code: str, status: int) -> tuple[Kind, str]:
    if status == 413:
        return "too large", code
    # The client checks arguments by itself, and raises this without a code or a status.
    return "refused" if code == "InvalidParameterException" else _KINDS.get(code, "retry"), code


def _difference(wanted: Sequence[Column], found: Sequence[Column]) -> str:
    types = {column.name: column.type for column in found}
    parts = [
        f"{column.name} is {types.get(column.name, 'missing')}, configured {column.type}"
        for column in wanted
        if types.get(column.name) != column.type
    ]
    return "; ".join(parts)


def _verify_certificates(client: Any) -> None:
    """The client talks TLS to anybody. Its session gets an adapter that looks at certificates."""
    from requests.adapters import HTTPAdapter

    class Verifying(HTTPAdapter):  # type: ignore[misc, unused-ignore]
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            options["verify"] = os.environ.get("REQUESTS_CA_BUNDLE") or True
            return super().send(request, *arguments, **options)

    client._datahub_impl._rest_client._session.mount("https://", Verifying(max_retries=0))
