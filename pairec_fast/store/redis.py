"""Redis, by PAI-Rec's layouts: texts, hashes and lists. Keys and values are text; what is no UTF-8 becomes U+FFFD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pairec_fast.errors import StoreError
from pairec_fast.metrics import Metrics
from pairec_fast.store.conf import RedisConf
from pairec_fast.store.gate import Gate

CONNECTIONS = 16  # without MaxIdle

Command = tuple[str | int | float | bytes, ...]


class Redis:
    """One server. Every method raises `StoreError` when it is late, down, or answers with an error."""

    def __init__(self, name: str, conf: RedisConf, metrics: Metrics) -> None:
        """`name` begins its errors: the place of the configuration that has it."""
        from redis import asyncio as client
        from redis import exceptions
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self.name = name
        connect, read, write = conf.connect_timeout / 1e3, conf.read_timeout / 1e3, conf.write_timeout / 1e3
        self._reading, self._writing, self._starting = connect + read, connect + write, connect + max(read, write)
        pool = client.BlockingConnectionPool(
            host=conf.host,
            port=conf.port,
            password=conf.password or None,
            db=conf.db_num,
            max_connections=conf.max_idle or CONNECTIONS,
            timeout=None,  # for a free connection: our own limits are over all of a call
            socket_connect_timeout=connect,
            socket_timeout=max(read, write),
            decode_responses=True,
            encoding_errors="replace",
            protocol=2,
            retry=Retry(NoBackoff(), 0),  # trying again is the gate's business
        )
        self._client: Any = client.Redis(connection_pool=pool)
        self._gate = Gate(
            name,
            metrics,
            down=(exceptions.ConnectionError, exceptions.TimeoutError, exceptions.RedisError, OSError),
            refused=(exceptions.ResponseError, exceptions.DataError),
            is_down=lambda error: str(error).startswith(("LOADING", "MASTERDOWN", "NOAUTH")),
            late=(exceptions.TimeoutError,),
        )

    async def start(self) -> None:
        """Raises StoreError: it does not answer, or refuses the password."""
        await self._gate.call(lambda: self._client.execute_command("PING"), self._starting)

    async def close(self) -> None:
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def get(self, key: str) -> str | None:
        found: str | None = await self._read("GET", key)
        return found

    async def mget(self, keys: Sequence[str]) -> list[str | None]:
        """A value or None for each of `keys`, none of which need exist; keys of another type are None."""
        if not keys:
            return []
        found: list[str | None] = await self._read("MGET", *keys)
        return found

    async def hgetall(self, key: str) -> dict[str, str]:
        """All fields of a hash; none if there is no such key."""
        found: dict[str, str] = await self._read("HGETALL", key)
        return found

    async def hmget(self, key: str, fields: Sequence[str]) -> list[str | None]:
        """A value or None for each of `fields`."""
        if not fields:
            return []
        found: list[str | None] = await self._read("HMGET", key, *fields)
        return found

    async def lrange(self, key: str, first: int = 0, last: int = -1) -> list[str]:
        """Elements of a list; `last` counts too."""
        found: list[str] = await self._read("LRANGE", key, first, last)
        return found

    async def read(self, commands: Iterable[Command]) -> list[Any]:
        """The answers to several commands, in one round: `("GET", key)`. An error of one is an error of all."""
        return await self._together(commands, self._reading, atomic=False)

    async def read_each(self, commands: Iterable[Command]) -> list[Any]:
        """As `read`, but where Redis refuses one, as of a key of another type, a StoreError stands in its place."""
        answers = await self._together(commands, self._reading, atomic=False, each=True)
        if not any(issubclass(kind, Exception) for kind in set(map(type, answers))):
            return answers
        return [StoreError(f"{self.name}: {one}") if isinstance(one, Exception) else one for one in answers]

    async def write(self, commands: Iterable[Command]) -> list[Any]:
        """Several commands in one round, all or none: `("LPUSH", key, value)`, `("EXPIRE", key, seconds)`.

        Not tried again: whether a write that got no answer was done is not known.
        """
        return await self._together(commands, self._writing, atomic=True)

    async def _read(self, *command: str | int) -> Any:
        return await self._gate.call(lambda: self._client.execute_command(*command), self._reading)

    async def _together(
        self, commands: Iterable[Command], seconds: float, *, atomic: bool, each: bool = False
    ) -> list[Any]:
        listed = list(commands)
        if not listed:
            return []

        async def work() -> list[Any]:
            async with self._client.pipeline(transaction=atomic) as pipeline:
                for command in listed:
                    pipeline.execute_command(*command)
                answers: list[Any] = await pipeline.execute(raise_on_error=not each)
                if answers and all(isinstance(answer, Exception) for answer in answers):
                    raise answers[0]  # the server's state, or every key's: either way nothing came
                return answers

        return await self._gate.call(work, seconds)
