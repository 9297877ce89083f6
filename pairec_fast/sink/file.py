"""Debug records as text: into files that rotate, or on the console. Written by a thread of its own, from a short queue.

*Source*: PAIREC 11.2.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairec_fast.messages import go_json

log = logging.getLogger("pairec_fast")

BYTES_MAX = 1 << 30  # of a file: beyond it the next begins
JOBS_MAX = 256  # requests whose records wait to be written; each holds the arrays of its stages
_ESCAPE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
PREFIX, SUFFIX = "pairec.debug.", ".log"


class Files:
    """`pairec.debug.<yyyymmddhhmmss>.log` in a folder, of which the newest `files_max` are kept.

    Several workers may write into one folder: a record is one write at a file's end.
    """

    def __init__(self, folder: Path, files_max: int, bytes_max: int = BYTES_MAX) -> None:
        self.folder, self.files_max, self.bytes_max = folder, max(1, files_max), bytes_max

    def write(self, record: dict[str, Any]) -> None:
        """Append a record. Raises OSError."""
        text = json.dumps(record, indent="\t", sort_keys=True, ensure_ascii=False).translate(_ESCAPE) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self._current(), "ab", buffering=0) as file:
            file.write(text.encode("utf-8", "replace"))

    def _current(self) -> Path:
        files = sorted(path for path in self.folder.glob(f"{PREFIX}*{SUFFIX}") if path.is_file())
        wants_new = not files or files[-1].stat().st_size > self.bytes_max
        for path in files[: max(0, len(files) - self.files_max + wants_new)]:
            with contextlib.suppress(FileNotFoundError):  # another worker was faster
                path.unlink()
        return self.folder / f"{PREFIX}{time.strftime('%Y%m%d%H%M%S')}{SUFFIX}" if wants_new else files[-1]


def to_console(record: dict[str, Any]) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(go_json(record) + "\n")
    sys.stdout.flush()


class Writer:
    """Runs jobs one after the other on a thread of its own, which starts with the first and forks with nobody.

    What finds the queue full is not taken: whoever debugs must not slow down who recommends.
    """

    def __init__(self, jobs_max: int = JOBS_MAX) -> None:
        self._max = jobs_max
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(jobs_max)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._closed = False

    def put(self, job: Callable[[], None]) -> bool:
        """Whether the job was taken."""
        if self._closed:
            return False
        if self._pid != os.getpid():
            self._start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def close(self, timeout: float) -> None:
        """Finish what was taken, as far as `timeout` seconds allow."""
        self._closed = True
        if self._thread is None or self._pid != os.getpid():
            return
        with contextlib.suppress(queue.Full):
            self._jobs.put(None, timeout=timeout)
        self._thread.join(timeout)

    def _start(self) -> None:
        with self._lock:
            if self._pid != os.getpid():
                self._jobs = queue.Queue(self._max)
                self._thread = threading.Thread(target=_run, args=(self._jobs,), name="pairec-records", daemon=True)
                self._thread.start()
                self._pid = os.getpid()


def _run(jobs: queue.Queue[Callable[[], None] | None]) -> None:
    while (job := jobs.get()) is not None:
        try:
            job()
        except Exception:  # a full disk, a closed console: the next may work again
            log.exception("debug records cannot be written")
