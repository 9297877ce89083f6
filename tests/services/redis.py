"""Redis itself, as Debian packages it: one process on a loopback port, nothing written to disk unless asked."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from tests.services.process import Missing, Service, lasting_port, program


class Redis(Service):
    """One server. `settings` as in redis.conf: `Redis(folder, appendonly="yes")` keeps its data through a kill."""

    name = "Redis"

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder)
        try:
            import redis  # noqa: F401
        except ImportError:
            raise Missing("the Python package redis is not installed") from None
        self.program = program("redis-server", Path("/usr/sbin"), Path("/usr/local/sbin"))
        self.port = lasting_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.settings = {"save": "", "appendonly": "no"} | {
            name.replace("_", "-"): value for name, value in settings.items()
        }

    def command(self) -> list[str]:
        fixed = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.folder), "daemonize": "no"}
        return [
            self.program,
            *(word for name, value in (fixed | self.settings).items() for word in (f"--{name}", value)),
        ]

    @functools.cached_property
    def client(self) -> Any:
        import redis

        return redis.Redis.from_url(self.url)

    def is_ready(self) -> bool:
        return bool(self.client.ping())
