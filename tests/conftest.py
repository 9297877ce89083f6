"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory) -> Path:
    """engine.json of the demo world. Read-only."""
    from tests.worlds import make_world

    return make_world(tmp_path_factory.mktemp("world") / "demo")


@pytest.fixture(scope="session")
def shop(shared_world) -> Path:
    """The folder of the demo world: world/, snapshots/, engine.json. Read-only."""
    return shared_world.parent


@pytest.fixture
def world(shared_world, tmp_path):
    """A configuration to change, on the shared snapshot."""
    from tests.worlds import World

    return World(shared_world, tmp_path)


@pytest.fixture(scope="module")
def app(shared_world, tmp_path_factory):
    """The ASGI callable on the demo world, with a category that reranks the list of the request."""
    from pairec_fast.app import App
    from tests.worlds import World

    world = World(shared_world, tmp_path_factory.mktemp("app"))
    world.scene["rerank"] = {
        "RecallNames": ["ContextItemRecall"],
        "OutputFields": ["item:price", "item:nope", "score:*", "score:ranker", "score:nope", "price", "a:b:c"],
    }
    with world.engine() as engine:
        yield App(engine)


@pytest.fixture
def run(capsys):
    """`pairec-fast ARGUMENTS` in this process: exit code, stdout, stderr."""

    from pairec_fast.cli import main

    def run(*arguments):
        capsys.readouterr()
        try:
            code = main(list(map(str, arguments)))
        except SystemExit as exit:
            code = exit.code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run
