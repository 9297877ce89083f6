"""Fixtures shared by all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """A small demo shop, built once: a folder with world/, snapshots/ and engine.json. Read-only: copy to change."""
    from pairec_fast.build import build
    from pairec_fast.learn.demo import Demo

    demo = Demo("world", tmp_path_factory.mktemp("shop"), 600, 200, 1, 0)
    demo.make(build, lambda line: None, lambda step, done, total: None)
    return demo.directory
