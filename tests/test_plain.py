"""What a scene does not use costs a request nothing: counted in calls, which no busy machine changes."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

import pairec_fast
from tests.worlds import FIRST

HOME = Path(pairec_fast.__file__).parent
CALLS_MAX = 66  # Python functions of this package in a request of the demo's scene, a little above what there are


def called(function) -> Counter[str]:
    """The functions of the package that `function` calls, as `file:name`."""
    counted: Counter[str] = Counter()

    def see(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and HOME in path.parents:
            counted[f"{path.relative_to(HOME)}:{frame.f_code.co_name}"] += 1

    sys.setprofile(see)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counted


@pytest.fixture
def plain(world):
    """A world whose scene is not watched, not logged and not part of an experiment."""
    for section in ("PrometheusConfig", "CallBackConfs", "DiskConfs", "LogRingConf"):
        world.conf.pop(section, None)
    return world


def test_a_plain_request_calls_nothing_of_what_its_scene_does_not_use(plain):
    with plain.engine() as engine:
        for _ in range(3):  # arenas and vocabularies are made by the first
            engine.recommend(FIRST)
        counted = called(lambda: engine.recommend(FIRST))
    assert counted["walk.py:walk_here"] == 1
    unused = ("telling.py", "records.py", "measures.py", "experiment", "store", "load", "textlog.py", "fallback.py")
    assert [name for name in counted if name.startswith(unused)] == []
    assert sum(counted.values()) <= CALLS_MAX, counted.most_common()


def test_metrics_of_pairec_cost_a_few_calls_when_they_are_asked_for(plain):
    plain.conf["PrometheusConfig"] = {"Enable": True}
    with plain.engine() as engine:
        for _ in range(3):
            engine.recommend(FIRST)
        counted = called(lambda: engine.recommend(FIRST))
    assert counted["measures.py:recalled"] == 1
    assert sum(counted.values()) <= CALLS_MAX + 20, counted.most_common()
