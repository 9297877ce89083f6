"""What a run came to, as tables to read and as JSON to keep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pairec_fast.latency.judge import Verdict
from pairec_fast.latency.measure import Samples
from pairec_fast.latency.quantile import interval
from pairec_fast.latency.terms import quantile_of, show_ns

SHOWN = ("p50", "p90", "p99", "p99.9")


@dataclass
class Result:
    """One test: what was measured and what that came to."""

    test: str
    samples: Samples
    verdicts: list[Verdict] = field(default_factory=list)


def quantiles_us(times: Sequence[int]) -> dict[str, dict[str, float | None]]:
    """Of each quantile its value and bounds, in microseconds; `None` for a bound the sample is too small for."""
    ordered = sorted(times)
    found = {name: interval(ordered, quantile_of(name)) for name in SHOWN}
    return {
        name: {"value": _us(of.value), "low": _us(of.low) if of.low else None, "high": _us(of.high)}
        for name, of in found.items()
    }


def summary(samples: Samples) -> dict[str, Any]:
    """What lands in pytest-benchmark's `extra_info` and in the JSON report."""
    return {
        "kind": samples.kind,
        "n": len(samples),
        "cpu_us": quantiles_us(samples.cpu),
        "wall_us": quantiles_us(samples.wall),
    }


def as_json(results: Sequence[Result], about: dict[str, Any]) -> str:
    tests = [
        {
            "test": result.test,
            **summary(result.samples),
            "verdicts": [verdict_json(verdict) for verdict in result.verdicts],
        }
        for result in results
    ]
    return json.dumps({"about": about, "tests": tests}, indent=1, allow_nan=False)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "quantile": verdict.limit.name,
        "verdict": verdict.verdict,
        "value": _finite(verdict.value.value),
        "low": _finite(verdict.value.low),
        "high": _finite(verdict.value.high),
        "budget_ns": verdict.limit.budget_ns,
        "ratio": verdict.limit.ratio,
        "reason": verdict.reason,
    }


def as_markdown(results: Sequence[Result], about: dict[str, Any]) -> str:
    """A table whose times are CPU time a call; wall time beside it."""
    head = ["test", "n", *SHOWN[:1], "p99 [95 %]", "p99.9", "wall p50", "wall p99", "verdict"]
    rows = [[f"`{result.test}`", *_row(result)] for result in results]
    known = ", ".join(f"{name}: {value}" for name, value in about.items() if value is not None)
    return f"{markdown(head, rows)}\n\n{known}\n"


def lines(results: Sequence[Result]) -> list[str]:
    """For the terminal: aligned, one test a line, then why where there is something to say."""
    head = ["", "n", "p50", "p99 [95 %]", "p99.9", "wall p50", "wall p99", "verdict"]
    shown = aligned([head, *([result.test, *_row(result)] for result in results)])
    return shown + [f"{result.test}: {verdict}" for result in results for verdict in result.verdicts]


def _row(result: Result) -> list[str]:
    samples = result.samples
    cpu, wall = sorted(samples.cpu), sorted(samples.wall)
    at = {name: interval(cpu, quantile_of(name)) for name in SHOWN}
    waited = {name: interval(wall, quantile_of(name)).value for name in SHOWN}
    p99 = at["p99"]
    said = worst(result.verdicts)
    return [
        str(len(samples)) + (" open" if samples.kind == "open" else ""),
        show_ns(at["p50"].value),
        f"{show_ns(p99.value)} [{show_ns(p99.low)}, {show_ns(p99.high)}]",
        show_ns(at["p99.9"].value),
        show_ns(waited["p50"]),
        show_ns(waited["p99"]),
        said or "-",
    ]


def worst(verdicts: Sequence[Verdict]) -> str:
    """The verdict a reader must know of first; empty for none."""
    said = {verdict.verdict for verdict in verdicts}
    return next((name for name in ("regress", "inconclusive", "pass") if name in said), "")


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns begin under each other."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    shown = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in shown)


def _us(ns: float) -> float | None:
    return round(ns / 1e3, 3) if math.isfinite(ns) else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
