"""The lines that PAI-Rec writes of each request: when it began, with what body, and what it cost.

Written by a thread of its own, from a queue that drops what it cannot take. A line break in a body becomes a backslash
and a letter, so that one line stays one line. *Source*: PAIREC 1.11.
"""

from __future__ import annotations

import logging
import os
import re
import time
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import Protocol

from pairec_fast.metrics import Metrics
from pairec_fast.sink.file import Writer

LINES_MAX = 10_000  # that wait to be written
DAYS = 7  # that files are kept where the configuration does not say
_REQUEST_ID = re.compile(rb'"request_id":"((?:[^"\\]|\\.)*)"')


class LogConf(Protocol):
    """`LogConf` of the configuration."""

    @property
    def log_level(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def retension_days(self) -> int: ...


def request_log(conf: LogConf, folder: Path, metrics: Metrics) -> RequestLog | None:
    """What writes the lines, if `LogLevel` asks for those of level INFO; on stderr unless `Output` is `file`."""
    if conf.log_level not in ("DEBUG", "INFO"):
        return None
    if conf.output != "file":
        return RequestLog(logging.StreamHandler(), metrics)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pairec.{os.getpid()}.log"  # workers that rotate one file would rotate it under each other
    days = conf.retension_days or DAYS
    for old in folder.glob("pairec.*.log*"):
        if time.time() - old.stat().st_mtime > days * 86_400:
            old.unlink(missing_ok=True)
    return RequestLog(TimedRotatingFileHandler(path, when="midnight", backupCount=days, encoding="utf-8"), metrics)


class RequestLog:
    """`out` writes lines; it is not a logger's, so that nothing else comes between them."""

    def __init__(self, out: logging.Handler, metrics: Metrics) -> None:
        self._out, self._metrics, self._writer = out, metrics, Writer(LINES_MAX)

    def answered(self, uri: str, address: str, body: bytes, reply: bytes, begin: float, cost: float) -> None:
        """Both lines of a request. `begin` is unix seconds, `cost` seconds; the request id is the answer's."""
        found = _REQUEST_ID.search(reply, 0, 4096)
        request_id = found[1].decode("utf-8", "replace") if found else ""

        def write() -> None:
            text = body.decode("utf-8", "replace").replace("\r", "\\r").replace("\n", "\\n")
            self._line(begin, f"requestId={request_id}\tevent=begin\turi={uri}\taddress={address}\tbody={text}")
            self._line(begin + cost, f"requestId={request_id}\tevent=end\turi={uri}\tcost={int(cost * 1000)}")

        if not self._writer.put(write):
            self._metrics.count("request_lines_dropped_total")

    def close(self, timeout: float) -> None:
        """Write what waits."""
        self._writer.close(timeout)
        self._out.close()

    def _line(self, when: float, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
        line = f"{stamp}.{int(when % 1 * 1000):03d} [INFO] {text}"
        self._out.handle(logging.LogRecord("pairec_fast", logging.INFO, "", 0, line, None, None))
