"""Tables in markdown."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.recall.sweep import Point

BASELINE = "hnswlib"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Markdown; the first `left` columns stand left, the others right."""
    sides = [":--" if place < left else "--:" for place in range(len(head))]
    return "\n".join(line(row) for row in (head, sides, *rows))


def line(row: Sequence[str]) -> str:
    return "| " + " | ".join(row) + " |"


def of_targets(found: Mapping[float, Mapping[str, Point | float]]) -> str:
    """Recall, p50, p99 and the ratio to hnswlib's p50, a row for each name and target."""
    rows = []
    for target, points in found.items():
        base = points.get(BASELINE)
        for name, point in points.items():
            if isinstance(point, float):
                rows.append([f"{target:.2f}", name, "", "", f"at most {point:.3f}", "", "", ""])
                continue
            ratio = f"{base.p50_us / point.p50_us:.2f}" if isinstance(base, Point) else ""
            times = [f"{us:,.0f}" for us in (point.p50_us, point.p99_us)]
            rows.append(
                [f"{target:.2f}", name, point.setting, f"{point.effort:,}", f"{point.recall:.4f}", *times, ratio]
            )
    head = ["at", "index", "setting", "effort", "recall", "p50 us", "p99 us", f"x {BASELINE}"]
    return table(head, rows, left=3)


def machine() -> str:
    """The processor's name, as the system gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
