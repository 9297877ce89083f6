"""LMDB: a file of keys and values that another process writes and this one maps. Reading it awaits nothing."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path
from typing import Any, ClassVar

from pairec_fast.errors import ConfigError

DATABASES_MAX = 64  # named ones within an environment


class _Environment:
    """An open environment. A process may open each once only, so all engines share it."""

    _lock = threading.Lock()
    _open: ClassVar[weakref.WeakValueDictionary[str, _Environment]] = weakref.WeakValueDictionary()

    def __init__(self, path: str) -> None:
        import lmdb

        self.path = path
        self.env: Any = lmdb.open(
            path, subdir=os.path.isdir(path), readonly=True, create=False, max_dbs=DATABASES_MAX, max_readers=1024,
            readahead=False, max_spare_txns=16,
        )  # fmt: skip
        self.grown = lmdb.MapResizedError
        self._resizing = threading.Lock()
        weakref.finalize(self, self.env.close)

    @classmethod
    def at(cls, path: Path) -> _Environment:
        real = os.path.realpath(path)
        with cls._lock:
            known = cls._open.get(real)
            if known is None:
                known = cls._open[real] = cls(real)
            return known

    def begin(self) -> Any:
        """A view of what is committed now. If a writer has made the map larger, as large as that."""
        try:
            return self.env.begin()
        except self.grown:
            with self._resizing:
                self.env.set_mapsize(0)
            return self.env.begin()


class Lmdb:
    """One database. Values are bytes, as they were put."""

    def __init__(self, path: Path, database: str = "") -> None:
        """Raises ConfigError: no environment at `path`, or no such database in it."""
        import lmdb

        try:
            self._environment = _Environment.at(path)
            name = database.encode() if database else None
            self._database = self._environment.env.open_db(name, create=False) if name else None
        except lmdb.NotFoundError:
            raise ConfigError(f'{path}: this LMDB environment has no database "{database}"') from None
        except (lmdb.Error, OSError) as error:
            raise ConfigError(f"{path}: cannot be opened as an LMDB environment: {error}") from error
        self.path = path

    def get(self, key: str) -> bytes | None:
        return self.get_many((key,))[0]

    def get_many(self, keys: Iterable[str]) -> list[bytes | None]:
        """A value or None for each of `keys`, all of one moment. A key longer than LMDB takes is not there."""
        encoded = list(map(str.encode, keys, repeat("utf-8"), repeat("replace")))
        sizes, most = set(map(len, encoded)), self._environment.env.max_key_size()
        asked = encoded
        if 0 in sizes or max(sizes, default=0) > most:
            asked = [key for key in encoded if 0 < len(key) <= most]
        with self._environment.begin() as view, view.cursor(self._database) as cursor:
            found = dict(cursor.getmulti(asked))
        return list(map(found.get, encoded))
