"""`pairec-fast VERB`. Data on stdout, messages on stderr; exit 0 ok, 1 failed, 2 usage."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from pairec_fast import log_cli
from pairec_fast.errors import PairecError
from pairec_fast.terminal import Bars, say

_EXTRAS = {"granian": "serve", "httptools": "serve", "uvloop": "serve", "confluent_kafka": "kafka"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="pairec-fast", description="Recommendation serving in one process.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (_demo, _train, _build, _items, _serve, _check, log_cli.add):
        add(verbs)
    options = parser.parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleans up; a server takes the signal over
    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()  # here, where a closed pipe is expected
        return code
    except PairecError as error:
        print(f"pairec-fast {options.verb}: {error}", file=sys.stderr)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has seen enough
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error
        print(f"pairec-fast {options.verb}: {what}", file=sys.stderr)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "", "learn")
        print(f"pairec-fast {options.verb}: needs {error.name}: pip install 'pairec_fast[{extra}]'", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help: str) -> argparse.ArgumentParser:
    return verbs.add_parser(name, help=help, description=help)


def _demo(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "demo", "Make a world, train on it, build a snapshot and serve it.")
    parser.add_argument(
        "--data", choices=["world", "ml-100k"], default="world", help="the demo world, or MovieLens-100K"
    )
    parser.add_argument("--items", type=_positive, default=20_000)
    parser.add_argument("--users", type=_positive, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=_positive, default=1)
    parser.add_argument("--dir", type=Path, default=Path("demo"), help="where everything it makes lives")
    parser.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from pairec_fast.learn.demo import Demo
    from pairec_fast.serve import serve

    bars = Bars()
    demo = Demo(options.data, options.dir, options.items, options.users, options.seed, options.port)
    if not demo.ready():
        from pairec_fast.build import build

        demo.make(build, say, bars)
        bars.close()
    return serve(demo.config, options.workers, port=options.port, ready=lambda: say(demo.what_to_try()))


def _train(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "train", "Train a LightGBM model on a table of interactions.")
    parser.add_argument("table", type=Path, help="CSV or Parquet")
    parser.add_argument("--label", required=True, help="the column to predict")
    parser.add_argument("--objective", choices=["binary", "lambdarank", "regression"], default="binary")
    parser.add_argument("--group", help="column of requests: rows of one are ranked against each other")
    parser.add_argument("--time", help="column of times; the latest rows are held out")
    parser.add_argument("--holdout", choices=["time", "user"], help="insist on how to hold out")
    parser.add_argument("--user", default="user_id", help="column of users")
    parser.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="not a feature; may be repeated")
    parser.add_argument("--categorical", action="append", default=[], metavar="COLUMN", help="numbers that are names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("."), help="folder for model.txt and features.json")
    parser.add_argument("--json", action="store_true", help="figures as one JSON object")
    parser.set_defaults(run=_run_train)


def _run_train(options: argparse.Namespace) -> int:
    from pairec_fast.learn.train import train_table

    bars = Bars()
    result = train_table(
        options.table, label=options.label, output=options.output, objective=options.objective, group=options.group,
        time=options.time, holdout=options.holdout, user=options.user, drop=options.drop,
        categorical=options.categorical, seed=options.seed, progress=lambda done, total: bars("trees", done, total),
    )  # fmt: skip
    bars.close()
    if options.json:
        figures = {
            name: getattr(result, name)
            for name in ("rows", "rows_holdout", "trees", "auc", "log_loss", "ndcg", "rmse", "importances")
        }
        print(msgspec.json.encode(figures).decode())
    else:
        print(result.report)
    return 0


def _build(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "build", "Build a snapshot from a world file.")
    parser.add_argument("world", type=Path, help="world.toml")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of snapshots")
    parser.set_defaults(run=_run_build)


def _run_build(options: argparse.Namespace) -> int:
    from pairec_fast.build import build

    bars = Bars()
    directory = build(options.world, options.output, say=say, progress=bars)
    bars.close()
    print(directory)
    return 0


def _items(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "items", "Add, change or remove items between snapshots; workers see it within a second.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, help, run, given, what in (
        ("add", "Add or change items, all of the file or none.", _run_add, "file",
         'JSON lines, {"item_id": ..., column: value, ..., "vectors": {name: [...]}}; - is stdin'),
        ("remove", "Remove items, all of them or none.", _run_remove, "id",
         "what to remove; - reads ids from stdin, a line each"),
    ):  # fmt: skip
        action = actions.add_parser(name, help=help, description=help)
        action.add_argument(given, nargs=None if given == "file" else "+", help=what)
        action.add_argument("--snapshots", type=Path, default=Path("snapshots"), help="folder of snapshots")
        action.set_defaults(run=run)


def _run_add(options: argparse.Namespace) -> int:
    from pairec_fast.items import add

    stdin = options.file == "-"
    name, text = ("stdin", sys.stdin.buffer.read()) if stdin else (options.file, Path(options.file).read_bytes())
    lines = [(number, line) for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    items = []
    for number, line in lines:
        try:
            items.append(msgspec.json.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PairecError(f"{name}: line {number}: not JSON: {error}") from error
    sequence = add(options.snapshots, items, where=lambda place: f"{name}: line {lines[place][0]}")
    print(f"sequence {sequence}: {len(items)} items added or changed")
    return 0


def _run_remove(options: argparse.Namespace) -> int:
    from pairec_fast.items import remove

    ids = sys.stdin.read().split("\n") if options.id == ["-"] else options.id
    ids = [id for id in ids if id] if options.id == ["-"] else ids
    sequence = remove(options.snapshots, ids, where=lambda place: f"ID {place + 1}")
    print(f"sequence {sequence}: {len(ids)} items removed")
    return 0


def _serve(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "serve", "Serve a configuration over HTTP.")
    parser.add_argument("--config", type=Path, required=True, help="engine.json")
    parser.add_argument("--workers", type=_positive, default=1, help="processes; they share the snapshot's pages")
    parser.set_defaults(run=_run_serve)


def _run_serve(options: argparse.Namespace) -> int:
    from pairec_fast.serve import serve

    return serve(options.config, options.workers)


def _check(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "check", "Check a configuration and the snapshot it names; all problems at once.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", type=Path, help="engine.json")
    what.add_argument("--schema", action="store_true", help="print a JSON Schema of the file instead, for editors")
    parser.add_argument("--experiments", action="store_true", help="who falls where; needs no snapshot")
    parser.add_argument("--uid", action="append", default=[], help="what this user falls into; may be repeated")
    parser.add_argument("--users", type=_positive, metavar="N", help="shares among the uids 1 to N (10,000)")
    parser.add_argument("--features", default="{}", metavar="JSON", help="the request's features, which filters read")
    parser.add_argument("--json", action="store_true", help="problems, or experiments, as JSON, a line each")
    parser.set_defaults(run=_run_check, refuse=parser.error)


def _run_check(options: argparse.Namespace) -> int:
    if options.schema:
        return _print_schema()
    if options.experiments:
        return _check_experiments(options)
    if options.uid or options.users or options.features != "{}":
        options.refuse("--uid, --users and --features go with --experiments")
    from pairec_fast.callback import refused_sinks
    from pairec_fast.errors import ConfigError
    from pairec_fast.inquiry import refused_servers
    from pairec_fast.scene import examine
    from pairec_fast.variants import refused_variants

    try:
        prepared = examine(
            options.config, lambda config: [*refused_sinks(config), *refused_servers(config)], refused_variants
        )
        problems, sound = prepared.problems, prepared.sound
    except ConfigError as error:  # it is no configuration at all
        problems, sound = error.problems, False
    if options.json:
        for problem in problems:
            print(msgspec.json.encode(problem._asdict()).decode())
        return int(not sound)
    for problem in problems:
        say(str(problem if problem.severity == "error" else problem._replace(message=f"warning: {problem.message}")))
    if not sound:
        return 1
    live = prepared.live
    assert live is not None, "what is sound has a snapshot"
    for model in {str(model): model for scene in prepared.scenes.values() for model in scene.score.models}:
        print(model)
    print(
        f"ok: {len(prepared.scenes)} scenes and categories on snapshot {live.snapshot.fingerprint} "
        f"({live.snapshot.directory.name}); {live.count} items, {live.added} added or changed and "
        f"{len(live.removed)} removed since it was built"
    )
    return 0


def _print_schema() -> int:
    from pairec_fast.config.schema import schema
    from pairec_fast.scene import KINDS

    print(msgspec.json.format(msgspec.json.encode(schema(KINDS)), indent=2).decode())
    return 0


def _check_experiments(options: argparse.Namespace) -> int:
    from pairec_fast.config import Config
    from pairec_fast.experiment import Experiments
    from pairec_fast.experiment.view import falls, rows, table
    from pairec_fast.scene import KINDS

    if options.uid and options.users:
        options.refuse("--uid and --users exclude each other")
    try:
        features = msgspec.json.decode(options.features, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        options.refuse(f"--features must be a JSON object, got {options.features}")
    config = Config.load(options.config, KINDS)
    for line in config.warnings:
        say(line)
    if config.experiment_conf is None:
        raise PairecError(f'{options.config}: no ExperimentConf; it names the experiments, as {{"File": ...}}')
    experiments = Experiments.load(config.path(config.experiment_conf.file))
    if options.uid:
        fallen = falls(experiments, options.uid, features)
        lines = [f"{one.uid}\t{one.scene}\t{one.exp_id}\t{_json(one.params)}" for one in fallen]
        print("\n".join(map(_json, fallen) if options.json else lines))
        return 0
    found = rows(experiments, options.users or 10_000, features)
    print("\n".join(map(_json, found) if options.json else table(found)))
    return 0


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _positive(text: str) -> int:
    number = int(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return number
