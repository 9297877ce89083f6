"""Curves as SVG or PNG, by what the file's name ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.recall.sweep import Point

TICKS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
RECALL_SHOWN = 0.75, 0.9995
GREY = "#7d8590"  # like the colours legible on white and on black
OURS = {
    "pairec_fast partition": "#2f81f7", "pairec_fast hnsw": "#8250df", "pairec_fast on hnswlib's graph": "#bf5af2",
    "pairec_fast flat": "#1b9e9e", "pairec_fast": "#2f81f7", "pairec_fast on uvicorn": "#8250df",
}  # fmt: skip
OTHERS = ("#db6d28", "#3fb950", "#d4a72c", "#f47067", "#9e7b5a", "#57a6a1", "#e275ad", "#7d8590")
Curves = Mapping[str, Sequence[Point]]


def colours(names: Sequence[str]) -> dict[str, str]:
    others = iter(OTHERS * len(names))
    return {name: OURS[name] if name in OURS else next(others) for name in names}


def curves(panels: Mapping[str, Curves], file: Path, caption: str) -> None:
    """A panel for each title: p50 by recall, both drawn so that twice as good is as far everywhere."""
    names = list(dict.fromkeys(name for each in panels.values() for name in each))
    colour = colours(names)
    figure, places = _figure(len(panels))
    for axes, (title, each) in zip(places, panels.items(), strict=False):
        for name, points in each.items():
            shown = [point for point in points if RECALL_SHOWN[0] <= point.recall]
            across = [_lack(point.recall) for point in shown]
            axes.plot(across, [point.p50_us for point in shown], "o-", ms=3, color=colour[name], label=name)
        axes.set_yscale("log")
        axes.set_xlim(_lack(RECALL_SHOWN[0]), _lack(RECALL_SHOWN[1]))
        axes.set_xticks([_lack(tick) for tick in TICKS], [f"{tick:g}" for tick in TICKS])
        _dress(axes, title, "recall", "p50, microseconds of CPU")
    _finish(figure, names, file, caption)


def lines(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], file: Path, caption: str, *, across: str = "",
    up: str = "p50, microseconds of CPU", ticks: Sequence[float] = (),
) -> None:  # fmt: skip
    """A panel for each title: of each name what grows and microseconds, both logarithmic.

    Without `ticks` every point has one.
    """
    names = list(dict.fromkeys(name for each in panels.values() for name in each))
    colour = colours(names)
    figure, places = _figure(len(panels))
    for axes, (title, each) in zip(places, panels.items(), strict=False):
        for name, points in each.items():
            axes.plot(*zip(*points, strict=True), "o-", ms=3, color=colour[name], label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        marks = ticks or sorted({place for points in each.values() for place, _ in points})
        axes.set_xticks(marks, [short(mark) for mark in marks])
        axes.minorticks_off()
        _dress(axes, title, across, up)
    _finish(figure, names, file, caption)


def short(count: float) -> str:
    """300000: 300 k."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"


def _lack(recall: float) -> float:
    return float(-np.log10(1 - min(recall, RECALL_SHOWN[1])))


def _figure(count: int) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "0", "font.size": 9})
    from matplotlib import pyplot

    across = min(3, count)
    down = -(-count // across)
    figure, places = pyplot.subplots(down, across, figsize=(4.4 * across, 3.4 * down + 0.8), squeeze=False)
    for axes in places.flat[count:]:
        axes.remove()
    return figure, list(places.flat[:count])


def _dress(axes: Any, title: str, across: str, up: str) -> None:
    axes.set_title(title, color=GREY, fontsize=10)
    axes.set_xlabel(across, color=GREY)
    axes.set_ylabel(up, color=GREY)
    axes.grid(True, which="major", color=GREY, alpha=0.3)
    axes.tick_params(colors=GREY, which="both")
    axes.patch.set_alpha(0)
    for spine in axes.spines.values():
        spine.set_color(GREY)


def _finish(figure: Any, names: Sequence[str], file: Path, caption: str) -> None:
    wide, high = figure.get_size_inches()
    columns = max(1, int(wide / 2.2))
    known = {line.get_label(): line for each in figure.axes for line in each.get_lines()}
    figure.legend(
        [known[name] for name in names],
        names,
        loc="lower center",
        ncol=columns,
        frameon=False,
        labelcolor=GREY,
    )
    figure.suptitle(caption, color=GREY, fontsize=9)
    legend = -(-len(names) // columns) * 0.2 + 0.1  # inches
    figure.tight_layout(rect=(0, legend / high, 1, 0.99))
    figure.savefig(file, transparent=True, metadata={"Date": None} if file.suffix == ".svg" else None)
