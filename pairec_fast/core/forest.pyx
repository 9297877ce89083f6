"""Forests compiled to bytes, scored bit for bit as LightGBM, or whoever made them, does."""

import os

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

import numpy as np
cimport numpy as cnp

from pairec_fast.core.arena cimport Arena, Block
from pairec_fast.core.mapping import MappedFile
from pairec_fast.errors import SnapshotError

cnp.import_array()


cdef Forest compiled(c_Forest& trees):
    cdef Forest forest = Forest.__new__(Forest)
    with nogil:
        forest.lines = c_compile(trees)
    forest.view()
    return forest


cdef Forest parsed(text, str where):
    """The one place where what C++ (std::invalid_argument) or a codec refuses becomes a SnapshotError."""
    cdef c_Forest trees
    cdef bytes data
    cdef const char* begin
    cdef size_t size
    try:
        data = text.encode() if isinstance(text, str) else bytes(text)
        begin = data
        size = len(data)
        with nogil:
            c_parse(begin, size, trees)
        return compiled(trees)
    except ValueError as error:
        raise SnapshotError(f"{where}: {error}") from None


cdef class Forest:
    """A compiled model: `Forest.load(path)` or `Forest.parse(text)`. Immutable, safe to read from many threads.

    Attributes:
        feature_names: list[str] [width], in the order of the columns of X.
        categorical: list[bool] [width], True where a tree splits the feature by category.
        objective: text of the model's objective line, "" without one (a custom objective). Scores are raw: it is
            applied only by `predict(X, raw_score=False)`.

    Source: LightGBM's `include/LightGBM/tree.h` for the splits, `src/boosting/gbdt_model_text.cpp` for the text.
    """

    def __init__(self):
        raise TypeError("a Forest is made by Forest.load(path) or Forest.parse(text)")

    def __reduce__(self):
        raise TypeError("a Forest is not pickled: save(path) it and load that")

    @staticmethod
    def load(path) -> Forest:
        """Read a model file (str or PathLike): LightGBM's text as `Booster.save_model` writes it, or what `save` wrote.

        The latter is mapped, not read: processes that load it share its pages.

        Raises:
            SnapshotError: the file cannot be read or is no sound model. The message names path, line and field.
        """
        cdef Forest forest
        cdef const uint8_t[::1] data
        where = os.fsdecode(path)
        try:
            mapped = MappedFile(path)
            if mapped.size:
                data = mapped
                if is_compiled(&data[0], data.shape[0]):
                    forest = Forest.__new__(Forest)
                    forest.mapped = data
                    forest.view()
                    return forest
            with open(path, "rb") as file:
                text = file.read()
        except OSError as error:
            reason = error.strerror or str(error)
            raise SnapshotError(f"{where}: {reason}; a file of LightGBM's text or of Forest.save is right") from None
        except ValueError as error:
            raise SnapshotError(f"{where}: {error}") from None
        return parsed(text, where)

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

    @staticmethod
    def of_trees(trees, *, feature_names, int32_t classes=1, str objective="", base=None, bint single=False,
                 bint average=False) -> Forest:
        """Compile trees given node by node; tree i adds to class i % classes.

        Args:
            trees: objects with, for each tree of L leaves,
                feature int32 [L - 1], threshold float64 [L - 1]: a split sends x <= threshold to the left;
                left, right int32 [L - 1]: a split, or ~leaf; split 0 is the root;
                nan_right bool [L - 1]: where NaN goes;
                sets {split: int [n] below 2**24}: a split by category sends these to the left, others to the right;
                value float64 [L], cover float64 [2 L - 1]: of the splits, then of the leaves.
            feature_names: list[str] [width].
            base: float64 [classes], what the sums begin with; None: 0.
            single: sums are rounded to float32 after each addition.
            average: what is no raw score is divided by trees / classes.

        Raises:
            SnapshotError: a tree is not sound, or the other arguments are not. The message names tree and field.
        """
        cdef c_Forest forest
        if classes < 1 or not len(trees) or len(trees) % classes:
            raise SnapshotError(f"{len(trees)} trees for {classes} classes; one or more for each, as many, are right")
        base = np.zeros(classes) if base is None else np.asarray(base, np.float64)
        if base.shape != (classes,):
            raise SnapshotError(f"base has shape {base.shape}; ({classes},) is right")
        if not len(feature_names) or len(set(feature_names)) != len(feature_names):
            raise SnapshotError(f"feature_names are {list(feature_names)}; one or more, all different, are right")
        if any("\n" in text for text in (objective, *feature_names)):
            raise SnapshotError("feature_names, objective: text of one line is right")
        forest.width, forest.classes = len(feature_names), classes
        forest.is_single, forest.average = single, average
        try:
            forest.objective = objective.encode()
            for name in feature_names:
                forest.names.push_back(name.encode())
        except UnicodeEncodeError as error:
            raise SnapshotError(f"feature_names, objective: {error}; text that UTF-8 can hold is right") from None
        for value in base:
            forest.base.push_back(value)
        forest.categorical.resize(forest.width)
        for number, tree in enumerate(trees):
            try:
                add_tree(forest, tree)
            except ValueError as error:
                raise SnapshotError(f"tree {number}: {error}") from None
        try:
            return compiled(forest)
        except ValueError as error:
            raise SnapshotError(str(error)) from None

    def save(self, path) -> None:
        """Write the compiled forest, whole or not at all; `load` maps it.

        Raises:
            SnapshotError: it cannot be written.
        """
        path = os.fsdecode(path)
        partial = f"{path}.{os.getpid()}.partial"
        try:
            with open(partial, "wb") as file:
                file.write(self.bytes)
            os.replace(partial, path)
        except OSError as error:
            raise SnapshotError(f"{path} cannot be written: {error.strerror}") from None
        finally:
            if os.path.exists(partial):
                os.unlink(partial)

    @property
    def bytes(self) -> memoryview:
        """The compiled forest, as `save` writes it; it keeps the forest alive."""
        if self.mapped is not None:
            return memoryview(self.mapped)
        cdef cnp.npy_intp size = self.lines.size() * sizeof(Line)
        array = cnp.PyArray_SimpleNewFromData(1, &size, cnp.NPY_UINT8, self.lines.data())
        cnp.set_array_base(array, self)
        array.flags.writeable = False
        return memoryview(array)

    @property
    def width(self) -> int:
        """Features of a row."""
        return self.c.ranks.width

    @property
    def classes(self) -> int:
        """Scores of a row: `num_tree_per_iteration`."""
        return self.c.ranks.classes

    @property
    def trees(self) -> int:
        return self.c.ranks.trees.size()

    @property
    def average(self) -> bool:
        """The model is a random forest: what is no raw score is divided by `trees / classes`."""
        return self.c.ranks.average

    @property
    def single(self) -> bool:
        """Sums are rounded to float32 after each addition, as the maker of the trees does."""
        return self.c.ranks.is_single

    @property
    def base(self):
        """What the sums begin with: float64 [classes]."""
        return np.array([self.c.ranks.base[i] for i in range(self.c.ranks.base.size())])

    def predict(self, X, out=None, *, bint raw_score=True):
        """Scores, the bits of `Booster.predict(X, raw_score=raw_score)` of a booster read from the same text.

        Args:
            X: [n, width] float64 or float32, any strides; NaN is missing.
            out: float64, C-contiguous, of the result's shape, apart from X; filled and returned.
            raw_score: False averages a random forest's sums over its iterations and then applies the objective:
                probabilities of `binary`, `cross_entropy`, `multiclass` and `multiclassova`, exp of `poisson`, `gamma`
                and `tweedie`, log(1 + exp) of `cross_entropy_lambda`, the signed square of `sqrt`.

        Returns:
            [n] float64, or [n, classes] where `classes` > 1.

        Raises:
            TypeError: X or `out` is no ndarray, or X is of another dtype.
            ValueError: X is not 2-D or not `width` wide, or `out` does not fit.
        """
        X = self.checked(X)
        cdef Rows rows = rows_of(X)
        cdef ptrdiff_t classes = self.c.ranks.classes
        cdef cnp.npy_intp[2] shape = [rows.count, classes]
        if out is None:
            out = cnp.PyArray_EMPTY(1 if classes == 1 else 2, shape, cnp.NPY_FLOAT64, 0)
        else:
            check_out(X, out, classes)
        cdef double* scores = <double*> cnp.PyArray_DATA(out)
        cdef Block scratch = self.take()
        with nogil:
            c_score(self.c, scratch_of(self.c.ranks, scratch.data), rows, scores, classes, 1)
        self._free.append(scratch)
        cdef int32_t iterations = self.trees // self.classes if self.average else 1
        if not raw_score:
            with nogil:
                objective_transform(self.transform, iterations, scores, rows.count, <int32_t> classes)
        return out

    def predict_leaf(self, X):
        """The leaf that each row reaches in each tree, as `Booster.predict(X, pred_leaf=True)`: int32 [n, trees].

        Raises:
            TypeError, ValueError: as `predict`.
        """
        X = self.checked(X)
        cdef Rows rows = rows_of(X)
        out = np.empty((rows.count, self.trees), np.int32)
        cdef int32_t* leaves = <int32_t*> cnp.PyArray_DATA(out)
        cdef Block scratch = self.take()
        with nogil:
            c_leaves(self.c, scratch_of(self.c.ranks, scratch.data), rows, leaves)
        self._free.append(scratch)
        return out

    def explain(self, X):
        """What each feature adds to the raw scores of X's rows: their Shapley values, path-dependent.

        The last of a row's numbers is what is expected of a row of which nothing is known, `base` included. A row's
        numbers add up to its raw score, but for rounding: within 1e-9 for ordinary models. As with raw scores,
        `average` divides nothing. A call prepares every tree once, which costs as much as some rows do: pass many rows.

        Args:
            X: [n, width] float64 or float32, as for `predict`.

        Returns:
            [n, width + 1] float64, or [n, classes, width + 1] where `classes` > 1; LightGBM makes that one
            [n, classes * (width + 1)].

        Raises:
            TypeError, ValueError: as `predict`.
            ValueError: a tree does not say how many rows came by its splits and leaves.

        Source: LightGBM's `Booster.predict(X, pred_contrib=True)`; Lundberg et al. 2018 (arXiv 1802.03888).
        """
        X = self.checked(X)
        cdef Rows rows = rows_of(X)
        shape = (X.shape[0], self.classes, self.width + 1)
        out = np.empty(shape if self.classes > 1 else shape[::2])
        cdef double* parts = <double*> cnp.PyArray_DATA(out)
        with nogil:
            c_explain(self.c.ranks, rows, parts)
        return out

    def score(self, Arena arena not None, int32_t algo=0) -> None:
        """Score the arena's live candidates.

        Reads the first `width` of each row of `features`; writes `algo_score` [algo : algo + classes, count], a column a class.

        Raises:
            ValueError: the arena is narrower than the forest, or has too few algorithm columns.
        """
        cdef Ranks* ranks = &self.c.ranks
        if arena.c.width < ranks.width:  # it is wider where another model of the configuration is
            raise ValueError(
                f"the arena's features are {arena.c.width} wide; {ranks.width} or more is right for this forest")
        if algo < 0 or algo > arena.c.algos - ranks.classes:
            raise ValueError(
                f"algo is {algo} with {ranks.classes} classes; 0 to algos - classes = "
                f"{arena.c.algos - ranks.classes} is right")
        cdef ptrdiff_t column = arena.c.candidates_max
        cdef Rows rows
        rows.x, rows.row_step, rows.column_step = arena.c.features, 1, column
        rows.count, rows.is_double = arena.c.count, False
        cdef Block scratch = self.take()
        with nogil:
            c_score(self.c, scratch_of(self.c.ranks, scratch.data), rows, arena.c.algo_score + algo * column, 1, column)
        self._free.append(scratch)

    cdef int view(self) except -1:
        """Look at the compiled bytes. Raises ValueError for what is no sound forest."""
        cdef bytes objective
        cdef const uint8_t[::1] data = self.bytes
        self.c = scorer_of(&data[0], data.shape[0])
        texts = (<bytes> self.c.ranks.texts.data()[:self.c.ranks.texts.size()]).decode().split("\n")
        if len(texts) != self.c.ranks.width + 2:
            raise ValueError(f"the compiled forest names {len(texts) - 2} features; it reads {self.c.ranks.width}")
        objective = texts[0].encode()
        self.transform = objective_parse(Bytes(objective, len(objective)), self.c.ranks.classes)
        self.objective, self.feature_names = texts[0], texts[1:self.c.ranks.width + 1]
        self.categorical = [bool(self.c.ranks.categorical[i]) for i in range(self.c.ranks.width)]
        self._free = [Block(scratch_bytes(self.c.ranks))]

    cdef object checked(self, X):
        """X, or a copy of what is not aligned. Raises TypeError or ValueError for what is no matrix of the model's width."""
        # By the C interface of NumPy: a call for one row is no longer than a microsecond or two.
        if not isinstance(X, cnp.ndarray) or cnp.PyArray_TYPE(X) not in (cnp.NPY_FLOAT64, cnp.NPY_FLOAT32) or \
                cnp.PyArray_ISBYTESWAPPED(X):
            found = X.dtype if isinstance(X, np.ndarray) else type(X).__name__
            raise TypeError(f"X is {found}; a NumPy array of float64 or float32 is right")
        if cnp.PyArray_NDIM(X) != 2 or cnp.PyArray_DIM(X, 1) != self.c.ranks.width:
            raise ValueError(f"X has shape {X.shape}; [n, {self.c.ranks.width}] is right: the features of the model")
        cdef ptrdiff_t itemsize = cnp.PyArray_ITEMSIZE(X)
        if cnp.PyArray_ISALIGNED(X) and not cnp.PyArray_STRIDE(X, 0) % itemsize and \
                not cnp.PyArray_STRIDE(X, 1) % itemsize:
            return X
        return np.array(X, order="C")

    cdef Block take(self):
        # A list is a stack under the GIL: a thread takes one or makes one. There are as many as ever scored at once.
        try:
            return self._free.pop()
        except IndexError:
            return Block(scratch_bytes(self.c.ranks))


cdef Rows rows_of(X):
    cdef Rows rows
    cdef ptrdiff_t itemsize = cnp.PyArray_ITEMSIZE(X)
    rows.x = cnp.PyArray_DATA(X)
    rows.row_step, rows.column_step = cnp.PyArray_STRIDE(X, 0) // itemsize, cnp.PyArray_STRIDE(X, 1) // itemsize
    rows.count, rows.is_double = cnp.PyArray_DIM(X, 0), itemsize == 8
    return rows


cdef int check_out(X, out, ptrdiff_t classes) except -1:
    """Raise TypeError or ValueError where the scores of X do not fit `out`."""
    shape = X.shape[:1] if classes == 1 else (X.shape[0], classes)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out is {type(out).__name__}; a NumPy array is right")
    if out.dtype != np.float64 or out.shape != shape or not out.flags.carray:
        raise ValueError(f"out is {out.dtype} {out.shape}; writeable C-contiguous float64 {shape} is right")
    if np.may_share_memory(out, X):
        raise ValueError("out shares memory with X; an array of its own is right")


cdef int add_tree(c_Forest& forest, tree) except -1:
    """Append a tree, breadth first. Raises ValueError naming the field that is wrong."""
    cdef Node node
    cdef int32_t splits = len(tree.feature), at, child
    fields = {}
    for name, dtype, size in (("feature", np.int32, splits), ("threshold", np.float64, splits), ("left", np.int32, splits),
                              ("right", np.int32, splits), ("nan_right", np.bool_, splits),
                              ("value", np.float64, splits + 1), ("cover", np.float64, 2 * splits + 1)):
        array = np.asarray(getattr(tree, name))
        if array.shape != (size,):
            raise ValueError(f"{name} has shape {array.shape}; ({size},) is right for {splits} splits")
        with np.errstate(invalid="ignore"):
            taken = array.astype(dtype)
        changed = np.flatnonzero((taken != array) & (taken == taken))  # NaN is looked at where it matters
        if len(changed):
            raise ValueError(f"{name}[{changed[0]}] is {array[changed[0]]}; what {taken.dtype} can hold is right")
        fields[name] = taken.tolist()
    for split in tree.sets:
        if not 0 <= split < splits:
            raise ValueError(f"sets has split {split}; 0 to {splits - 1} is right")
    cdef list feature = fields["feature"], threshold = fields["threshold"], cover = fields["cover"]
    cdef list order = [0 if splits else -1]
    forest.root.push_back(forest.nodes.size())
    for place, at in enumerate(order):  # grows under way
        if at < 0:
            node.threshold, node.next, node.feature = fields["value"][~at], place, ~at
            node.rule, node.cover = 0, cover[splits + ~at]
            forest.nodes.push_back(node)
            continue
        if not 0 <= feature[at] < forest.width:
            raise ValueError(f"feature[{at}] is {feature[at]}; 0 to {forest.width - 1} is right")
        node.feature, node.next, node.cover = feature[at], len(order), cover[at]
        node.rule = kNanRight if fields["nan_right"][at] else 0
        if at in tree.sets:
            node.rule |= kBySet
            node.threshold = forest.set_begin.size() - 1
            forest.categorical[feature[at]] = 1
            add_set(forest, tree.sets[at])
        else:
            node.threshold = threshold[at]
            if node.threshold != node.threshold:
                raise ValueError(f"threshold[{at}] is NaN; a number is right")
            if 0.0 > node.threshold:
                node.rule |= kZeroRight
        for child in (fields["left"][at], fields["right"][at]):
            if not -splits - 1 <= child < splits or len(order) > 2 * splits:
                raise ValueError(f"the children of split {at} are {fields['left'][at]} and {fields['right'][at]}; "
                                 f"every split but 0, and every leaf, once is right")
            order.append(child)
        forest.nodes.push_back(node)
    if sorted(order) != list(range(-splits - 1, splits)):
        raise ValueError(f"left and right do not reach every one of {splits} splits and {splits + 1} leaves once")


cdef int add_set(c_Forest& forest, categories) except -1:
    chosen = np.asarray(categories)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise ValueError(f"sets has categories {chosen.dtype} {chosen.shape}; whole numbers [n] are right")
    # A table has an entry for each category up to the last, and a float32 holds no whole number beyond exactly.
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < 1 << 24):
        raise ValueError(f"sets has categories {chosen.min()} to {chosen.max()}; 0 to 16777215 is right")
    chosen = chosen.astype(np.int64)
    words = np.zeros(int(chosen.max()) // 32 + 1 if len(chosen) else 0, np.uint32)
    np.bitwise_or.at(words, chosen // 32, np.uint32(1) << (chosen % 32).astype(np.uint32))
    for word in words.tolist():
        forest.set.push_back(word)
    forest.set_begin.push_back(forest.set.size())
