"""A service as a child process: started, stopped, killed, frozen and thawed by the tests that talk to it."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest


class Missing(Exception):
    """This machine lacks what a service is made of; the message says what."""


def offer(open_service: Callable[[], Any]) -> Any:
    """What `open_service` makes. Where something is missing, the test is skipped, or fails if services are required."""
    try:
        return open_service()
    except Missing as reason:
        if os.environ.get("PAIREC_SERVICES_REQUIRED"):
            raise
        pytest.skip(f"{reason}; `bash tests/services/provide.sh` installs it")


def program(name: str, *folders: Path) -> str:
    """The path of a program that is on PATH or in one of `folders`, where Debian keeps some off it."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise Missing(f"the program {name} is not installed")
    return found


def lasting_port() -> int:
    """A free port below those the system hands out to clients.

    A service that is restarted needs its port back. Were it one of the ephemeral ports, a client that keeps trying to
    connect while the service is down could be given that very port as its own, and so connect to itself.
    """
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        first = 32768
    for port in random.SystemRandom().sample(range(10_000, max(first, 10_100)), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("none of 100 ports was free")


class Service:
    """One child process. `start` it from a thread that lives on: the kernel ends the child with the thread."""

    name: str
    stop_signal = signal.SIGTERM
    seconds_to_start = 60.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.frozen = False
        self.output = folder / "output"  # what it printed in all its lives

    # What a kind of service says of itself.

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it answers a client; may raise what the client raises."""
        raise NotImplementedError

    # What tests do to it.

    def start(self) -> float:
        """Start it on the data it has, and wait until it answers. Returns the seconds that took."""
        assert self.process is None, f"{self.name} runs already"
        begin = time.monotonic()
        line = self.command()
        if setpriv := shutil.which("setpriv"):  # so that tests killed with SIGKILL leave nothing running
            line = [setpriv, "--pdeathsig", "KILL", *line]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder, **self.identity()
            )
        while not self._answers():
            waited = time.monotonic() - begin
            if self.process.poll() is not None or waited > self.seconds_to_start:
                said = self.output.read_text(errors="replace")[-4000:]
                code = self.process.poll()
                self.kill()
                raise RuntimeError(f"{self.name} did not start in {waited:.0f} s (exit code {code}):\n{said}")
            time.sleep(0.02)
        return time.monotonic() - begin

    def stop(self) -> float:
        """Orderly, by a signal. Returns the seconds that took."""
        return self._end(self.stop_signal)

    def kill(self) -> float:
        """By SIGKILL, with all its processes."""
        return self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        for pid in self.family():
            os.kill(pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        for pid in self.family():
            os.kill(pid, signal.SIGCONT)
        self.frozen = False

    def restart(self) -> float:
        """Orderly, with the same data and port. Returns the seconds from the signal to the first answer."""
        return self.stop() + self.start()

    def ensure(self) -> None:
        """Running and answering, whatever the last test left behind."""
        if self.frozen:
            self.thaw()
        if self.process is not None and self.process.poll() is not None:
            self.process = None
        if self.process is None:
            self.start()

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} does not run"
        return self.process.pid

    def family(self) -> list[int]:
        """The process and those that would outlive its death."""
        return [self.pid]

    def identity(self) -> dict[str, Any]:
        """Arguments of Popen: as whom it runs."""
        return {}

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except Exception:  # each client has errors of its own for "not yet"
            return False

    def _end(self, number: int) -> float:
        begin = time.monotonic()
        if self.process is None:
            return 0.0
        if self.process.poll() is None:
            family = self.family()
            for pid in family if number == signal.SIGKILL else family[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if self.frozen and number != signal.SIGKILL:
                self.thaw()  # a stopped process takes no other signal
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError(f"{self.name} did not end within 30 s of signal {number}") from None
            while any(map(_lives, family)):  # the next life must not meet them on its data
                time.sleep(0.005)
        self.process, self.frozen = None, False
        return time.monotonic() - begin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
