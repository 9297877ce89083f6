"""The command line: data on stdout, messages on stderr; 0 is well, 1 a failure said in one line, 2 a wrong call."""

from __future__ import annotations

import json
import os
import re

import numpy as np
import pytest


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["nope"], ["serve"], ["check"], ["build", "x"], ["train", "x.csv"], ["log"], ["log", "nope"],
        ["serve", "--config", "x", "--workers", "0"], ["serve", "--config", "x", "--workers", "two"],
        ["check", "x", "--uid", "u"], ["check", "x", "--experiments", "--users", "0"],
        ["check", "x", "--experiments", "--uid", "u", "--users", "5"],
        ["check", "x", "--experiments", "--features", "[1]"],
        ["train", "x", "--label", "y", "--objective", "nope"], ["demo", "--items", "-1"], ["check", "a", "b"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_wrong_call_is_exit_2_with_the_usage(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and err.startswith("usage: pairec-fast") and "error: " in err


@pytest.mark.parametrize("verb", ["", "demo", "train", "build", "serve", "check", "log"])
def test_help_is_exit_0(run, verb):
    code, out, err = run(*verb.split(), "--help")
    assert (code, err) == (0, "") and out.startswith(f"usage: pairec-fast {verb}".rstrip())


# train and build


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(1)
    price, age = rng.random(600), rng.integers(18, 60, 600)
    clicked = rng.random(600) < price
    lines = (f"u{row % 40},{price[row]:.3f},{age[row]},{int(clicked[row])}" for row in range(600))
    path = tmp_path / "clicks.csv"
    path.write_text("user_id,price,age,clicked\n" + "\n".join(lines) + "\n")
    return path


def test_train_prints_what_it_measured_and_writes_the_model(run, table, tmp_path):
    code, out, err = run("train", table, "--label", "clicked", "-o", tmp_path / "model")
    assert (code, err) == (0, "trees ...\n") and "AUC" in out and "price" in out
    assert {path.name for path in (tmp_path / "model").iterdir()} >= {"model.txt", "features.json"}
    code, out, _ = run("train", table, "--label", "clicked", "-o", tmp_path / "model", "--json")
    figures = json.loads(out)
    assert code == 0 and 0.6 < figures["auc"] <= 1 and figures["rows"] + figures["rows_holdout"] >= 600


def test_train_refuses_in_one_line_what_it_cannot_use(run, table, tmp_path):
    for arguments, expected in (
        ([tmp_path / "nope.csv", "--label", "clicked"], "nope.csv"),
        ([table, "--label", "clickd"], "clickd"),
        ([table, "--label", "clicked", "--time", "when"], "when"),
        ([tmp_path, "--label", "clicked"], str(tmp_path)),
    ):
        code, out, err = run("train", *arguments, "-o", tmp_path / "model")
        assert (code, out) == (1, "") and err.startswith("pairec-fast train: ") and expected in err, err
    assert not (tmp_path / "model" / "model.txt").exists()


def test_build_says_where_a_world_file_is_wrong(run, tmp_path):
    for text in ("[items\n", '[items]\nfile = "nope.csv"\n', "", "\0"):
        (tmp_path / "world.toml").write_text(text)
        code, out, err = run("build", tmp_path / "world.toml", "-o", tmp_path / "snapshots")
        assert (code, out) == (1, "") and err.startswith("pairec-fast build: ") and "world.toml" in err
    assert not list(tmp_path.glob("snapshots/*"))
    code, _, err = run("build", tmp_path / "nope.toml", "-o", tmp_path / "snapshots")
    assert code == 1 and "nope.toml" in err


def test_build_prints_the_directory_it_made(run, shared_world, tmp_path):
    code, out, _ = run("build", shared_world.parent / "world" / "world.toml", "-o", tmp_path / "snapshots")
    assert code == 0 and os.path.isfile(os.path.join(out.strip(), "manifest.json"))


# check


def test_check_says_ok_on_stdout_and_what_is_unused_on_stderr(run, world):
    code, out, err = run("check", world.write())
    *models, last = out.splitlines()
    assert (code, err) == (0, "") and last.startswith("ok: 2 scenes and categories on snapshot ")
    assert len(models) == 1 and models[0].startswith("ranker: ranker, ") and "; cross " in models[0]
    world.conf |= {"Region": "cn-beijing", "Nonsense": 1}
    code, out, err = run("check", world.write())
    assert code == 0 and out.splitlines()[-1].startswith("ok: ")
    unused, unknown = err.splitlines()
    assert "Region: warning: accepted, does not act here" in unused
    assert "Nonsense: warning: unknown key, ignored" in unknown


def test_check_prints_every_error_at_once(run, world):
    world.conf["ListenConf"]["HttpPort"] = "80"
    world.conf["SortNames"]["default"] = ["nope", "spread"]
    world.callback["ItemSizeRate"] = 101
    code, out, err = run("check", world.write())
    assert (code, out) == (1, "")
    assert [one in err for one in ("HttpPort", "unknown sort", "ItemSizeRate")] == [True] * 3
    assert err.count("engine.json:1:") == 3


@pytest.mark.parametrize("verb", ["check", "serve --config"])
def test_a_kafka_property_that_librdkafka_refuses_is_told_before_anything_starts(run, world, verb):
    """A worker that finds it would end, and be started again, for ever."""
    pytest.importorskip("confluent_kafka")
    conf = {"BootstrapServers": "127.0.0.1:1", "Topic": "t", "Properties": {"linger.sm": "5"}}
    world.conf["KafkaConfs"] = {"rows": conf}
    world.callback["DataSource"] = {"Name": "rows", "Type": "kafka"}
    code, out, err = run(*verb.split(), world.write())
    assert (code, out) == (1, "") and 'KafkaConfs.rows: librdkafka property "linger.sm": No such' in err
    world.conf["KafkaConfs"]["rows"] = conf | {"Properties": {}, "Library": "/nowhere.so"}
    code, out, err = run(*verb.split(), world.write())
    assert (code, out) == (1, "") and "/nowhere.so" in err, "another is not taken instead"
    world.conf["KafkaConfs"]["rows"] = conf | {"Properties": {}}
    assert verb != "check" or run(verb, world.write())[0] == 0
    assert not (world.folder / "spill").exists(), "a check leaves nothing behind"


def test_check_finds_what_the_snapshot_lacks_beside_what_the_file_gets_wrong(run, world):
    """All of it at once, in the order of the file: whoever corrects one line at a time starts as often as there are."""
    recalls = {recall["Name"]: recall for recall in world.conf["RecallConfs"]}
    recalls["hot"]["DaoConf"]["TableName"] = "hott"
    recalls["vectors"]["HnswConf"]["Index"] = "asl"
    recalls["group_hot"]["RecallCount"] = "many"
    world.conf["AlgoConfs"][0]["LightGBMConf"]["Model"] = "rankr"
    path = world.write()
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
    code, out, err = run("check", path)
    problems = err.splitlines()
    assert (code, out, len(problems)) == (1, "", 4)
    lines = path.read_text().splitlines()
    found = [re.fullmatch(r".*engine\.json:(\d+):(\d+): (\S+): (.*)", problem) for problem in problems]
    assert [(one[3], lines[int(one[1]) - 1].strip().rstrip(",")) for one in found] == [
        ("RecallConfs.vectors.HnswConf.Index", '"Index": "asl"'),
        ("RecallConfs.hot.DaoConf.TableName", '"TableName": "hott"'),
        ("RecallConfs[3].RecallCount", '"RecallCount": "many"'),
        ("AlgoConfs.ranker.LightGBMConf.Model", '"Model": "rankr"'),
    ]
    assert all(lines[int(one[1]) - 1][int(one[2]) - 1] in '"[' for one in found)
    code, out, err = run("check", path, "--json")
    assert (code, err) == (1, "")
    for line, one in zip(out.splitlines(), found, strict=True):
        problem = json.loads(line)
        assert list(problem) == ["file", "line", "column", "path", "message", "severity"]
        assert (problem["line"], problem["column"], problem["path"]) == (int(one[1]), int(one[2]), one[3])
        assert (problem["file"], problem["message"], problem["severity"]) == (str(path), one[4], "error")


def test_check_prints_problems_as_json_whatever_is_wrong(run, world, tmp_path):
    code, out, _ = run("check", world.write(), "--json")
    assert (code, out) == (0, "")
    world.conf["Nonsense"] = 1
    code, out, _ = run("check", world.write(), "--json")
    assert code == 0 and json.loads(out)["severity"] == "warning"
    world.conf["SnapshotConf"]["Directory"] = str(tmp_path / "nowhere")
    code, out, _ = run("check", world.write(), "--json")
    assert code == 1 and [json.loads(line)["path"] for line in out.splitlines()] == [
        "SnapshotConf.Directory", "Nonsense",
    ]  # fmt: skip
    for text, line, column in (("{", 1, 2), ('{"a": \n tru}', 2, 2), ("[]", 1, 1)):
        (tmp_path / "bad.json").write_text(text)
        code, out, _ = run("check", tmp_path / "bad.json", "--json")
        problem = json.loads(out)
        assert (code, problem["line"], problem["column"]) == (1, line, column)
    code, out, _ = run("check", tmp_path / "none.json", "--json")
    assert code == 1 and json.loads(out)["line"] == 0


def test_check_prints_the_schema_of_the_file(run):
    code, out, err = run("check", "--schema")
    assert (code, err) == (0, "") and json.loads(out)["$schema"].endswith("2020-12/schema")
    assert run("check", "--schema", "engine.json")[0] == 2


def test_check_finds_what_the_snapshot_lacks(run, world):
    world.conf["AlgoConfs"][0]["LightGBMConf"]["Model"] = "rankr"
    code, out, err = run("check", world.write())
    assert (code, out) == (1, "") and "rankr" in err
    del world.conf["SnapshotConf"]
    assert "SnapshotConf" in run("check", world.write())[2]


def test_a_demo_that_is_there_is_served_on_the_port_asked_for(shared_world, monkeypatch, run):
    """Its engine.json names the port it was made with; what is printed to try names this one."""
    pytest.importorskip("granian")
    served = []

    def serve(path, workers, *, port, ready):
        ready()
        served.append((path, port))
        return 0

    monkeypatch.setattr("pairec_fast.serve.serve", serve)
    code, _, said = run("demo", "--items", 600, "--users", 200, "--dir", shared_world.parent, "--port", 8123)
    assert (code, served) == (0, [(shared_world, 8123)])
    assert said.count("http://127.0.0.1:8123/") == 3
