"""What else scores a LightGBM model, on one thread. A peer is made of a `Case` and is a function of rows.

A peer with a star cannot read the model. It is given a forest of its own kind, of as many trees and about as many
leaves, that was taught to answer like it: the time is comparable, the scores are not.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lightgbm as lgb
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bench.forests import Case

LLEAVES_LEAVES_MAX = 50_000  # 31,500 take minutes to compile; 127,000 were not done after a quarter of an hour


class Peer(NamedTuple):
    predict: Callable[[NDArray[Any]], NDArray[Any]]
    dtype: DTypeLike = np.float64  # and layout of the rows it is fastest on
    order: Literal["C", "F"] = "C"


def lleaves(case: Case) -> Peer:
    import lleaves

    if case.trees * case.leaves > LLEAVES_LEAVES_MAX:
        raise NotImplementedError(f"{case.trees * case.leaves:,} leaves take too long to compile")
    model = lleaves.Model(model_file=str(case.file))
    model.compile(cache=str(case.file.with_suffix(".lleaves")), raw_score=True)
    return Peer(lambda X: model.predict(X, n_jobs=1))


def treelite(case: Case) -> Peer:
    import treelite

    model = treelite.frontend.load_lightgbm_model(case.file)
    return Peer(lambda X: treelite.gtil.predict(model, X, nthread=1, pred_margin=True))


def onnxruntime(case: Case) -> Peer:
    import onnxruntime
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    # As a regression it gives the score as it is, of any objective.
    text = re.sub(r"^(objective=|\[objective: )[^]\n]*", r"\1regression", case.booster.model_to_string(), flags=re.M)
    rows = [("X", FloatTensorType([None, case.forest.width]))]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = convert_lightgbm(lgb.Booster(model_str=text), initial_types=rows).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Peer(lambda X: session.run(None, {"X": X})[0], np.float32)


def catboost(case: Case) -> Peer:
    import catboost

    depth = max(1, round(np.log2(case.leaves)))  # its trees are even: 2 ** depth leaves
    model = catboost.CatBoostRegressor(
        iterations=case.trees, depth=depth, random_seed=0, verbose=False, allow_writing_files=False
    )
    model.fit(case.pool, case.lightgbm(case.pool))
    return Peer(lambda X: model.predict(X, thread_count=1), np.float32, "F")


def xgboost(case: Case) -> Peer:
    import xgboost

    params = {
        "tree_method": "hist", "grow_policy": "lossguide", "max_depth": 0, "max_leaves": case.leaves, "nthread": 1,
        "eta": 0.02,  # a fast learner knows all the answers before the last tree, and goes on with stumps
    }  # fmt: skip
    model = xgboost.train(params, xgboost.DMatrix(case.pool, case.lightgbm(case.pool)), case.trees)
    return Peer(model.inplace_predict, np.float32)


# Name in the table -> its package, and how it is made; that raises whatever each package raises where it cannot.
PEERS: dict[str, tuple[str, Callable[[Case], Peer]]] = {
    "lleaves": ("lleaves", lleaves),
    "treelite GTIL": ("treelite", treelite),
    "onnxruntime": ("onnxruntime", onnxruntime),
    "catboost*": ("catboost", catboost),
    "xgboost*": ("xgboost-cpu", xgboost),
}


class SingleRowFast:
    """LightGBM's fastest way to score one row: `LGBM_BoosterPredictForMatSingleRowFast`, called through ctypes."""

    RAW_SCORE, FLOAT64 = 1, 1  # C_API_PREDICT_RAW_SCORE, C_API_DTYPE_FLOAT64

    def __init__(self, case: Case) -> None:
        self._c = ctypes.CDLL(str(Path(lgb.__file__).parent / "lib" / "lib_lightgbm.so"))
        self._model, self._fast, self._count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int64()
        iterations = ctypes.c_int()
        self._check(
            self._c.LGBM_BoosterCreateFromModelfile(
                str(case.file).encode(), ctypes.byref(iterations), ctypes.byref(self._model)
            )
        )
        self._check(
            self._c.LGBM_BoosterPredictForMatSingleRowFastInit(
                self._model, self.RAW_SCORE, 0, -1, self.FLOAT64, case.forest.width, b"num_threads=1",
                ctypes.byref(self._fast),
            )
        )  # fmt: skip
        self.out = np.empty(case.forest.classes)
        self._arguments = ctypes.byref(self._count), ctypes.c_void_p(self.out.ctypes.data)
        self._call = self._c.LGBM_BoosterPredictForMatSingleRowFast

    def __call__(self, row: ctypes.c_void_p) -> int:
        """Score the row at that `address` into `out`. An error is returned, not raised: this is timed."""
        return self._call(self._fast, row, *self._arguments)

    @staticmethod
    def address(row: NDArray[np.float64]) -> ctypes.c_void_p:
        return ctypes.c_void_p(row.ctypes.data)

    def _check(self, failed: int) -> None:
        if failed:
            self._c.LGBM_GetLastError.restype = ctypes.c_char_p
            raise RuntimeError(self._c.LGBM_GetLastError().decode())
