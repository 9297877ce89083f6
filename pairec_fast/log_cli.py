"""`pairec-fast log ACTION`: what can be done with the segments of a feature log. Only `repair` changes them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pairec_fast.core import expand, read_segments, repair_segments, verify_segments
from pairec_fast.errors import PairecError
from pairec_fast.terminal import Bars, say

# What the Kafka sink writes where a broker refuses for good: error, row, ring_id, position, and the record itself.
_dead_letter = msgspec.msgpack.Decoder(tuple[str, int, int, int, bytes]).decode


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    help = "Read, repair and pass on the feature log."
    actions = verbs.add_parser("log", help=help, description=help).add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )

    def action(name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=help, description=help)
        parser.add_argument("directory", type=Path, help="where the segments lie")
        parser.add_argument(
            "--sink", type=_sink, default="log", help='first part of the segments\' names (default "log")'
        )
        parser.add_argument("--json", action="store_true", help="JSON on stdout (of dump and verify in any case)")
        parser.set_defaults(run=run)
        return parser

    action("dump", _dump, "Print every readable row, one JSON object a line; exit 1 if something is damaged.")
    action("verify", _verify, "Check every segment, one JSON object a file; exit 1 if one is damaged.")
    action("repair", _repair, "Close what dead processes left open, rewrite what is damaged.")
    export = action("export", _export, "Write all rows to one Parquet file; exit 1 if something is damaged.")
    export.add_argument("-o", "--output", type=_parquet, required=True, help="FILE.parquet, or a folder for it")
    resend = action("resend", _resend, "Send all rows to Kafka, a message each; exit 1 if one was not delivered.")
    resend.add_argument("--kafka", required=True, metavar="BOOTSTRAP", help="host:port of brokers, by commas")
    resend.add_argument("--topic", required=True)
    resend.add_argument("--timeout", type=_seconds, default=30.0, help="seconds a message may take (default 30)")
    resend.add_argument(
        "--set", type=_setting, action="append", default=[], metavar="NAME=VALUE",
        help="a property of librdkafka, for instance of security; may be repeated",
    )  # fmt: skip


class Rows:
    """All records of a log, expanded: `(rows, ring_id, position)` each. Damage is said on stderr, and counted.

    Of a sink whose name ends in `_dead` it is the records in the dead letters, by their own names; `error` is why the
    latest was refused.
    """

    def __init__(self, options: argparse.Namespace, step: str = "", *, gaps: bool = False) -> None:
        self._gaps = gaps
        self._directory, self._sink, self._step = _existing(options.directory), options.sink, step
        self._letters, self.error = self._sink.endswith("_dead"), ""
        self.damaged = self.done = 0
        self.finished = False
        reports = verify_segments(self._directory, self._sink)
        for report in reports:
            self.damaged += bool(report["errors"])
            for error in report["errors"]:
                say(f"{report['file']}: {error}")
        self.total: int = sum(report["records"] for report in reports)

    def __iter__(self) -> Iterator[tuple[list[bytes], int, int]]:
        bars = Bars()
        try:
            for payload, ring_id, position in read_segments(self._directory, self._sink, gaps=self._gaps):
                self.done += 1
                if self._step and self.done % 1000 == 1:
                    bars(self._step, self.done, max(self.total, self.done))
                try:
                    if self._letters:
                        self.error, _, ring_id, position, payload = _dead_letter(payload)
                    rows = expand(payload)
                except ValueError as error:  # also msgspec's
                    self.damaged += 1
                    say(f"record {ring_id:016x}:{position}: {error}")
                    continue
                yield rows, ring_id, position
            self.finished = True
        finally:
            bars.close()


def _dump(options: argparse.Namespace) -> int:
    records = Rows(options, gaps=True)
    write: Callable[[bytes], int] = sys.stdout.buffer.write
    for rows, _, _ in records:
        end = b',"error":%b}\n' % msgspec.json.encode(records.error) if records.error else b"}\n"
        write(b"".join(row[:-1] + end for row in rows))
    sys.stdout.buffer.flush()
    return 1 if records.damaged else 0


def _verify(options: argparse.Namespace) -> int:
    reports = verify_segments(_existing(options.directory), options.sink)
    for report in reports:
        _print_json(report)
    return 1 if any(report["errors"] for report in reports) else 0


_DONE = {
    "in_use": "left alone: a living process is writing it",
    "gone": "gone meanwhile",
    "closed": "closed, {records} records",
    "removed": "removed: nothing had been written",
    "rewritten": "rewritten, {records} records kept, {loss}; what it was: {kept_as}",
    "unreadable": "no readable record; moved to {kept_as}",
}


def _repair(options: argparse.Namespace) -> int:
    reports = repair_segments(_existing(options.directory), options.sink)
    for report in reports:
        if options.json:
            _print_json(report)
        elif report["state"] != "sound":
            lost = report["lost"]
            loss = "an unknown number lost" if lost is None else f"{lost} lost"
            print(f"{report['file']}: {_DONE[report['state']].format(**report, loss=loss)}")
        for error in report["errors"]:
            say(f"{report['file']}: {error}")
    if not options.json:
        changed = sum(report["state"] not in ("sound", "in_use", "gone") for report in reports)
        print(f"{len(reports)} segments, {changed} repaired")
    return 0


def _export(options: argparse.Namespace) -> int:
    from pairec_fast.log_export import export

    output: Path = options.output
    if output.is_dir():
        output = output / f"{options.sink}.parquet"
    records = Rows(options, "records")
    rows = export(records, output)
    figures = {"file": str(output), "records": records.done, "rows": rows, "damaged": records.damaged}
    _tell(options, figures, f"{output}: {rows} rows of {records.done} records")
    return 1 if records.damaged else 0


def _resend(options: argparse.Namespace) -> int:
    from pairec_fast.log_resend import resend

    records = Rows(options, "records")
    figures = resend(records, options.kafka, options.topic, dict(options.set), options.timeout)
    figures |= {"records": records.done, "damaged": records.damaged, "gave_up": not records.finished}
    for name, count in figures["errors"].items():
        say(f"{count} rows: {name}")
    line = "{delivered} rows of {records} records delivered, {failed} failed"
    _tell(options, figures, line + ("" if records.finished else "; gave up"))
    return 1 if figures["failed"] or records.damaged else 0


def _tell(options: argparse.Namespace, figures: dict[str, Any], line: str) -> None:
    if options.json:
        _print_json(figures)
    else:
        print(line.format(**figures))


def _print_json(value: dict[str, Any]) -> None:
    print(msgspec.json.encode(value).decode())


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise PairecError(f"{directory}: no such directory")
    return directory


def _sink(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_]{1,64}", text):
        raise argparse.ArgumentTypeError(f"{text} is not 1 to 64 letters, digits or underscores")
    return text


def _parquet(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".parquet" and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder and does not end in .parquet")
    return path


def _setting(text: str) -> tuple[str, str]:
    name, is_there, value = text.partition("=")
    if not name or not is_there:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    return name, value


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.01 <= number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not 0.01 to 86400 seconds")
    return number
