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


@pytest.fixture(scope="session")
def _kafka(tmp_path_factory):
    from tests.services.kafka import Kafka
    from tests.services.process import offer

    with offer(lambda: Kafka(tmp_path_factory.mktemp("kafka"))) as broker:
        yield broker


@pytest.fixture
def kafka(_kafka):
    """Apache Kafka, running. A test may kill or freeze it; each makes topics of its own."""
    _kafka.ensure()
    return _kafka


@pytest.fixture(scope="session")
def _redis_server(tmp_path_factory):
    from tests.services.process import offer
    from tests.services.redis import Redis

    with offer(lambda: Redis(tmp_path_factory.mktemp("redis"))) as server:
        yield server


@pytest.fixture
def redis_server(_redis_server):
    """Redis, running and empty. A test may kill or freeze it."""
    _redis_server.ensure()
    _redis_server.client.flushall()
    return _redis_server


@pytest.fixture(scope="session")
def _postgres():
    from tests.services.postgres import Postgres
    from tests.services.process import offer

    with offer(Postgres) as server:
        yield server


@pytest.fixture
def postgres(_postgres):
    """PostgreSQL, running. A test may kill or freeze it; each makes tables of its own and drops them."""
    _postgres.ensure()
    return _postgres
