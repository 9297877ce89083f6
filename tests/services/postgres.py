"""PostgreSQL itself, as Debian packages it: one server on a loopback port, its data in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.services.process import Missing, Service, lasting_port, program

USER = "postgres"  # the superuser inside the server, whoever runs it


class Postgres(Service):
    """One server and its superuser, who needs no password. Data survive a kill of the process, not of the machine.

    The server refuses to run as root. For root it runs as the first of the users below that exists, on a folder of
    that user's own: no other user may enter the folders that pytest makes.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # SIGTERM would wait for every client to leave

    def __init__(self, **settings: str) -> None:
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise Missing("the Python package psycopg is not installed") from None
        versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        self.server, initdb = (program(name, *reversed(versions)) for name in ("postgres", "initdb"))
        self.user = self._user()
        super().__init__(Path(tempfile.mkdtemp(prefix="postgres-")))
        if self.user:
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        self.data = self.folder / "data"
        line = [initdb, "-D", str(self.data), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, cwd=self.folder, **self.identity())
        if done.returncode:
            shutil.rmtree(self.folder)
            raise RuntimeError(f"initdb ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        self.port = lasting_port()
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        self.settings = {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": "",
            "fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB",
        } | settings  # fmt: skip

    @staticmethod
    def _user() -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise Missing("root has no user postgres or nobody to run PostgreSQL as")

    def identity(self) -> dict[str, Any]:
        return {} if self.user is None else {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def command(self) -> list[str]:
        options = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        return [self.server, "-D", str(self.data), *options]

    def family(self) -> list[int]:
        return [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.url, connect_timeout=5)

    def is_ready(self) -> bool:
        with self.connect():
            return True

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        shutil.rmtree(self.folder)
