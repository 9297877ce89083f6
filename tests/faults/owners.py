"""Who owns a ring: forks, programs that are started, second owners, writers that stand still, owner after owner.

    python -m tests.faults.owners [fork] [second] [stuck] [respawn] [--times N] [--seed S]

`fork`: children of a process that pushes from two threads push, close, are killed, or start another program. `second`:
processes race for the rings of one directory. `stuck`: a writer stays 6 s between reservation and commit (a ring module
compiled so). `respawn`: owner after owner is killed on the same ring.
"""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

from pairec_fast.core.ring import read_segments, verify_segments
from pairec_fast.errors import PairecError
from pairec_fast.sink import disk as sink
from tests.faults import kill, native
from tests.faults.command import Row, main

SMALL = 64 << 10
OPTIONS: dict[str, Any] = {
    "ring_bytes": 1 << 18, "segment_bytes": 1 << 16, "segment_seconds": 60.0, "sync_seconds": 0.005,
}  # fmt: skip
LIST = "import os; print(*(os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 2 "
LIST += "and os.path.exists(f'/proc/self/fd/{fd}')))"


def look(segments: Path, told: dict[tuple[int, int], int]) -> Counter[str]:
    """Compare with what each (life, thread) was told; more than that is wrong, but for a record being pushed."""
    totals: Counter[str] = Counter()
    found: dict[tuple[int, int], list[int]] = {who: [] for who in told}
    for payload, _, _ in read_segments(segments):
        parsed = kill.parse(payload)
        if parsed is None or parsed[:2] not in found:
            totals["wrong"] += 1
        else:
            found[parsed[:2]].append(parsed[2])
    for who, numbers in found.items():
        totals["acknowledged"] += told[who]
        totals["lost"] += len(set(range(told[who])) - set(numbers))
        totals["duplicated"] += len(numbers) - len(set(numbers))
        totals["out_of_order"] += numbers != sorted(numbers)
        totals["wrong"] += len([number for number in numbers if number > told[who]])
    for report in verify_segments(segments):
        totals["unsound"] += bool(report["errors"]) or not report["closed"]
    return totals


def fork(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    rng, totals, children = random.Random(seed), Counter[str](), []
    segments, rings = place / "segments", place / "rings"
    rings.mkdir()
    victim = log.Log(segments, rings / "ring", capacity=1 << 18, sync_seconds=0.005)
    told, stop = {(0, 0): 0, (0, 1): 0}, threading.Event()

    def push(thread: int) -> None:
        while not stop.is_set():
            if victim.push(kill.record(0, thread, told[0, thread], told[0, thread] % 500)):
                told[0, thread] += 1
            time.sleep(0.0002)

    threads = [threading.Thread(target=push, args=(thread,)) for thread in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(times):
        kind, answer = rng.choice(("push", "close", "leave", "kill", "exec")), mmap.mmap(-1, 16)

        def child(kind: str = kind, answer: mmap.mmap = answer) -> None:
            for _ in range(50):
                answer[0] |= victim.push(b"of the child")
            if kind == "close":
                victim.close()
            answer[1] = 1 + any(
                str(place) in os.readlink(f"/proc/self/fd/{fd}")
                for fd in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{fd}")
            )
            if kind == "kill":
                os.kill(os.getpid(), 9)
            if kind == "leave":
                time.sleep(0.5)

        totals[kind] += 1
        if kind == "exec":
            printed = subprocess.run([sys.executable, "-c", LIST], capture_output=True, text=True, close_fds=False)
            totals["leaked_over_exec"] += str(place) in printed.stdout
            totals["failed"] += printed.returncode != 0
        else:
            children.append((kill.in_child(child), answer, kind))
        time.sleep(rng.uniform(0, 0.01))
    for pid, answer, kind in children:
        _, status = os.waitpid(pid, 0)
        totals["failed"] += kind != "kill" and status != 0
        totals["accepted_in_a_child"] += answer[0] != 0
        totals["kept_descriptors"] += answer[1] != 1
    stop.set()
    for thread in threads:
        thread.join()
    totals["failed"] += not victim.close(30)
    totals["children"] = times
    return totals + look(segments, told)


def second(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """Four processes open a log at once, `times` times; some are killed, some close. Each must have a ring alone."""
    rng, totals, told = random.Random(seed), Counter[str](), {}
    segments, rings = place / "segments", place / "rings"
    for number in range(times):
        answers = [mmap.mmap(-1, 64) for _ in range(4)]
        pids = []
        for at in range(4):
            delay = rng.uniform(0, 0.003)

            def child(life: int = number * 4 + at, shared: mmap.mmap = answers[at], delay: float = delay) -> None:
                told = memoryview(shared).cast("q")
                time.sleep(delay)
                victim = sink.open_log(segments, rings, **OPTIONS)
                told[1] = victim.ring_id >> 4
                for number in range(200):
                    told[0] += victim.push(kill.record(life, 0, number, number % 300))
                told[2] = 1
                while told[3] == 0:
                    time.sleep(0.001)
                assert told[3] == 2 or victim.close(30)

            pids.append(kill.in_child(child))
        shared = [memoryview(answer).cast("q") for answer in answers]
        deadline = time.monotonic() + 60
        while not all(one[2] for one in shared) and time.monotonic() < deadline:
            time.sleep(0.001)
        totals["shared_a_ring"] += len({one[1] for one in shared}) != 4
        try:
            log.Log(segments, rings / "0.ring", capacity=SMALL)
            totals["took_a_live_ring"] += 1
        except PairecError as error:
            totals["unclear"] += "is owned by" not in str(error) or "(pid " not in str(error)
            totals["refused"] += 1
        for at, (pid, one) in enumerate(zip(pids, shared, strict=True)):
            killed = rng.random() < 0.5
            if killed:
                os.kill(pid, 9)
            one[3] = 1
            _, status = os.waitpid(pid, 0)
            totals["failed"] += not killed and status != 0
            told[number * 4 + at, 0] = one[0]
    totals["rings"] = len(list(rings.iterdir()))
    totals["failed"] += totals["rings"] > 5  # those of the dead are taken over, not left to pile up
    sink.recover_all(segments, rings)
    return totals + look(segments, told)


def stand_still(victim: Any, size: int) -> threading.Thread:
    """A thread whose push of `size` bytes has reserved its space, and stays there."""
    assert victim.flush(30)
    writer = threading.Thread(target=victim.push, args=(bytes(size),), daemon=True)
    writer.start()
    deadline = time.monotonic() + 30
    while victim.counters()["used_bytes"] < size and time.monotonic() < deadline:
        time.sleep(0.001)
    return writer


def stuck(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """While one writer stands still, others go on, nothing is skipped and the age rises; then all flows again."""
    pausing, totals = native.broken_ring("stuck-writer"), Counter[str]()
    segments, before = place / "segments", [b"before%d" % number for number in range(50)]
    after = [b"after%d" % number for number in range(500)]
    victim: Any = pausing.Log(segments, place / "ring", capacity=1 << 20, sync_seconds=0.005)
    for record in before:
        totals["refused"] += not victim.push(record)
    writer = stand_still(victim, 4321)
    began = time.monotonic()
    for record in after:
        totals["refused"] += not victim.push(record)
    totals["held_up"] += time.monotonic() - began > 1
    totals["flushed_past_it"] += victim.flush(0.5)
    totals["skipped"] += [payload for payload, _, _ in read_segments(segments)] != before
    time.sleep(max(0, began + 5.2 - time.monotonic()))
    totals["oldest_ms"] = round(1e3 * victim.counters()["oldest_unsynced_seconds"])
    totals["no_alarm"] += totals["oldest_ms"] < 5000
    writer.join()
    totals["not_resumed"] += not victim.flush(10)
    totals["wrong"] += [payload for payload, _, _ in read_segments(segments)] != [*before, bytes(4321), *after]
    # And one that never comes back, because the process is closed, and then killed, under it.
    writer = stand_still(victim, 4322)
    totals["refused"] += not victim.push(b"behind it")
    totals["closed_over_it"] += victim.close(0.2)
    # Emptied under the writer, its file would be cut, and the writer ended by SIGBUS; or its record lost.
    totals["emptied_under_it"] += log.recover(segments, place / "ring")["state"] != "locked"
    writer.join()
    del writer, victim
    answer = log.recover(segments, place / "ring")
    found = [payload for payload, _, _ in read_segments(segments)]
    totals["wrong"] += found != [*before, bytes(4321), *after, bytes(4322), b"behind it"]
    totals["recovered"] = answer["records"]
    answers = mmap.mmap(-1, 16)

    def dies() -> None:
        victim = pausing.Log(segments, place / "ring", capacity=1 << 20)
        stand_still(victim, 4321)
        answers[0] = victim.push(b"of the dead")
        os.kill(os.getpid(), 9)

    os.waitpid(kill.in_child(dies), 0)
    answer = log.recover(segments, place / "ring")
    totals["unfinished"] = answer["unfinished"]
    totals["wrong"] += not answers[0] or [payload for payload, _, _ in read_segments(segments)][-1] != b"of the dead"
    return totals


def respawn(times: int, seed: int, place: Path, log: ModuleType) -> Counter[str]:
    """`times` owners, each killed, of one slot; this process owns and closes it in between, and keeps no descriptor."""
    rng, totals, told = random.Random(seed), Counter[str](), {}
    segments, rings = place / "segments", place / "rings"

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with sink.open_log(segments, rings, **OPTIONS):
        pass
    before = descriptors()
    for life in range(times):
        shared = mmap.mmap(-1, 16)

        def child(life: int = life, shared: mmap.mmap = shared) -> None:
            told = memoryview(shared).cast("q")
            victim = sink.open_log(segments, rings, **OPTIONS)
            while True:
                told[0] += victim.push(kill.record(life, 0, told[0], told[0] % 300))
                time.sleep(0.0001)

        kill.kill_after(kill.in_child(child), rng.uniform(0.02, 0.08))
        told[life, 0] = memoryview(shared).cast("q")[0]
        if rng.random() < 0.5:
            mine = (life, 1)
            with sink.open_log(segments, rings, **OPTIONS) as victim:
                told[mine] = sum(victim.push(kill.record(*mine, number, 9)) for number in range(100))
        totals["leaked"] += descriptors() - before
        totals["more_rings"] += len(list(rings.glob("*.ring"))) != 1
    sink.recover_all(segments, rings)
    totals["owners"] = times
    return totals + look(segments, told)


NEVER = ("lost", "duplicated", "out_of_order", "wrong", "unsound", "failed")
ROWS = {
    "fork": Row(
        fork,
        200,
        (*NEVER, "accepted_in_a_child", "kept_descriptors", "leaked_over_exec"),
        ("acknowledged", "push", "close", "leave", "kill", "exec"),
    ),
    "second": Row(
        second, 20, (*NEVER, "shared_a_ring", "took_a_live_ring", "unclear"), ("acknowledged", "refused", "rings")
    ),
    "stuck": Row(
        stuck,
        1,
        (
            *NEVER,
            "refused",
            "held_up",
            "flushed_past_it",
            "skipped",
            "no_alarm",
            "not_resumed",
            "closed_over_it",
            "emptied_under_it",
        ),
        ("oldest_ms", "unfinished", "recovered"),
    ),
    "respawn": Row(respawn, 20, (*NEVER, "leaked", "more_rings"), ("acknowledged", "owners")),
}

if __name__ == "__main__":
    sys.exit(main("tests.faults.owners", __doc__ or "", ROWS))
