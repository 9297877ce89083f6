"""What a walk says of the parts it goes without."""

from __future__ import annotations

from pairec_fast.warned import WARN_SECONDS, Warned


def test_a_part_that_stays_missing_is_told_of_now_and_then_and_how_often(caplog):
    now = [100.0]
    warned = Warned(lambda: now[0])
    for _ in range(1000):
        warned("feed", "shown", "gone")
    warned("feed", "other", "gone too")
    warned("start", "shown", "gone")
    now[0] += WARN_SECONDS
    warned("feed", "shown", "gone still")
    warned("feed", "shown", "gone still")
    assert [record.getMessage() for record in caplog.records] == [
        "feed: shown: gone", "feed: other: gone too", "start: shown: gone",
        "feed: shown: gone still (999 more since the last such line)",
    ]  # fmt: skip
