"""Models of other makers, compiled to the project's own forest file: what they score, it scores.

| maker | given | X is compared in | sums are in | same bits as |
|---|---|---|---|---|
| XGBoost | file (.json, .ubj) or live | float32 | float32 | `Booster.predict(output_margin=True)` |
| scikit-learn | live estimator | float32 | float64 | `decision_function`; `predict`, `predict_proba` of forests |
| its HistGradientBoosting | live estimator | float64 | float64 | `_raw_predict` |
| CatBoost | file (format="json") or live | float32 | float64 | `predict(prediction_type="RawFormulaVal")` |
| treelite | live model | its own | its own | `gtil.predict(pred_margin=True)`, or `deviation` says how near |
| LightGBM | file (model.txt) or live | float64 | float64 | `Booster.predict(raw_score=True)` |

XGBoost's bits are those of 1.4 to 3 on a CPU, also for files of 1.0 on; earlier ones added the base score last.
scikit-learn's are those of `n_jobs=1`: threads add a forest's trees as they come. Such an average is a sum in a raw
score, as LightGBM's is; `Forest.predict(X, raw_score=False)` divides. That also turns margins into probabilities or
rates, in float64, and only comes near makers that do so in float32 or with an exp of their own.

Where a maker rounds X to float32 first, the forest decides on float64 X as the maker does on it rounded. Columns that
a tree splits by category hold whole numbers: XGBoost and scikit-learn take 0.5 for no category, the forest for 0.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pairec_fast.core.forest import Forest
from pairec_fast.errors import SnapshotError
from pairec_fast.learn.trees import Ensemble, ubjson
from pairec_fast.learn.trees.catboost import read_catboost
from pairec_fast.learn.trees.sklearn import read_sklearn
from pairec_fast.learn.trees.treelite import read_treelite
from pairec_fast.learn.trees.xgboost import read_xgboost

RIGHT = "a model file of XGBoost (.json, .ubj), CatBoost (.json) or LightGBM (text) is right, or a fitted model"


@dataclass(frozen=True, slots=True, eq=False)
class ImportedModel:
    """What was imported, and how its maker scores.

    forest        the compiled forest, as it lies in the file
    maker         who made the model, and with which version if the model says
    input_dtype   "float32" or "float64": what the maker rounds a value to before it compares
    accumulation  "float32" or "float64": what the sum is rounded to after each tree
    base          [classes] the sum's start: XGBoost's base margin, scikit-learn's init
    categories    feature -> its categories in the order of the codes 0, 1, ... that X holds, where the model names them
    objective     the maker's own name for it; `forest.objective` says in LightGBM's words what is made of the sum
    deviation     "" if scores are the maker's own bits, else how far they may be from them
    """

    forest: Forest
    maker: str
    input_dtype: str
    accumulation: str
    base: tuple[float, ...]
    categories: dict[str, list[str | int | float]]
    objective: str = ""
    deviation: str = ""


def import_model(
    model: Any, path: str | os.PathLike[str], *, feature_names: Sequence[str] | None = None
) -> ImportedModel:
    """Write the forest that scores as `model` does to the file `path`, and return what it is.

    Args:
        model: a file's path, or a live model: `xgboost.Booster`, `lightgbm.Booster`, their scikit-learn kin, a fitted
            estimator of scikit-learn, `catboost.CatBoost` or kin, `treelite.Model`. Pickles are refused: they run code.
        path: the compiled file, replaced if there is one. `Forest.load` reads it.
        feature_names: in the order of the model's columns, in place of its own; for models that keep none.

    A file of XGBoost is imported with all its trees, as `Booster.predict` uses; a live `XGBModel` that stopped early
    with those up to its best iteration, as its `predict` uses.

    Raises:
        SnapshotError: the file cannot be read, is no sound model, or does what a forest does not. Nothing is written.
        TypeError: `model` is neither a path nor a model of a maker above.
    """
    read = read_model(model)
    if isinstance(read, Forest):
        forest, maker, dtype, base = read, "LightGBM", "float64", [0.0] * read.classes
        if feature_names is not None and list(feature_names) != forest.feature_names:
            raise SnapshotError(f"feature_names differ from the model's, {forest.feature_names}; LightGBM's stay")
        made = ImportedModel(forest, maker, dtype, dtype, tuple(base), {}, forest.objective)
    else:
        names = list(feature_names or read.feature_names)
        if len(names) != len(read.feature_names) or len(set(names)) != len(names):
            raise SnapshotError(f"feature_names are {names}; {len(read.feature_names)} different ones are right")
        if any("\ud800" <= each <= "\udfff" for each in "".join(names)):
            raise SnapshotError(f"feature_names are {names!a}; text that UTF-8 can hold is right")
        forest = Forest.of_trees(
            read.trees, feature_names=names, classes=read.classes, objective=read.link, base=read.base,
            single=read.accumulation == "float32", average=read.average,
        )  # fmt: skip
        made = ImportedModel(
            forest, read.maker, read.input_dtype, read.accumulation, tuple(read.base),
            {names[read.feature_names.index(name)]: known for name, known in read.categories.items()},
            read.objective, read.deviation,
        )  # fmt: skip
    made.forest.save(path)
    return made


def read_model(model: Any) -> Ensemble | Forest:
    """`model` (as above) as trees; LightGBM's is a forest already.

    Raises:
        SnapshotError, TypeError: as `import_model`.
    """
    if isinstance(model, str | os.PathLike):
        return _read_file(Path(model))
    makers = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    where = f"{type(model).__module__}.{type(model).__qualname__}"
    try:
        if "xgboost" in makers:  # before sklearn: its wrappers are estimators too
            return read_xgboost(ubjson.decode(_xgboost_bytes(model)), where)
        if "lightgbm" in makers:
            return Forest.parse(getattr(model, "booster_", model).model_to_string())
        if "catboost" in makers:
            with tempfile.TemporaryDirectory() as folder:
                model.save_model(str(Path(folder, "model.json")), format="json")
                return read_catboost(_json(Path(folder, "model.json").read_bytes()), where)
        if "sklearn" in makers:
            return read_sklearn(model)
        if "treelite" in makers:
            return read_treelite(model)
    except SnapshotError:
        raise
    except Exception as error:  # a maker's own: not fitted, or of a version that keeps things elsewhere
        raise SnapshotError(f"{where}: {type(error).__name__}: {error}; {RIGHT}") from error
    raise TypeError(f"model is {where}; {RIGHT}")


def _xgboost_bytes(model: Any) -> bytes:
    booster = model
    if hasattr(model, "get_booster"):
        booster = model.get_booster()
        if booster.attr("best_iteration") is not None:
            booster = booster[: booster.best_iteration + 1]
    return bytes(booster.save_raw("ubj"))


def _read_file(path: Path) -> Ensemble | Forest:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}; {RIGHT}") from None
    if data.startswith((b"tree\n", b"tree\r\n")):
        return Forest.load(path)
    if data.startswith(b"\x80"):
        raise SnapshotError(f"{path}: a pickle, which runs code when it is read; the live model, or {RIGHT}")
    if not data[:4096].lstrip().startswith(b"{"):
        raise SnapshotError(f"{path}: begins with {data[:8]!r}; {RIGHT}")
    try:
        document = ubjson.decode(data) if data[1:2] in b"LilUI#$" else _json(data)
        keys = document.keys()
        if "learner" in keys:
            return read_xgboost(document, str(path))
        if "features_info" in keys:
            return read_catboost(document, str(path))
    except (ValueError, OverflowError, RecursionError) as error:  # msgspec's and json's are ValueErrors
        raise SnapshotError(f"{path}: {error}; {RIGHT}") from None
    if "tree_info" in keys:
        raise SnapshotError(f"{path}: LightGBM's dump_model; the text of save_model, which keeps every bit, is right")
    raise SnapshotError(f"{path}: neither learner nor features_info among {sorted(keys)[:9]}; {RIGHT}")


def _json(data: bytes) -> Any:
    """XGBoost before 3 writes NaN as threshold of splits by category: no JSON, but Python's reader takes it."""
    return json.loads(data) if b"NaN" in data or b"Infinity" in data else msgspec.json.decode(data)
