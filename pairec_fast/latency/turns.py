"""Two builds in turns: the process of each measures for some milliseconds, then waits for the other's.

So both meet the same neighbours, clock and heat. Only the process whose turn it is does anything: it also imports,
makes its tables and goes from test to test within a turn. Both sides of the pipe are here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pairec_fast.latency.measure import Call, Samples, quiet, warm
from pairec_fast.latency.store import pack, unpack

TURN_NS = 8_000_000  # short against what changes on a machine, long against a switch and the caches it leaves cold
CALLS_MAX = 1_000
WORKER = Path(__file__).with_name("worker.py")


class TurnError(RuntimeError):
    """A process that was to measure did not do so; the message carries what it printed last."""


class Turns:
    """The measuring side: `--latency-turns=IN,OUT` gives it two pipes."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read = os.fdopen(read_fd, "r")
        self._write = os.fdopen(write_fd, "w")

    def closed(self, call: Call, n: int, test: str, ratio: float | None, keep_gc: bool) -> Samples:
        """`n` calls in as many turns as they take; each turn's first call finds cold caches and is not counted."""
        self.wait()
        samples = Samples("closed")
        with quiet(keep_gc):
            warm(call, n)
            probe = Samples("closed")
            call.time(probe, 3)
            mine = min(CALLS_MAX, max(1, TURN_NS // max(1, sorted(probe.wall)[1])))
            calls = int(self._ask({"start": test, "calls": mine}))
            while True:
                call.once()
                call.time(samples, min(calls, n - len(samples)))
                if len(samples) == n:
                    break
                self.wait()
        self.done(test, samples, ratio)
        return samples

    def wait(self) -> None:
        """Hand the turn over and wait until it is back."""
        self._ask({"ready": True})

    def done(self, test: str, samples: Samples, ratio: float | None) -> None:
        """Hand over what was measured, and what the test's marker allows."""
        times = {"cpu": pack(samples.cpu), "wall": pack(samples.wall)}
        self._say({"done": test, "kind": samples.kind, "ratio": ratio, **times})

    def _ask(self, message: dict[str, Any]) -> str:
        self._say(message)
        answer = self._read.readline()
        if not answer:
            raise TurnError("who gives the turns has gone")
        return answer.strip()

    def _say(self, message: dict[str, Any]) -> None:
        self._write.write(json.dumps(message) + "\n")
        self._write.flush()


@dataclass
class Side:
    """A build to measure: its interpreter, the folder its benchmarks lie in, what its environment adds."""

    name: str
    python: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)


class Process:
    """The giving side's end of one process: started, it runs until it first waits for a turn."""

    def __init__(self, side: Side, arguments: Sequence[str], seed: int, log: Path) -> None:
        self.side = side
        self.found: dict[str, Samples] = {}
        self.ratios: dict[str, float] = {}
        self._log = log
        theirs_read, mine_write = os.pipe()
        mine_read, theirs_write = os.pipe()
        command = [side.python, "-P", str(WORKER), *arguments, f"--latency-turns={theirs_read},{theirs_write}"]
        # One seed for both of a pair, another for the next: what dicts and sets do to time is alike within a pair.
        environment = {**os.environ, **side.environment, "PYTHONHASHSEED": str(seed)}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, cwd=side.folder, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                pass_fds=(theirs_read, theirs_write),
            )  # fmt: skip
        os.close(theirs_read)
        os.close(theirs_write)
        self._write: IO[str] = os.fdopen(mine_write, "w")
        self._read: IO[str] = os.fdopen(mine_read, "r")

    def turn(self, calls: dict[str, int], first: bool = False) -> bool:
        """Let it go on until it waits again; false once it has ended."""
        try:
            if not first:
                self._answer("go")
            for line in self._read:
                message = json.loads(line)
                if "ready" in message:
                    return True
                if "start" in message:
                    self._answer(str(calls.setdefault(message["start"], message["calls"])))
                else:
                    samples = Samples(message["kind"])
                    samples.cpu, samples.wall = unpack(message["cpu"]), unpack(message["wall"])
                    self.found[message["done"]] = samples
                    if message["ratio"] is not None:
                        self.ratios[message["done"]] = message["ratio"]
        except BrokenPipeError:
            pass
        return False

    def close(self) -> None:
        """Wait for its end.

        Raises:
            TurnError: its tests failed.
        """
        self._read.close()
        with contextlib.suppress(BrokenPipeError):
            self._write.close()
        status = self._process.wait()
        if status not in (0, 5):
            raise TurnError(f"the benchmarks on {self.side.name} ended with status {status}; {printed_last(self._log)}")

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _answer(self, text: str) -> None:
        self._write.write(text + "\n")
        self._write.flush()


def printed_last(log: Path) -> str:
    told = log.read_text(errors="replace").strip().splitlines()
    return "they printed last:\n" + "\n".join(told[-25:])


@dataclass
class Measured:
    """One test in one pair of processes."""

    base: Samples
    head: Samples
    ratio: float | None


def measure_pair(
    base: Side, head: Side, arguments: Sequence[str], number: int, scratch: Path
) -> tuple[dict[str, Measured], set[str]]:
    """One process of each, turn by turn; who begins changes with `number` and with every round.

    Returns what was measured by test, and the tests that only one of the two ran.

    Raises:
        TurnError: a process failed.
    """
    calls: dict[str, int] = {}
    processes: list[Process] = []
    try:
        for side in (base, head) if number % 2 == 0 else (head, base):
            process = Process(side, arguments, number, scratch / f"{side.name}.log")
            processes.append(process)
            process.turn(calls, first=True)
        alive = list(processes)
        while alive:
            alive = [process for process in alive if process.turn(calls)]
            alive.reverse()
        for process in processes:
            process.close()
    finally:
        for process in processes:
            process.kill()
    theirs, ours = processes if number % 2 == 0 else reversed(processes)
    both = theirs.found.keys() & ours.found.keys()
    found = {
        test: Measured(theirs.found[test], ours.found[test], ours.ratios.get(test))
        for test in ours.found
        if test in both
    }
    return found, (theirs.found.keys() | ours.found.keys()) - both
