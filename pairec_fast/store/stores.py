"""The live stores of one engine, and the event loop they live on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import difflib
import importlib.util
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from pairec_fast.errors import ConfigError, NotReadyError, OverloadedError, StoreError
from pairec_fast.metrics import Metrics
from pairec_fast.store.conf import HologresConf, RedisConf
from pairec_fast.store.lmdb import Lmdb
from pairec_fast.store.postgres import Postgres
from pairec_fast.store.redis import Redis

T = TypeVar("T")

CLOSING_SECONDS = 5.0


class _RedisAt(msgspec.Struct):
    """PAI-Rec's keys of a `CacheConfig`, without regard to case."""

    host: str = ""
    port: int = 0
    password: str = ""
    max_idle: int = msgspec.field(name="maxidle", default=0)
    db_num: int = msgspec.field(name="dbnum", default=0)


class Confs(Protocol):
    """What of a configuration the stores read."""

    @property
    def redis_confs(self) -> Mapping[str, RedisConf]: ...

    @property
    def hologres_confs(self) -> Mapping[str, HologresConf]: ...

    def path(self, text: str) -> Path: ...


class Closing(Protocol):
    async def close(self) -> None: ...


class Stores:
    """Clients by configured name, made and tried out when they are first asked for.

    The loop's thread starts with the first client of a server, and ends with `close` or when nobody holds the object.
    """

    def __init__(self, confs: Confs, metrics: Metrics | None = None, awaiting_max: int = 256) -> None:
        """`awaiting_max`: requests that `admit` lets in at once."""
        self._awaiting, self._awaiting_max, self._counting = 0, awaiting_max, threading.Lock()
        self._confs, self._metrics = confs, metrics or Metrics()
        self._lock = threading.RLock()  # of the loop; requests take it, so nobody waits for anything while holding it
        self._trying = threading.RLock()  # of the clients; held while one is tried out
        self._clients: dict[str, Redis | Postgres] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end: weakref.finalize[Any, Any] | None = None
        self._closed, self._pid = False, os.getpid()

    def redis(self, name: str, where: str = "") -> Redis:
        """The Redis that `RedisConfs` knows by that name; `where` says which key of the configuration names it.

        Raises:
            ConfigError: no such name, the package is not installed, or it does not answer.
        """
        client = self._client("RedisConfs", name, where)
        assert isinstance(client, Redis)
        return client

    def postgres(self, name: str, where: str = "") -> Postgres:
        """The PostgreSQL that `HologresConfs` knows by that name; `where` as in `redis`.

        Raises:
            ConfigError: as `redis`.
        """
        client = self._client("HologresConfs", name, where)
        assert isinstance(client, Postgres)
        return client

    def lmdb(self, path: str, database: str = "") -> Lmdb:
        """The LMDB environment at `path`, relative to the configuration file; `database` names one within it.

        Raises:
            ConfigError: no environment there, no such database, or the package is not installed.
        """
        _installed("lmdb", "lmdb", f'AdapterType "lmdb" ({path})')
        return Lmdb(self._confs.path(path), database)

    def redis_at(self, conf: Mapping[str, Any], where: str) -> Redis:
        """A Redis that `conf` describes by the fields of RedisConfs; `where` says which key of the configuration it is.

        Raises:
            ConfigError: no such fields, or as `redis`.
        """
        try:
            made = msgspec.convert({key.casefold(): value for key, value in conf.items()}, _RedisAt)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{where}: {error}") from error
        taken = {name: getattr(made, name) for name in made.__struct_fields__}
        given = RedisConf(**{name: value for name, value in taken.items() if value})
        client = self._tried(where, lambda: self._redis(where, given))
        assert isinstance(client, Redis)
        return client

    def run(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the stores' loop, from any thread. Cancelling the future cancels it.

        Raises:
            NotReadyError: closed.
        """
        with self._lock:
            if self._closed:
                coroutine.close()
                raise NotReadyError("the stores are closed")
            if os.getpid() != self._pid:  # the thread of the loop did not come along: it would be awaited for ever
                coroutine.close()
                raise NotReadyError("live stores were opened before this process was forked; make the engine in it")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # The thread holds the loop and not this object, so that stores nobody holds any more can go.
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="pairec-stores", daemon=True)
                self._thread.start()
                self._end = weakref.finalize(self, _stop, self._loop)
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def admit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """As `run`, of what a request awaits: it counts until it is over, whether anybody still waits for it or not.

        Raises:
            OverloadedError: as many as may be are awaited already.
            NotReadyError: closed.
        """
        with self._counting:
            full = self._awaiting >= self._awaiting_max
            self._awaiting += not full
        if full:
            coroutine.close()
            raise OverloadedError(f"{self._awaiting_max} requests wait for live stores already")
        try:
            running = self.run(coroutine)
        except BaseException:
            self._over()
            raise
        running.add_done_callback(self._over)
        return running

    def _over(self, _: object = None) -> None:
        with self._counting:
            self._awaiting -= 1

    def close(self, others: Iterable[Closing] = ()) -> None:
        """Close all clients, and `others` that live on the loop, and end it; what is still awaited is cancelled.
        Idempotent."""
        with self._lock:
            if self._closed:
                return
            clients = [*self._clients.values(), *others]
            ending = [self.run(client.close()) for client in clients]
            self._closed = True
        with contextlib.suppress(concurrent.futures.CancelledError):
            concurrent.futures.wait(ending, CLOSING_SECONDS)
        if self._end is not None and self._thread is not None:
            self._end()
            self._thread.join(CLOSING_SECONDS)

    def __enter__(self) -> Stores:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _client(self, section: str, name: str, where: str) -> Redis | Postgres:
        own = f"{section}.{name}"
        if section == "RedisConfs":
            redis_conf = _named(self._confs.redis_confs, name, section, where)
            return self._tried(own, lambda: self._redis(own, redis_conf))
        conf = _named(self._confs.hologres_confs, name, section, where)
        return self._tried(own, lambda: self._postgres(own, conf))

    def _redis(self, where: str, conf: RedisConf) -> Redis:
        _installed("redis", "redis", where)
        return Redis(where, conf, self._metrics)

    def _postgres(self, where: str, conf: HologresConf) -> Postgres:
        _installed("psycopg", "postgres", where)
        _installed("psycopg_pool", "postgres", where)
        return Postgres(where, conf, self._metrics)

    def _tried(self, where: str, make: Callable[[], Redis | Postgres]) -> Redis | Postgres:
        with self._trying:  # two scenes may ask for one store at once
            known = self._clients.get(where)
            if known is not None:
                return known
            client = make()
            try:
                self.run(client.start()).result()
            except StoreError as error:
                self.run(client.close())
                raise ConfigError(f"{where}: it must answer when the engine starts, and does not: {error}") from error
            with self._lock:
                if not self._closed:
                    self._clients[where] = client
                    return client
            raise NotReadyError("the stores were closed while one was opened")


def _named(confs: Mapping[str, T], name: str, section: str, where: str) -> T:
    if not isinstance(confs, Mapping):  # it was reported as wrong
        raise ConfigError(f"{section}: cannot be read")
    if name in confs:
        return confs[name]
    close = difflib.get_close_matches(name, confs, 1)
    hint = f' (did you mean "{close[0]}"?)' if close else ""
    have = ", ".join(f'"{known}"' for known in sorted(confs)) or "none"
    raise ConfigError(f'{where or section}: {section} has no "{name}"{hint}; it has {have}')


def _installed(module: str, extra: str, where: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"{where}: the Python package {module} is not installed; `pip install 'pairec_fast[{extra}]'` brings it"
        )


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        for _ in range(10):  # again and again: a client may answer the first with one more try to reach its server
            left = asyncio.all_tasks(loop)
            if not left:
                break
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=0.1))
        loop.run_until_complete(asyncio.sleep(0))  # who waits for what has ended hears of it
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    if not loop.is_closed():
        with contextlib.suppress(RuntimeError):  # it may close in between
            loop.call_soon_threadsafe(loop.stop)
