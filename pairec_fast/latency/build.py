"""A revision of a project, built and installed into a virtual environment of its own, once for each commit."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

CONFIGURATION = ("pyproject.toml", "pytest.ini", "tox.ini", "setup.cfg", "conftest.py")
WORKING_TREE = "."
MAKES_WHEELS = "70.1"  # setuptools before needs another package for that


class BuildError(RuntimeError):
    """A revision that is none, or that does not build; the message carries what its build printed last."""


def cache_folder() -> Path:
    """Outside any tree: `$PAIREC_LATENCY_CACHE`, else the user's cache."""
    given = os.environ.get("PAIREC_LATENCY_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(given) if given else Path(home, "pairec_fast_latency")


def commit_of(repository: Path, revision: str) -> str | None:
    """The commit a revision names, if it names one; "." is of the tracked files as they stand."""
    try:
        if revision == WORKING_TREE:
            stash = _git(repository, "stash", "create").strip()
            return stash or _git(repository, "rev-parse", "HEAD").strip()
        return _git(
            repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def environment(repository: Path, revision: str, say: Callable[[str], None]) -> tuple[str, str]:
    """The commit and the interpreter of an environment in which it is installed, built now if it was not before.

    What it depends on is shared with the interpreter that runs this, and so alike for all revisions.

    Raises:
        BuildError: there is no such revision, or it does not build.
    """
    commit = commit_of(repository, revision)
    if commit is None:
        raise BuildError(f"{revision!r} is no revision of {repository}")
    # The tree and not the commit: a stash of the same files has another commit each time.
    tree = _git(repository, "rev-parse", f"{commit}^{{tree}}").strip()
    of = hashlib.sha256(f"{sys.prefix} {sys.version} {repository}".encode()).hexdigest()[:8]
    folder = cache_folder() / f"{repository.name}-{tree[:16]}-{of}"
    python = str(folder / "env" / "bin" / "python")
    if (folder / "built").exists():
        say(f"{revision}: {commit[:12]}, built before, in {folder}")
        return commit, python
    say(f"{revision}: building {commit[:12]} in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    extract(repository, commit, folder / "source")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder / "env")
    _share(folder / "env")
    install = ["install", "--quiet", "--no-deps", "--ignore-installed", str(folder / "source")]
    if _has_what_builds(folder / "source"):
        install.insert(1, "--no-build-isolation")  # nothing to fetch, and nothing differs between revisions
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *install],
        cwd=folder, capture_output=True, text=True, env=plain_environment(),
    )  # fmt: skip
    if done.returncode != 0:
        told = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise BuildError(f"{revision} ({commit[:12]}) does not build; it printed last:\n{told}")
    shutil.rmtree(folder / "source")
    (folder / "built").write_text(commit + "\n")
    return commit, python


def benchmarks(repository: Path, commit: str, paths: Sequence[str], folder: Path) -> None:
    """Put a commit's benchmarks and pytest's configuration into a folder from which its package cannot be imported."""
    held = set(_git(repository, "ls-tree", "--name-only", commit).split("\n"))
    for path in paths:
        if path.split("/")[0] not in held:
            raise BuildError(f"{commit[:12]} has no {path}")
    extract(repository, commit, folder, [*paths, *(name for name in CONFIGURATION if name in held)])


def extract(repository: Path, commit: str, folder: Path, paths: Sequence[str] = ()) -> None:
    """The files of a commit, or those under `paths`."""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", commit, "--", *paths], cwd=repository, capture_output=True, check=True
    )
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as tar:
        tar.extractall(folder, filter="data")


def _share(env: Path) -> None:
    """Let it see what is installed beside this interpreter, after its own: paths alone, no editable install."""
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    places = list(env.glob("lib/python*/site-packages"))
    assert len(places) == 1, places
    (places[0] / "shared.pth").write_text("".join(f"{path}\n" for path in shared))


def _has_what_builds(source: Path) -> bool:
    """Whether what a project says that it is built with is installed beside this interpreter."""
    try:
        system = tomllib.loads((source / "pyproject.toml").read_text()).get("build-system", {})
        needed = [Requirement(text) for text in system.get("requires", ["setuptools"])]
        if any(canonicalize_name(one.name) == "setuptools" for one in needed):
            needed.append(Requirement(f"setuptools>={MAKES_WHEELS}"))
        return all(
            one.specifier.contains(version(one.name), prereleases=True)
            for one in needed
            if one.marker is None or one.marker.evaluate()
        )
    except (OSError, ValueError, InvalidRequirement, PackageNotFoundError):
        return False


def plain_environment() -> dict[str, str]:
    """Without what would put another package before the one installed."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _git(repository: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=True).stdout
