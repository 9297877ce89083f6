"""The maxima that size memory. Everything a request can grow into is bounded here, once, at start."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

Positive = Annotated[int, Meta(ge=1)]

# What the time of a request is told by, in this order; and all of it. Budgets may be set for each.
STAGES = ("recall", "filter", "general", "features", "score", "rerank", "reply")
TOTAL = "total"
Budgets = Annotated[
    dict[str, Positive], Meta(extra_json_schema={"propertyNames": {"enum": [*STAGES, TOTAL]}})
]  # fmt: skip


class LimitConf(Struct, frozen=True, rename="pascal"):
    """Ours.

    candidates_max: slots of the arena: what all recalls of a scene may bring together.
    size_max: items one request may get; who asks for more gets this many.
    history_max: items of a user's history a request looks at, the newest.
    body_bytes_max: larger request bodies are refused.
    p99_target_ms: milliseconds in which 99 of 100 recommendations are to be answered. A worker lets in as many at once
        as it answers within a twentieth of it; as many again get what is popular, more are answered 503.
    in_flight_max: so many instead, whatever was measured.
    drain_seconds: how long a worker that is told to stop goes on serving while it says that it is not ready.
    awaiting_max: requests of a worker that wait for live stores or model servers at once, answers whose fallback has
        been given included; more are answered 503.
    new_items_max: rows for items added or changed since the snapshot was built. Each costs memory when it is taken.
    budget_microseconds: by scene, or "*" for those not named, and by stage or "total", how long it should take. What
        takes longer is answered all the same, and counted. May change while running.
    """

    candidates_max: Positive = 4096
    size_max: Positive = 1000
    history_max: Positive = 1000
    body_bytes_max: Positive = 1 << 20
    p99_target_ms: Annotated[float, Meta(gt=0, le=60_000)] = 50.0
    in_flight_max: Positive | None = None
    drain_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    awaiting_max: Positive = 256
    new_items_max: Annotated[int, Meta(ge=0, le=1 << 24)] = 10_000
    budget_microseconds: dict[str, Budgets] = field(default_factory=dict)
