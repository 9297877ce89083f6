"""Latency against offered load: every server at the same shares of what it can do, in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bench.peers.servers import Client, Server

SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.15)
KEPT_UP = 0.95  # of what was offered answered in time: what is less is overload
WARM = 0.3  # of a slice, before anything counts


class Load(NamedTuple):
    """Medians of rounds. Requests a second, and microseconds."""

    offered: float
    rate: float
    p50: float
    p99: float
    cpu: float  # of the server, a request
    refused: float  # share of what was due

    @property
    def keeps_up(self) -> bool:
        return self.rate >= KEPT_UP * self.offered


def measured(
    servers: Sequence[Server], client: Client, seconds: float, rounds: int, say: Callable[[str], None]
) -> dict[str, list[Load]]:
    """A load of each share, for each server."""
    for server in servers:
        client.load(server, WARM * seconds, 0, 0)
    full = {
        server.name: float(np.median([client.load(server, seconds, 0, turn)["rate"] for turn in range(rounds)]))
        for server in servers
    }
    say(", ".join(f"{name} answers {rate:,.0f} a second" for name, rate in full.items()))
    figures: dict[str, list[list[Load]]] = {server.name: [[] for _ in SHARES] for server in servers}
    for turn in range(rounds):
        for place, share in enumerate(SHARES):
            for server in servers:
                one = client.load(server, seconds, share * full[server.name], 1 + turn)
                figures[server.name][place].append(
                    Load(one["offered"], one["rate"], one["p50"], one["p99"], one["cpu"], one["refused"] / one["due"])
                )
        say(f"round {turn + 1} of {rounds} is over")
    return {
        name: [Load(*np.median(np.array(loads), axis=0).tolist()) for loads in each] for name, each in figures.items()
    }


def sustained(loads: Sequence[Load]) -> Load:
    """The largest load that it keeps up with; the smallest where it keeps up with none."""
    return max((load for load in loads if load.keeps_up), key=lambda load: load.rate, default=loads[0])


def ahead(ours: Sequence[Load], theirs: Sequence[Load]) -> float:
    """Our requests a second over theirs at the largest load they sustain, at no higher p99; 0: never."""
    limit = sustained(theirs)
    fit = [load.rate for load in ours if load.keeps_up and load.p99 <= limit.p99]
    return max(fit, default=0.0) / limit.rate


def curves(loads: Mapping[str, Sequence[Load]], what: str) -> dict[str, list[tuple[float, float]]]:
    """Offered load and milliseconds of each server."""
    return {name: [(load.offered, getattr(load, what) / 1e3) for load in sorted(each)] for name, each in loads.items()}
