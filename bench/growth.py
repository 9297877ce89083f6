"""How a score's cost grows with trees, leaves, rows and features, measured beside LightGBM and drawn as SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.forests import Case, seeded
from bench.turns import in_turns, over

TREES = [50, 100, 200, 500, 1000]
LEAVES = [7, 15, 31, 63, 127, 255]
ROWS = [1, 8, 64, 512, 8192]
FEATURES = [10, 20, 50, 100, 200]

Panel = dict[str, list[tuple[int, float]]]  # series -> (what grows, ns per tree and row)

OURS, LIGHTGBM = "pairec_fast", "LightGBM"
COLOUR = {OURS: "#2f81f7", LIGHTGBM: "#db6d28"}  # these and the grey are legible on white and on black
GREY = "#7d8590"
WIDTH, HEIGHT = 880, 575
PLOT_WIDTH, PLOT_HEIGHT, MARGIN = 360, 200, 25  # of a panel, without its labels; before the first and after the last


def measured(cache: Path, rounds: int, say: Callable[[str], None]) -> dict[str, Panel]:
    """Title -> panel. Models are trained unless `cache` has them."""
    longest = seeded("growth", TREES[-1], 31, cache)

    def first(trees: int) -> Case:
        """The longest model's first trees: as if trained for no more."""
        file = cache / f"growth-{trees}x31.txt"
        longest.booster.save_model(file, num_iteration=trees)
        return Case("growth", file, longest.pool)

    def panel(title: str, points: list[int], case: Callable[[int], Case], rows: Callable[[int], int]) -> Panel:
        drawn: Panel = {OURS: [], LIGHTGBM: []}
        for point in points:
            of = case(point)
            if of.differing()[0]:
                raise SystemExit(f"{of}: the scores are not LightGBM's")
            blocks, per = of.blocks(rows(point)), of.trees * rows(point)
            calls = {OURS: over(of.forest.predict, blocks), LIGHTGBM: over(of.lightgbm, blocks)}
            for name, ns in in_turns(calls, rounds).items():
                drawn[name].append((point, ns / per))
            say(f"{title}: {point:,}: " + ", ".join(f"{name} {line[-1][1]:.3g} ns" for name, line in drawn.items()))
        return drawn

    def sized(leaves: int, width: int = 60) -> Case:
        return seeded("growth", 200, leaves, cache, width)

    of_300 = first(300)
    return {
        title: panel(title, points, case, rows)
        for title, points, case, rows in (
            ("trees of 31 leaves, 500 rows", TREES, first, lambda _: 500),
            ("leaves of each of 200 trees, 500 rows", LEAVES, sized, lambda _: 500),
            ("rows, 300 trees of 31 leaves", ROWS, lambda _: of_300, lambda rows: rows),
            ("features, 200 trees of 31 leaves, 500 rows", FEATURES, lambda width: sized(31, width), lambda _: 500),
        )
    }


def plot(panels: dict[str, Panel], caption: str) -> str:
    """SVG text: the panels two by two, both axes logarithmic, all with one scale of time."""
    every = [ns for panel in panels.values() for line in panel.values() for _, ns in line]
    low, high = int(np.floor(np.log10(min(every)))), int(np.ceil(np.log10(max(every))))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="{GREY}" stroke-width="1">',
        f"<title>{caption}</title>",
        f'<text x="20" y="20">nanoseconds of CPU per tree and row; {caption}</text>',
    ]
    for place, (title, panel) in enumerate(panels.items()):
        x, y = 60 + place % 2 * (PLOT_WIDTH + 80), 60 + place // 2 * (PLOT_HEIGHT + 80)
        parts += [f'<g transform="translate({x} {y})">', *_panel(title, panel, low, high), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(title: str, panel: Panel, low: int, high: int) -> list[str]:
    points = [point for point, _ in panel[OURS]]
    begin, end = np.log10(points[0]), np.log10(points[-1])

    def across(point: int) -> float:
        return round(float(MARGIN + (np.log10(point) - begin) / (end - begin) * (PLOT_WIDTH - 2 * MARGIN)), 1)

    def down(ns: float) -> float:
        return round(float((high - np.log10(ns)) / (high - low) * PLOT_HEIGHT), 1)

    parts = [f'<text y="-12" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        y = down(10.0**power)
        parts.append(f'<path d="M0 {y}H{PLOT_WIDTH}" stroke="{GREY}" opacity=".35"/>')
        parts.append(f'<text x="-8" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    for point in points:
        parts.append(f'<text x="{across(point)}" y="{PLOT_HEIGHT + 18}" text-anchor="middle">{point:,}</text>')
    for name, line in panel.items():
        colour, places = COLOUR[name], [(across(point), down(ns)) for point, ns in line]
        outer, inner = (20, -9) if name == OURS else (-9, 20)  # numbers on the outer side, the name on the inner
        path = " ".join(f"{x},{y}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        numbers = [f"{ns:.0f}" if ns >= 10 else f"{ns:.2g}" for _, ns in line]
        texts = [(x, y + outer, number) for (x, y), number in zip(places, numbers, strict=True)]
        texts.append((places[-2][0], places[-2][1] + inner, name))
        for x, y, text in texts:
            parts.append(f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="{colour}">{text}</text>')
    return parts
