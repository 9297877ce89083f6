"""PostgreSQL, or Hologres, which speaks its protocol. Rows by a statement; names that come from the configuration are
quoted, values are parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pairec_fast.errors import ConfigError, StoreError
from pairec_fast.metrics import Metrics
from pairec_fast.store.conf import HologresConf
from pairec_fast.store.gate import Gate

STARTING_SECONDS = 3.0
CONNECTIONS = 4  # kept open: a connection that takes a late question back is away for a while
_NAME = re.compile(r'\s*(?:"((?:[^"\0]|"")+)"|([^\W\d][\w$]*))\s*')


class Postgres:
    """One server and its pool of connections. Statements commit by themselves."""

    def __init__(self, name: str, conf: HologresConf, metrics: Metrics) -> None:
        """`name` begins its errors. Raises ConfigError: DSN is no connection text."""
        import psycopg
        import psycopg_pool

        self.name = name
        self._conninfo = _conninfo(conf.dsn, f"{name}.DSN")
        self._pool: Any = psycopg_pool.AsyncConnectionPool(
            self._conninfo,
            min_size=min(CONNECTIONS, conf.pool_size),
            max_size=conf.pool_size,
            open=False,
            name=f"pairec {name}",
            timeout=60.0,  # for a free connection: our own limits are over all of a call
            reconnect_timeout=60.0,
            kwargs={"autocommit": True},
        )
        self._failed = (psycopg.OperationalError, psycopg.InterfaceError)
        self._gate = Gate(
            name,
            metrics,
            down=(*self._failed, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed, OSError),
            refused=(psycopg.Error, UnicodeError),
            is_down=self._is_down,
        )

    async def start(self) -> None:
        """Raises StoreError: it does not answer, or refuses the user."""
        import psycopg

        async def work() -> None:
            # Once by itself: the pool tries again and again, and keeps to itself what the server says.
            connection = await psycopg.AsyncConnection.connect(self._conninfo)
            await connection.close()
            await self._pool.open(wait=True, timeout=STARTING_SECONDS)

        await self._gate.call(work, STARTING_SECONDS)

    async def close(self) -> None:
        await self._pool.close(timeout=1.0)

    async def rows(self, sql: Any, args: Sequence[Any] = (), timeout: float = 0.1) -> list[tuple[Any, ...]]:
        """The rows of a statement, a text or what `psycopg.sql` composed, with `%s` for each of `args`.

        `timeout` in seconds is over all of it, the wait for a free connection too. What is late is cancelled on the
        server. A connection that turns out to be broken is replaced, and the statement is sent once more.

        Raises:
            StoreError: late, down, or the server's own error.
        """
        return (await self.table(sql, args, timeout))[1]

    async def table(
        self, sql: Any, args: Sequence[Any] = (), timeout: float = 0.1
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """As `rows`, and before them the names of their columns."""
        return await self._gate.call(lambda: self._again(sql, args), timeout)

    async def execute(self, sql: Any, args: Sequence[Any] = (), timeout: float = 0.1) -> int:
        """How many rows a statement changed. As `rows`, but it is sent once only.

        Raises:
            StoreError: as `rows`; whether a statement that got no answer was done is not known.
        """

        async def work() -> int:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(sql, args)
                return int(cursor.rowcount)

        return await self._gate.call(work, timeout)

    async def check(self, sql: Any, args: Sequence[Any], where: str, timeout: float = STARTING_SECONDS) -> None:
        """Run a statement once, for its errors.

        Raises:
            ConfigError: the server refuses it, with what it says; `where` names who asks for it.
        """
        try:
            await self.rows(sql, args, timeout)
        except StoreError as error:
            raise ConfigError(f"{where}: {error}") from error

    @staticmethod
    def identifier(text: str, where: str) -> Any:
        """As the function of that name."""
        return identifier(text, where)

    @staticmethod
    def compose(text: str, *parts: Any) -> Any:
        """A statement: `text` with `{0}`, `{1}`, ... replaced by `parts`, which `identifier` or this made."""
        from psycopg import sql

        return sql.SQL(text).format(*parts)

    async def _again(self, sql: Any, args: Sequence[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        try:
            return await self._once(sql, args)
        except self._failed as error:
            if not self._is_down(error):
                raise
            await self._pool.check()  # after a restart all idle connections are broken, not this one alone
            return await self._once(sql, args)

    async def _once(self, sql: Any, args: Sequence[Any]) -> tuple[list[str], list[tuple[Any, ...]]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(sql, args)
            rows = await cursor.fetchall()
            return [column.name for column in cursor.description or ()], rows

    def _is_down(self, error: Exception) -> bool:
        """Whether the server, and not the statement, is at fault: no answer, or one of these classes of SQLSTATE."""
        state = getattr(error, "sqlstate", None)
        if state is None:
            return isinstance(error, self._failed)
        return state[:2] in ("08", "53", "58") or state[:3] == "57P"


def composer() -> Any:
    """`psycopg.sql`, which puts statements together. For those who have a client, and so the package."""
    from psycopg import sql

    return sql


def identifier(text: str, where: str) -> Any:
    """A name of the configuration as `psycopg.sql` takes it, read as the server reads it in a statement: parts between
    dots, in small letters unless in double quotes.

    Raises:
        ConfigError: no name; so nothing but a name ever gets into a statement.
    """
    from psycopg import sql

    parts: list[str] = []
    at = 0
    while match := _NAME.match(text, at):
        parts.append(match[1].replace('""', '"') if match[1] else match[2].lower())
        at = match.end()
        if at == len(text):
            return sql.Identifier(*parts)
        if text[at] != ".":
            break
        at += 1
    raise ConfigError(f"{where}: expected a name as in SQL, for example items or public.items, got {text!r:.100}")


def _conninfo(dsn: str, where: str) -> str:
    """`dsn` for libpq. Other drivers take settings of the session among a URL's parameters: these become `options`.

    Raises:
        ConfigError: it cannot be read. The message does not repeat any of it: there is a password in it.
    """
    import psycopg
    from psycopg import conninfo

    try:
        if dsn.startswith(("postgres://", "postgresql://")):
            dsn = _with_options(dsn)
        checked: str = conninfo.make_conninfo(dsn)
    except (psycopg.Error, ValueError):
        raise ConfigError(
            f"{where}: expected a connection text, as postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=disable"
        ) from None
    return checked


def _with_options(dsn: str) -> str:
    from psycopg.pq import Conninfo

    parts = urlsplit(dsn)
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"ssl", "jdbc"}
    given = parse_qsl(parts.query, keep_blank_values=True)
    kept = {key: value for key, value in given if key in known}
    settings = [(key, value) for key, value in given if key not in known and key != "binary_parameters"]
    if settings:
        escaped = (
            f"-c {key}={value.replace(chr(92), chr(92) * 2).replace(' ', chr(92) + ' ')}" for key, value in settings
        )
        kept["options"] = " ".join([*filter(None, [kept.get("options")]), *escaped])
    return urlunsplit(parts._replace(query=urlencode(kept, quote_via=quote)))
