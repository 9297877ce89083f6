"""What a peer keeps in memory: the snapshot's values, laid out as NumPy is fastest with them.

`exported` writes them beside the world, once; a peer's process reads them with NumPy and nothing of ours.

    users.txt  items.txt      ids, one a line
    vectors, vectors.rows     [vectors, dim] float32, and the item row of each
    users                     [users, dim] float32
    user                      [users, features] float64: those of the model that are the user's alone
    item                      [items, features] float64: those that are the item's alone
    category                  [items] int64, -1 for none
    by_category               [users, categories + 1, features] float64: those of user and category, whatever group the
                              user is in; the last line is for no category
    gender_brand, gender, brand   a table [genders + 1, brands + 1] float64, and where users and items stand in it
    context.json  model.txt   what the request brings, and LightGBM's own file
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers import world
from pairec_fast.features import FeaturePlan
from pairec_fast.snapshot import Snapshot

DATA = "peers"  # the folder beside engine.json
PACKAGES = ("fastapi", "uvicorn", "hnswlib", "lightgbm", "scann", "faiss-cpu", "lleaves", "granian", "numpy")
Array = NDArray[Any]


def exported(config: Path) -> Path:
    """The folder of what peers read of the world of that engine.json; made unless it is of this very snapshot."""
    snapshot = Snapshot.load(config.parent / "snapshots")
    folder = config.parent / DATA
    mark = folder / "fingerprint"
    if not mark.exists() or mark.read_text() != snapshot.fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _write(snapshot, folder)
        mark.write_text(snapshot.fingerprint)
    return folder


def item_count(folder: Path) -> int:
    return len(np.load(folder / "item.npy", mmap_mode="r"))


def _write(snapshot: Snapshot, folder: Path) -> None:
    plan = FeaturePlan.of_model(snapshot, world.MODEL)
    sources = [feature.source for feature in plan.features]
    if sources != world.SOURCES:
        raise SystemExit(f"{snapshot.directory} was built for other features than bench.peers has; remove its folder")
    vectors = snapshot.vectors[world.VECTORS]
    rows = snapshot.array(f"{world.VECTORS}.rows")
    info = snapshot.manifest.aggregates
    crosses = [source.partition(":")[2] for source in sources if source.partition(":")[2] in info]
    crosses = [name for name in crosses if info[name].user is not None and info[name].item is not None]
    by_category = [name for name in crosses if info[name].item == "category"]
    category = snapshot.items.columns["category"].values
    gender, brand = snapshot.users.columns["gender"].values, snapshot.items.columns["brand"].values
    made: dict[str, Array] = {
        "vectors": vectors.items[rows], "vectors.rows": rows, "users": vectors.users, "user": plan.user_values(),
        "item": plan.item_values(), "category": category.astype(np.int64), "gender": gender.astype(np.int64),
        "brand": brand.astype(np.int64), "gender_brand": _framed(snapshot.array(world.GENDER_BRAND)),
        "by_category": np.stack([_of_users(snapshot, name) for name in by_category], axis=-1),
    }  # fmt: skip
    for name in ("user", "item"):
        made[name] = made[name].astype(np.float64)
    for name, array in made.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array))
    for name, table in (("users", snapshot.users), ("items", snapshot.items)):
        (folder / f"{name}.txt").write_text("\n".join(table.ids.id(row) for row in range(len(table))))
    asked = {
        source.partition(":")[2]: {"place": place, "categories": plan.features[place].categories}
        for place, source in enumerate(sources)
        if source.startswith("context:")
    }
    (folder / "context.json").write_text(json.dumps(asked))
    shutil.copy(snapshot.directory / f"{world.MODEL}.txt", folder / "model.txt")


def _of_users(snapshot: Snapshot, name: str) -> Array:
    """An aggregate of user, or of a column of the user, and category: a line for each user, [users, categories + 1]."""
    framed = _framed(snapshot.array(name))
    column = snapshot.manifest.aggregates[name].user
    return framed[snapshot.users.columns[column].values] if column else framed[:-1]


def _framed(table: Array) -> Array:
    """With a last line and a last column of what is missing, which -1 finds. The last group has no events."""
    framed = np.full((table.shape[0] + 1, table.shape[1] + 1), np.nan)
    framed[:-1, :-1] = table
    return framed
