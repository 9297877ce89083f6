"""The README's examples run as printed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import msgspec
import pytest

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", README, re.M | re.S)


@pytest.fixture
def here(shop, tmp_path, monkeypatch):
    """A folder as a reader would stand in: engine.json, its snapshots, a model.txt and the same compiled."""
    shutil.copytree(shop / "snapshots", tmp_path / "snapshots")
    shutil.copy(shop / "engine.json", tmp_path)
    shutil.copy(next((shop / "snapshots").glob("*/ranker.txt")), tmp_path / "model.txt")
    shutil.copy(next((shop / "snapshots").glob("*/ranker.forest")), tmp_path / "model.forest")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("place", range(len(blocks("python"))))
def test_python_examples_run(here, place, capsys):
    exec(compile(blocks("python")[place], "README.md", "exec"), {})


def test_the_request_shown_is_one_the_engine_answers(here):
    from pairec_fast import Engine

    body = next(re.search(r"-d '(.*?)'", block)[1] for block in blocks("sh") if "/api/rec/feed" in block)
    shown = json.loads(blocks("json")[0].replace("…", ""))
    with Engine.from_config("engine.json") as engine:
        reply = msgspec.to_builtins(engine.recommend(json.loads(body)))
    assert list(reply) == list(shown)
    assert [list(item) for item in reply["items"]] == [list(item) for item in shown["items"]]


def test_the_verbs_and_routes_named_exist():
    from pairec_fast.app import App
    from pairec_fast.cli import main

    for verb in set(re.findall(r"pairec-fast (\w+)", README)):
        with pytest.raises(SystemExit) as stopped:
            main([verb, "--help"])
        assert stopped.value.code == 0
    app = App(lambda: None)
    for route in re.findall(r"`(/[a-z/]+)`", README):
        if route.startswith(("/api", "/ping", "/livez", "/readyz", "/metrics")):
            assert app.handle(route, b"")[0] != 404


def test_the_world_example_is_one_that_build_accepts():
    import tomllib

    from pairec_fast.learn.spec import World, check_world

    text = "\n".join(line.removeprefix("   ") for line in blocks("toml")[0].splitlines())
    check_world(msgspec.convert(tomllib.loads(text), World))
