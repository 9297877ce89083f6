"""Granian around the application, and an orderly end: what a worker did not write out, the parent does."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import resource
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings

from pairec_fast.callback import check_sinks, log_directories
from pairec_fast.errors import PairecError
from pairec_fast.http1 import BACKLOG, CONNECTIONS, HEAD_BYTES, HEAD_SECONDS, work
from pairec_fast.scene import prepare
from pairec_fast.shell import DRAIN
from pairec_fast.sink.disk import recover_all
from pairec_fast.slots import created

KILL_SECONDS = 8  # a worker that has not stopped by then is killed; its ring is written out all the same
FILES = CONNECTIONS + 1024  # that a worker may have open
DRAIN_TURN = 0.05  # seconds between two signals to workers
HOST = "127.0.0.1"  # loopback unless the configuration names an address


def serve(path: Path, workers: int = 1, *, port: int | None = None, ready: Callable[[], None] | None = None) -> int:
    """Serve a configuration until SIGINT or SIGTERM. `port` overrides `ListenConf`; `ready` is called once it answers.

    Raises:
        ConfigError, SnapshotError: before anything listens.
        PairecError: the address is taken.
    """
    path = path.absolute()
    # Once here, so that what is wrong is said once and nothing starts; the workers find the pages in memory.
    config, live, _ = prepare(path)
    check_sinks(config)
    logs = log_directories(config)
    address = config.listen_conf.http_addr or HOST
    port = config.listen_conf.http_port if port is None else port
    _refuse_taken(address, port)
    os.environ["PAIREC_CONFIG"] = str(path)
    os.environ["PAIREC_WORKERS"] = str(workers)  # whose metrics are pushed under one name each
    os.environ["PAIREC_SNAPSHOT"] = str(live.snapshot.directory)  # whatever CURRENT names when a worker starts anew
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    if ready is not None:
        threading.Thread(target=_when_ready, args=(address, port, ready), daemon=True).start()
    _allow_files()
    drain_seconds = config.limit_conf.drain_seconds
    server = granian("pairec_fast.app:create", address, port, workers, drain_seconds=drain_seconds)
    try:
        with created(workers):  # what workers count, for any of them to show
            server.serve()
    except SystemExit as stopped:
        # Granian exits 1 when a signal reached the workers too, as Ctrl-C does: that is an orderly end.
        if stopped.code not in (0, 1, None) or not server.interrupt_signal:
            raise
    finally:
        kept = [error for place in logs if (error := _recover(*place)) is not None]
    if kept:
        raise kept[0]
    return 0


def _recover(segments: Path, rings: Path, sink: str) -> OSError | None:
    """An error of one log must not keep the others' records in their rings."""
    try:
        recover_all(segments, rings, sink)
    except OSError as error:
        logging.error("what a worker left in its ring stays there until the next start: %s", error)
        return error
    return None


class Server(Granian):  # type: ignore[misc, valid-type]
    """Granian, but workers are told before they are stopped, and may be our own."""

    drain_seconds = 0.0
    worker: Callable[..., None] | None = None

    def serve(self) -> None:
        super().serve(spawn_target=self.worker)

    def shutdown(self, exit_code: int = 0) -> None:
        """Let workers say that they are not ready, and serve on for `drain_seconds`; a second signal cuts that short.

        Stopped workers take no more connections, answer what they have begun, and end.
        """
        end = time.monotonic() + self.drain_seconds
        self.main_loop_interrupt.clear()
        # Again and again: one that is still starting does not know the signal yet.
        while self.interrupt_signal and time.monotonic() < end and not self.main_loop_interrupt.wait(DRAIN_TURN):
            for worker in self.wrks:
                with contextlib.suppress(OSError):
                    os.kill(worker.inner.pid, DRAIN)
        super().shutdown(exit_code)


def granian(
    factory: str, address: str, port: int, workers: int = 1, *, front: str = "http1", drain_seconds: float = 0.0
) -> Any:
    """The server around the application that `factory`, as `module:function`, makes in each worker.

    `front` is "http1", where Granian looks after workers that read and write for themselves; or "rsgi" or "asgi", where
    it does that, too, on threads of its own: a request costs two to four times as much of the processor.
    """
    # Workers start from nothing: a forked one would inherit threads' locks and whatever the parent has read.
    multiprocessing.set_start_method("spawn", force=True)
    server = Server(
        factory, factory=True, interface=Interfaces(front if front != "http1" else "rsgi"), address=address, port=port,
        workers=workers, loop=Loops.uvloop, runtime_mode=RuntimeModes.st, http=HTTPModes.http1, websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=int(HEAD_SECONDS * 1000), max_buffer_size=HEAD_BYTES),
        backlog=BACKLOG, backpressure=CONNECTIONS, respawn_failed_workers=True, workers_kill_timeout=KILL_SECONDS,
        log_dictconfig=_STDERR,
    )  # fmt: skip
    server.drain_seconds = drain_seconds
    if front == "http1":
        server.worker = partial(work, address, port, _STDERR)
    return server


def _when_ready(address: str, port: int, ready: Callable[[], None]) -> None:
    host = HOST if address in ("0.0.0.0", "::") else f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}/readyz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(600):
        try:
            with opener.open(url, timeout=1):
                ready()
                return
        except OSError:
            time.sleep(0.05)


def _allow_files() -> None:
    """As many as a worker's connections need, or as many as are allowed: shells often start with fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (min(FILES, hard) if hard != resource.RLIM_INFINITY else FILES, hard)
        )


def _refuse_taken(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise PairecError(f"cannot listen on {address}:{port}: {error.strerror}") from error


_STDERR = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "plain"}},
    "loggers": {"_granian": {"handlers": ["stderr"], "level": "WARNING", "propagate": False}},
}
