"""A module imports only from layers below its own, and the core stands on numpy and msgspec alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pairec_fast"

LAYERS = [
    "errors terminal warned",
    "limits messages latency compress sql",
    "admission",
    "core",
    "slots",
    "metrics",
    "measures push",
    "stages",
    "manifest",
    "snapshot expression",
    "items properties cache replies",
    "query",
    "binding transform",
    "store recall filter features rerank reply experiment sink remote",
    "config",
    "load",
    "score fallback",
    "pipeline",
    "scene callback",
    "inquiry variants",
    "records",
    "logs",
    "telling walk textlog",
    "callback_items",
    "bound",
    "callback_recall",
    "callbacks",
    "engine",
    "reload",
    "routes",
    "shell",
    "app learn log_export log_resend",
    "http1",
    "serve",
    "log_cli",
    "build",
    "cli",
    "__main__",
]
LAYER = {name: layer for layer, names in enumerate(LAYERS) for name in names.split()}
OFFLINE = {"lightgbm", "hnswlib", "implicit", "scipy", "pyarrow", "tqdm", "xgboost", "sklearn", "catboost", "treelite"}
SERVER = {"granian", "httptools", "uvloop", "uvicorn"}
CLIENTS = {"confluent_kafka", "datahub", "requests"}
STORES = {"redis", "psycopg", "psycopg_pool", "lmdb"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py*") if path.suffix in (".py", ".pyx"))


def room(path: Path) -> str:
    """The top-level name a file belongs to: `recall/hot.py` and `recall/__init__.py` are `recall`."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(path.suffix)


def imported(path: Path) -> set[str]:
    """Dotted names a file imports anywhere, as text: `.pyx` is not Python, so lines are read, not parsed."""
    names = set()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import; write the full name"
                names.add(node.module)
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    else:
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"], ["cimport"]):
                names.add(words[1].rstrip(","))
    return names


def rooms_imported(path: Path) -> set[str]:
    parts = [name.split(".") for name in imported(path)]
    known = [part[1] for part in parts if part[0] == "pairec_fast" and len(part) > 1]
    return {name for name in known if name in LAYER}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_from_lower_layers(path):
    own = room(path)
    if own == "__init__":
        return
    assert own in LAYER, f"{own} has no layer: add it to DESIGN and to this table"
    for other in rooms_imported(path) - {own}:
        assert LAYER[other] < LAYER[own], f"{own} (layer {LAYER[own]}) imports {other} (layer {LAYER[other]})"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_third_party_imports_stay_in_their_rooms(path):
    tops = {name.split(".")[0] for name in imported(path)}
    if room(path) not in ("learn", "build", "cli", "terminal", "log_export"):
        assert not tops & OFFLINE
    if room(path) not in ("app", "http1", "serve", "cli"):
        assert not tops & SERVER
    if room(path) not in ("log_resend", "sink"):
        assert not tops & CLIENTS
    if room(path) != "store":
        assert not tops & STORES


def test_embedding_pulls_in_no_server_no_trainer_and_no_client():
    code = (
        "import sys, pairec_fast\n"
        f"heavy = {sorted(OFFLINE | SERVER | CLIENTS | STORES)!r}\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_files_stay_small():
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx"), *(PACKAGE.parent / "csrc").glob("*pp")]
    long = {
        str(path.relative_to(PACKAGE.parent)): lines
        for path in sources
        if not (path.suffix == ".cpp" and path.parent.name == "core")
        and (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long, "a room over 500 lines wants a wall"


def test_types_check():
    """mypy is strict over the package."""
    pytest.importorskip("mypy")
    root = PACKAGE.parent
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "-p", "pairec_fast"], cwd=root, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_no_source_names_a_folder_of_one_machine():
    words = ["/" + "work/", "/" + "root/"]
    root = PACKAGE.parent
    sources = [path for folder in ("pairec_fast", "csrc", "bench", "tests") for path in (root / folder).rglob("*.*")]
    kinds = {".py", ".pyx", ".pxd", ".pyi", ".hpp", ".toml", ".md"}
    found = [
        (path.name, word) for path in sources if path.suffix in kinds for word in words if word in path.read_text()
    ]
    assert not found
