"""LightGBM's forests, scored bit for bit."""

import os

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

import numpy as np
cimport numpy as cnp

from pairec_fast.core.arena cimport Arena, Block
from pairec_fast.errors import SnapshotError

cnp.import_array()


cdef Forest parsed(text, str where):
    """The one place where what C++ (std::invalid_argument) or a codec refuses becomes a SnapshotError."""
    cdef Forest forest = Forest.__new__(Forest)
    cdef bytes data
    cdef const char* begin
    cdef size_t size
    try:
        data = text.encode() if isinstance(text, str) else bytes(text)
        begin = data
        size = len(data)
        with nogil:
            c_parse(begin, size, forest.c)
        forest.feature_names = [(<bytes> name).decode() for name in forest.c.names]
        forest.objective = (<bytes> forest.c.objective).decode()
    except ValueError as error:
        raise SnapshotError(f"{where}: {error}") from None
    forest.categorical = [bool(flag) for flag in forest.c.categorical]
    with nogil:
        c_rank(forest.c, forest.ranks)
    forest.kernels = label_kernels()
    forest._free = [Block(scratch_bytes(forest.ranks))]
    return forest


cdef class Forest:
    """A LightGBM model: `Forest.load(path)` or `Forest.parse(text)`. Immutable, safe to read from many threads.

    Attributes:
        feature_names: list[str] [width], in the order of the columns of X.
        categorical: list[bool] [width], True where a tree splits the feature by category.
        objective: text of the model's objective line, "" without one. Scores are raw: it is not applied.

    Source: LightGBM's `include/LightGBM/tree.h` for the splits, `src/boosting/gbdt_model_text.cpp` for the text.
    """

    def __init__(self):
        raise TypeError("a Forest is made by Forest.load(path) or Forest.parse(text)")

    def __reduce__(self):
        raise TypeError("a Forest is not pickled: keep the model's text and parse it again")

    @staticmethod
    def load(path) -> Forest:
        """Read a model file (str or PathLike), as written by `Booster.save_model`.

        Raises:
            SnapshotError: the file cannot be read or is no sound model. The message names path, line and field.
        """
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError as error:
            raise SnapshotError(f"{os.fspath(path)}: {error.strerror}; a LightGBM model file is right") from None
        return parsed(text, os.fsdecode(path))

    @staticmethod
    def parse(text) -> Forest:
        """Read a model's text (str or bytes), as returned by `Booster.model_to_string`.

        Raises:
            SnapshotError: the text is no sound model. The message names line and field.
            TypeError: `text` is neither.
        """
        if not isinstance(text, str | bytes):
            raise TypeError(f"text must be str or bytes, got {type(text).__name__}")
        return parsed(text, "model text")

    @property
    def width(self) -> int:
        """Features of a row."""
        return self.c.width

    @property
    def classes(self) -> int:
        """Scores of a row: `num_tree_per_iteration`."""
        return self.c.classes

    @property
    def trees(self) -> int:
        return self.c.root.size()

    @property
    def average(self) -> bool:
        """The model is a random forest: `Booster.predict` without `raw_score` divides by `trees / classes`."""
        return self.c.average

    def predict(self, X, out=None):
        """Raw scores, the bits of `Booster.predict(X, raw_score=True)`.

        Args:
            X: [n, width] float64 or float32, any strides; NaN is missing. What is not rows of adjacent, aligned
                values is copied first.
            out: float64, C-contiguous, of the result's shape, apart from X; filled and returned.

        Returns:
            [n] float64, or [n, classes] where `classes` > 1.

        Raises:
            TypeError: X or `out` is no ndarray, or X is of another dtype.
            ValueError: X is not 2-D or not `width` wide, or `out` does not fit.
        """
        if not isinstance(X, np.ndarray) or X.dtype not in (np.float64, np.float32):
            found = X.dtype if isinstance(X, np.ndarray) else type(X).__name__
            raise TypeError(f"X is {found}; a NumPy array of float64 or float32 is right")
        if X.ndim != 2 or X.shape[1] != self.c.width:
            raise ValueError(f"X has shape {X.shape}; [n, {self.c.width}] is right: the features of the model")
        if X.shape[0] > np.iinfo(np.int32).max:
            raise ValueError(f"X has {X.shape[0]} rows; at most 2147483647 is right")
        shape = X.shape[:1] if self.c.classes == 1 else (X.shape[0], self.c.classes)
        if out is None:
            out = np.empty(shape)
        elif not isinstance(out, np.ndarray):
            raise TypeError(f"out is {type(out).__name__}; a NumPy array is right")
        elif out.dtype != np.float64 or out.shape != shape or not out.flags.carray:
            raise ValueError(f"out is {out.dtype} {out.shape}; writeable C-contiguous float64 {shape} is right")
        elif np.may_share_memory(out, X):
            raise ValueError("out shares memory with X; an array of its own is right")
        cdef ptrdiff_t itemsize = X.itemsize
        if X.strides[1] != itemsize or X.strides[0] % itemsize or not X.flags.aligned:
            X = np.array(X, order="C")  # a copy even of what is contiguous: it may be unaligned
        cdef ptrdiff_t stride = X.strides[0] // itemsize, classes = self.c.classes
        cdef int32_t count = X.shape[0]
        cdef const void* x = cnp.PyArray_DATA(X)
        cdef double* scores = <double*> cnp.PyArray_DATA(out)
        cdef Block scratch = self._take()
        if itemsize == 4:
            with nogil:
                c_score32(self.c, self.ranks, self.kernels, scratch.data, <const float*> x, stride, count, scores,
                          classes, 1)
        else:
            with nogil:
                c_score64(self.c, self.ranks, self.kernels, scratch.data, <const double*> x, stride, count, scores,
                          classes, 1)
        self._free.append(scratch)
        return out

    def score(self, Arena arena not None, int32_t algo=0) -> None:
        """Score the arena's live candidates.

        Reads the first `width` of each row of `features`; writes `algo_score` [algo : algo + classes, count], a column a class.

        Raises:
            ValueError: the arena is narrower than the forest, or has too few algorithm columns.
        """
        if arena.c.width < self.c.width:  # it is wider where another model of the configuration is
            raise ValueError(
                f"the arena's features are {arena.c.width} wide; {self.c.width} or more is right for this forest")
        if algo < 0 or algo > arena.c.algos - self.c.classes:
            raise ValueError(
                f"algo is {algo} with {self.c.classes} classes; 0 to algos - classes = "
                f"{arena.c.algos - self.c.classes} is right")
        cdef ptrdiff_t column = arena.c.candidates_max
        cdef Block scratch = self._take()
        with nogil:
            c_score32(self.c, self.ranks, self.kernels, scratch.data, arena.c.features, arena.c.width, arena.c.count,
                      arena.c.algo_score + algo * column, 1, column)
        self._free.append(scratch)

    cdef Block _take(self):
        # A list is a stack under the GIL: a thread takes one or makes one. There are as many as ever scored at once.
        try:
            return self._free.pop()
        except IndexError:
            return Block(scratch_bytes(self.ranks))
