"""From world.toml to a snapshot directory. Offline; needs the `learn` extra.

Written aside, synced, renamed, and only then named in `CURRENT`: a reader never meets half a snapshot.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from pairec_fast.core import Forest, MappedFile, RequestForest, VectorIndex, build_slots, crc32c
from pairec_fast.errors import ConfigError, SnapshotError
from pairec_fast.features import FeaturePlan, FeatureSchema
from pairec_fast.items.change import Change, merged
from pairec_fast.items.log import Reader
from pairec_fast.learn.aggregates import Aggregate
from pairec_fast.learn.dataset import Dataset, Rows
from pairec_fast.learn.derive import Known
from pairec_fast.learn.frame import id_arrays, suggestions
from pairec_fast.learn.ranker import Ranker, train_ranker
from pairec_fast.learn.sources import Sources, read_sources
from pairec_fast.learn.spec import FeatureSpec, ModelSpec, VectorsSpec, World, load_world
from pairec_fast.manifest import (
    FORMAT,
    AggregateInfo,
    ArrayInfo,
    FileInfo,
    Manifest,
    ModelInfo,
    TableInfo,
    fingerprint,
    read_manifest,
    resolve,
)
from pairec_fast.snapshot import Column, Snapshot, Table, listed

GOLDEN_USERS, GOLDEN_ITEMS = 16, 32
Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def build(
    path: str | os.PathLike[str], output: str | os.PathLike[str], *, say: Say = lambda line: None,
    progress: Progress = lambda step, done, total: None,
) -> Path:  # fmt: skip
    """Build the snapshot that the world file `path` describes into a new directory of `output`, and make it current.

    What items.log in `output` says is taken into the item table; the log stays as it is, for builds to come.
    `say` gets a line about each index and each trained model, `progress` (step, done, total) as work goes on.

    Raises:
        ConfigError: the world file. SnapshotError: a source. Nothing is left in `output` then.
    """
    path, output = Path(path), Path(output)
    world = load_world(path)
    sequence, changes = _logged(output)
    sources = read_sources(world, path.parent, changes)
    output.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    name = next(
        name for again in range(1000) if not (output / (name := f"{stamp}-{again}" if again else stamp)).exists()
    )
    with _aside(output, name) as partial:
        _Builder(world, path.parent, sources, sequence, partial, say, progress).run()
    target = output / name
    _publish(output, target.name)
    return target


class _Builder:
    def __init__(
        self, world: World, folder: Path, sources: Sources, sequence: int, target: Path, say: Say, progress: Progress
    ) -> None:
        self.world, self.folder, self.sources, self.target = world, folder, sources, target
        self.sequence = sequence
        self.say, self.progress = say, progress
        self.known = Known(world, folder, sources, sources.now)
        self.arrays: dict[str, ArrayInfo] = {}
        self.models: dict[str, ModelInfo] = {}
        self.aggregates: dict[str, AggregateInfo] = {}

    def run(self) -> None:
        world = self.world
        steps = [
            ("tables", self._tables),
            *((f"vectors {one.name}", lambda one=one: self._vectors(one)) for one in world.vectors),
            *((f"neighbours {one.name}", lambda one=one: self._neighbours(one)) for one in world.neighbours),
            ("lists and aggregates", self._lists),
            *((f"model {one.name}", lambda one=one: self._model(one)) for one in world.models),
        ]
        for step, work in steps:
            self.progress(step, 0, 1)
            work()
            self.progress(step, 1, 1)
        manifest = self._manifest()
        _write(self.target / "manifest.json", msgspec.json.format(msgspec.json.encode(manifest), indent=1))
        Snapshot.load(self.target)  # what was written can be read

    def _tables(self) -> None:
        for table in (self.sources.items, self.sources.users):
            ids = (table.ids.id(row) for row in range(len(table)))
            text, offset = id_arrays(ids)
            for part, array in (("text", text), ("offset", offset), ("slots", build_slots(text, offset))):
                self._array(f"{table.name}.ids.{part}", array)
            for name, column in table.columns.items():
                self._array(f"{table.name}.{name}", column.values)
                if column.texts is not None:
                    text, offset = id_arrays(column.texts[code] for code in range(len(column.texts)))
                    self._array(f"{table.name}.{name}.text", text)
                    self._array(f"{table.name}.{name}.offset", offset)
        for part, values in zip(("offset", "rows"), self.known.history, strict=True):
            self._array(f"history.{part}", values)

    def _vectors(self, spec: VectorsSpec) -> None:
        columns = {name: self._listed_column(spec, name) for name in spec.lists}  # before an index takes its minutes
        users, items = self.known.vectors_of(spec.name)
        self._array(f"{spec.name}.users", users)
        self._array(f"{spec.name}.items", items)
        # An item nobody chose has no direction yet. Left in, a million of them would be one knot in the graph.
        rows = np.flatnonzero(items.any(axis=1)).astype(np.int32)
        self._array(f"{spec.name}.rows", rows)
        if spec.kind == "none":
            return
        if len(rows) == 0:
            raise SnapshotError(f"vectors.{spec.name}: every item vector is zero")
        asking = np.flatnonzero(users.any(axis=1))
        rng = np.random.default_rng(self.world.seed)
        queries = users[np.sort(rng.choice(asking, min(200, len(asking)), replace=False))] if len(asking) else None
        try:
            measured = VectorIndex.build(
                items[rows], self.target / f"{spec.name}.index", metric=spec.metric, kind=spec.kind, k=spec.k,
                recall=spec.recall, queries=queries, seed=self.world.seed,
                progress=lambda done, total: self.progress(f"vectors {spec.name}", done, total),
            )  # fmt: skip
        except ValueError as error:
            raise SnapshotError(f"vectors.{spec.name}: {error}") from error
        index = VectorIndex.load(self.target / f"{spec.name}.index", verify=False)
        for name, column in columns.items():
            lists = listed(index, rows, column)
            for part in ("values", "first", "places"):
                self._array(f"{spec.name}.{name}.{part}", getattr(lists, part))
        tried = ", ".join(f"{kind} {us:,.0f} us" for kind, us in measured.items())
        self.say(
            f"vectors {spec.name}: {index.kind}, {len(rows):,} x {index.dim}, finds {index.recall_reached:.3f} "
            f"of the {spec.k} nearest; a search takes {tried}"
        )

    def _listed_column(self, spec: VectorsSpec, name: str) -> Column:
        columns = {known: one for known, one in self.sources.items.columns.items() if one.kind != "vector"}
        if name not in columns:
            raise ConfigError(
                f"vectors.{spec.name}.lists: the items table has no text or number column "
                f"{suggestions([name], list(columns))}"
            )
        return columns[name]

    def _neighbours(self, spec: Any) -> None:
        for part, array in zip(("offset", "neighbour", "weight"), self.known.neighbours_of(spec.name), strict=True):
            self._array(f"{spec.name}.{part}", array)

    def _lists(self) -> None:
        for spec in self.world.lists:
            for part, array in zip(("offset", "rows", "scores"), self.known.ranked(spec), strict=True):
                self._array(f"{spec.name}.{part}", array)
        for one in self.world.aggregates:
            aggregate = Aggregate(one, self.sources)
            self._array(one.name, aggregate.table(self.sources.now))
            self.aggregates[one.name] = aggregate.info

    def _model(self, spec: ModelSpec) -> None:
        if spec.file:
            ranker = self._given(spec)
        else:
            step = f"model {spec.name}"
            ranker = train_ranker(
                self.world, self.folder, self.sources, spec, lambda done, total: self.progress(step, done, total)
            )
            self.say(ranker.report)
        if ranker.text:
            _write(self.target / f"{spec.name}.txt", ranker.text.encode())
        forest = Forest.parse(ranker.text) if ranker.text else Forest.load(self.folder / spec.file)
        names = [feature.name for feature in ranker.features]
        if forest.feature_names != names:
            raise SnapshotError(
                f"models.{spec.name}: the model reads {forest.feature_names}, features.json names {names}; "
                "the two files do not belong together"
            )
        forest.save(self.target / f"{spec.name}.forest")
        plan = FeaturePlan(ranker.features, Snapshot(self.target, self._manifest()))
        self._array(f"{spec.name}.lines", RequestForest(forest, plan.sides).lines(plan.item_values()))
        self._array(f"{spec.name}.user_values", plan.user_values())
        self._golden(spec.name, ranker, forest)
        self.models[spec.name] = ModelInfo(ranker.features, ranker.objective)

    def _given(self, spec: ModelSpec) -> Ranker:
        path = self.folder / spec.file
        schema = FeatureSchema.load(path.parent / "features.json")
        Forest.load(path)  # its errors name the line
        with path.open("rb") as file:
            is_text = file.read(4) == b"tree"
        return Ranker(path.read_text("utf-8") if is_text else "", schema.features, schema.objective, "")

    def _golden(self, name: str, ranker: Ranker, forest: Forest) -> None:
        """Questions answered on rows the training code made: serving must give the same bits.

        LightGBM answers them, or, for the compiled trees of another maker, the forest on whole rows of values.
        """
        rng = np.random.default_rng(self.world.seed)
        users, items = len(self.sources.users), len(self.sources.items)
        asked = np.sort(rng.choice(users, min(GOLDEN_USERS, users), replace=False)).astype(np.int32)
        shown = min(GOLDEN_ITEMS, items)
        rows = np.stack([rng.choice(items, shown, replace=False) for _ in asked]).astype(np.int32)
        pairs = Rows(
            np.repeat(asked, shown), rows.ravel(), np.full(rows.size, self.sources.now),
            np.repeat(np.arange(len(asked)), shown), {},
        )  # fmt: skip
        specs = [FeatureSpec(name=feature.name, source=feature.source) for feature in ranker.features]
        dataset = Dataset(self.world, self.folder, self.sources, specs)
        # The sources with their kinds written out, the categories those that the model was trained with.
        dataset.features = [
            msgspec.structs.replace(made, categories=given.categories)
            for made, given in zip(dataset.features, ranker.features, strict=True)
        ]
        matrix = dataset.matrix(pairs, self.known)
        if ranker.text:
            score = np.asarray(lightgbm.Booster(model_str=ranker.text).predict(matrix, raw_score=True))
        else:
            score = forest.predict(matrix)
        first = score if score.ndim == 1 else score[:, 0]
        self._array(f"{name}.golden.users", asked)
        self._array(f"{name}.golden.items", rows)
        self._array(f"{name}.golden.scores", np.ascontiguousarray(first).reshape(rows.shape))

    def _manifest(self) -> Manifest:
        files = {
            path.name: FileInfo(path.stat().st_size, _checksum(path))
            for path in sorted(self.target.iterdir())
            if path.name != "manifest.json"
        }
        world = self.world
        manifest = Manifest(
            format=FORMAT, fingerprint="", time=self.sources.now, arrays=self.arrays, files=files,
            items=_info(self.sources.items), users=_info(self.sources.users),
            vectors=[one.name for one in world.vectors], lists={one.name: one.by for one in world.lists},
            neighbours=[one.name for one in world.neighbours], aggregates=self.aggregates,
            models=dict(self.models), golden=list(self.models), items_sequence=self.sequence,
        )  # fmt: skip
        return msgspec.structs.replace(manifest, fingerprint=fingerprint(manifest))

    def _array(self, name: str, values: Any) -> None:
        if name in self.arrays:
            raise SnapshotError(f"{name}.npy would be written twice: a column has the name of another one's part")
        array: NDArray[Any] = np.ascontiguousarray(values)
        path = self.target / f"{name}.npy"
        with path.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        self.arrays[name] = ArrayInfo(array.dtype.str, list(array.shape))


def _logged(output: Path) -> tuple[int, list[Change]]:
    """The last record of the log of items in a folder of snapshots, and what all of them come to."""
    reader = Reader(output, -1)
    changes = merged(record.payload for record in reader.read())
    newest = 0
    with contextlib.suppress(SnapshotError):  # the first one, or the first of this format
        newest = read_manifest(resolve(output)).items_sequence
    return max(newest, reader.sequence), changes


def _info(table: Table) -> TableInfo:
    return TableInfo(len(table), {name: column.kind for name, column in table.columns.items()})


def _checksum(path: Path) -> int:
    return crc32c(memoryview(MappedFile(path)))


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _aside(output: Path, name: str) -> Iterator[Path]:
    """A directory to write into that becomes `output/name` when all went well, and is gone when not."""
    partial = output / f".{name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        yield partial
        _sync(partial)
        partial.rename(output / name)
        _sync(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(output: Path, name: str) -> None:
    current = output / f".CURRENT.{os.getpid()}.partial"
    _write(current, f"{name}\n".encode())
    current.rename(output / "CURRENT")
    _sync(output)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
