"""Notice a new snapshot, configuration or experiments file; load it aside, rehearse, swap.

What is new is looked for every `SnapshotConf.ReloadSeconds`. A version that cannot serve changes nothing: it is logged
once, counted, and tried again from time to time, for a file may be on its way. Requests in flight keep what they began
with. Workers of one server each follow by themselves.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from pathlib import Path

from pairec_fast.config import Config, digest
from pairec_fast.engine import Engine
from pairec_fast.errors import PairecError
from pairec_fast.manifest import resolve
from pairec_fast.scene import KINDS, snapshot_of

SETTLE_SECONDS = 0.05  # a file that changes within it is still being written
RETRY_SECONDS = 1.0  # after the first failure; twice as long after each further one
RETRY_SECONDS_MAX = 300.0

clock = time.monotonic
log = logging.getLogger("pairec_fast")


class Watched:
    """A file, read again only when its size, time or identity has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stat: tuple[int, ...] = ()
        self._hash = ""

    def hash(self) -> str:
        """Of its content; "" if it is not there."""
        try:
            stat = self.path.stat()
            now = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            # A file that changed just now may change again within the resolution of its time.
            if now != self._stat or time.time() - stat.st_mtime < 2:
                self._hash = digest(self.path.read_bytes())
                self._stat = now
        except OSError:
            self._stat, self._hash = (), ""
        return self._hash


class Reloader:
    """Keeps an engine up with the file it was made from. `look` is one look; `follow` has a thread look."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine, self.path = weakref.ref(engine), path.absolute()
        self._watched: dict[Path, Watched] = {}
        self._failed: tuple[str, ...] | None = None  # the version that could not serve
        self._retry_at, self._pause = 0.0, RETRY_SECONDS
        self._told = ""
        self._have = self._loaded(engine.config)
        for result in ("ok", "failed"):  # so that they can be watched before they happen
            engine.metrics.count("reload_total", 0, result=result)

    def follow(self) -> None:
        """Look every `SnapshotConf.ReloadSeconds` of the configuration that is current, in a thread of its own, until
        that is 0 or the engine is closed or gone."""
        threading.Thread(target=self._run, name="pairec-reload", daemon=True).start()

    def look(self) -> bool:
        """Make current what is new and can serve; whether something was made current."""
        engine = self._engine()
        if engine is None or engine.closed:
            return False
        version = self._version(engine.config)
        if version == self._have:
            if self._failed is not None:  # what could not serve was taken back
                self._fine(engine)
            return False
        if version == self._failed and clock() < self._retry_at:
            return False
        time.sleep(SETTLE_SECONDS)
        if self._version(engine.config) != version:
            return False
        try:
            config = Config.load(self.path, KINDS)
            have = self._loaded(config)  # before the rest is read: what changes meanwhile is found by the next look
            engine.reconfigure(config)
        except (PairecError, OSError) as error:
            self._refused(engine, version, str(error))
            return False
        except Exception as error:  # whatever a new version can bring, the old one goes on, and so does the thread
            log.debug("reload", exc_info=True)
            self._refused(engine, version, f"{type(error).__name__}: {error}")
            return False
        self._have = have
        self._fine(engine)
        engine.metrics.count("reload_total", result="ok")
        log.warning(
            "reload: serving configuration %s on snapshot %s", config.fingerprint, engine.snapshot.directory.name
        )
        return True

    def _fine(self, engine: Engine) -> None:
        self._failed, self._pause, self._told = None, RETRY_SECONDS, ""
        engine.reload_failed = False

    def _refused(self, engine: Engine, version: tuple[str, ...], why: str) -> None:
        if version != self._failed:
            self._pause = RETRY_SECONDS
        self._failed, self._retry_at = version, clock() + self._pause
        self._pause = min(2 * self._pause, RETRY_SECONDS_MAX)
        engine.reload_failed = True
        engine.metrics.count("reload_total", result="failed")
        if why != self._told:
            log.error("reload: nothing has changed, because what is new cannot serve: %s", why)
            self._told = why

    def _loaded(self, config: Config) -> tuple[str, ...]:
        """The version that `config` was read from, whatever the file says by now."""
        return config.fingerprint, *self._version(config)[1:]

    def _version(self, config: Config) -> tuple[str, ...]:
        """Tells apart what a look can find: the file, the experiments it names, the snapshot it leads to."""
        parts = [self._hash(self.path)]
        if (experiments := config.experiments_path) is not None:
            parts.append(self._hash(experiments))
        try:
            directory = resolve(snapshot_of(config))
            parts += [str(directory), self._hash(directory / "manifest.json")]
        except PairecError as error:
            parts.append(str(error))
        return tuple(parts)

    def _hash(self, path: Path) -> str:
        return self._watched.setdefault(path, Watched(path)).hash()

    def _run(self) -> None:
        while True:
            engine = self._engine()
            if engine is None or engine.closed:
                return
            conf = engine.config.snapshot_conf
            seconds = conf.reload_seconds if conf is not None else 0.0
            del engine  # so that one nobody holds any more can go
            if not seconds:
                return
            time.sleep(seconds)
            self.look()
