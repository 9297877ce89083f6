"""Instructions a call takes, as a second opinion where times are too noisy: code moves it, neighbours do not.

callgrind counts on any machine, but knows no AVX-512: what dispatches by level must be held to AVX2 (this project:
`PAIREC_ISA=avx2`), and the count then is of that level alone. A count says nothing of caches, branches or waiting.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pairec_fast.latency.judge import INCONCLUSIVE, PASS, REGRESS
from pairec_fast.latency.measure import Call, quiet
from pairec_fast.latency.turns import WORKER, Side, TurnError, printed_last

CALLS = 40
ROUNDS = 3
ALLOWED = 1.02
COUNTED = re.compile(r"^\s*Th\s+\d+\s+([\d,]+)", re.MULTILINE)


@dataclass(frozen=True)
class Counted:
    """Instructions a call of one test, on base and head, and what that came to."""

    test: str
    base: float
    head: float
    verdict: str
    reason: str


def count(call: Call, test: str, path: Path) -> None:
    """Inside callgrind: add a line of the instructions a call takes, three times found, to a file.

    Each is the difference between so many calls and twice as many, which leaves out what asking for the count costs.
    """
    with quiet(False):
        for _ in range(3):
            call.once()
        _control("-i", "on")
        try:
            totals = [_total()]
            for calls in (CALLS, 2 * CALLS) * ROUNDS:
                for _ in range(calls):
                    call.once()
                totals.append(_total())
            spent = [after - before for before, after in itertools.pairwise(totals)]
            found = [(twice - once) / CALLS for once, twice in zip(spent[::2], spent[1::2], strict=True)]
        finally:
            _control("-i", "off")
    with path.open("a") as out:
        out.write(json.dumps({"test": test, "instructions": found}) + "\n")


def compare(base: Side, head: Side, arguments: Sequence[str], allowed: float, scratch: Path) -> list[Counted]:
    """Count the same tests on both, by callgrind.

    Raises:
        TurnError: callgrind is not installed, or the benchmarks fail under it.
    """
    theirs, ours = (_run(side, arguments, scratch) for side in (base, head))
    return [judge(test, theirs[test], ours[test], allowed) for test in ours if test in theirs]


def judge(test: str, base: Sequence[float], head: Sequence[float], allowed: float) -> Counted:
    """By the middle of the ratios of counts of the same calls; inconclusive where these lie on both sides of it."""
    ratios = [ours / max(theirs, 1) for theirs, ours in zip(base, head, strict=True)]
    middle = [statistics.median(of) for of in (base, head)]
    ratio = statistics.median(ratios)
    said = f"{middle[1]:,.0f} instructions a call, base {middle[0]:,.0f}: {ratio:.4f} ×, allowed {allowed:.4g}"
    if min(ratios) <= allowed < max(ratios):
        verdict, said = INCONCLUSIVE, f"{said}; counted again it lay between {min(ratios):.4f} and {max(ratios):.4f}"
    else:
        verdict = REGRESS if ratio > allowed else PASS
    return Counted(test, middle[0], middle[1], verdict, said)


def counts_by_hardware() -> bool:
    """Whether `perf stat -e instructions:u` counts here; most virtual machines do not let it."""
    if shutil.which("perf") is None:
        return False
    command = ["perf", "stat", "-x,", "-e", "instructions:u", "true"]
    said = subprocess.run(command, capture_output=True, text=True)
    return said.returncode == 0 and hardware_count(said.stderr) is not None


def hardware_count(text: str) -> int | None:
    """The count in what `perf stat -x,` writes; none where it says that the machine does not count."""
    for line in text.splitlines():
        words = line.split(",")
        if len(words) > 2 and words[2].startswith("instructions"):
            return int(words[0]) if words[0].isdigit() else None
    return None


def _run(side: Side, arguments: Sequence[str], scratch: Path) -> dict[str, list[float]]:
    if shutil.which("valgrind") is None:
        raise TurnError("instructions are counted by callgrind, and valgrind is not installed")
    path, log = scratch / f"{side.name}.instructions", scratch / f"{side.name}.log"
    path.write_text("")
    counting = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=/dev/null"]
    pytest = [side.python, "-P", str(WORKER), *arguments, f"--latency-instructions={path}"]
    environment = {**os.environ, **side.environment, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
    with log.open("wb") as out:
        status = subprocess.run(
            [*counting, *pytest], cwd=side.folder, env=environment, stdout=out, stderr=out
        ).returncode
    if status != 0:
        raise TurnError(
            f"the benchmarks on {side.name} ended with status {status} under callgrind; {printed_last(log)}"
        )
    read = [json.loads(line) for line in path.read_text().splitlines()]
    return {each["test"]: each["instructions"] for each in read}


def _control(*words: str) -> str:
    return subprocess.run(
        ["callgrind_control", *words, str(os.getpid())], capture_output=True, text=True, check=True
    ).stdout


def _total() -> int:
    """Instructions of all threads so far."""
    found = [int(of.replace(",", "")) for of in COUNTED.findall(_control("-e"))]
    assert found, "callgrind_control printed no totals"
    return sum(found)
