"""What a recommendation has shown, as the log's record of it: one walk over the snapshot's columns."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int32_t, int64_t, uint64_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from pairec_fast.core.arena cimport Arena, c_Arena
from pairec_fast.core.idmap cimport IdMap, c_IdMap

import numpy as np

cdef extern from "<string_view>" namespace "std" nogil:
    cdef cppclass string_view:
        string_view()
        string_view(const char*, size_t)

cdef extern from "idmap.hpp" namespace "pairec" nogil:
    bint c_offsets_fit "pairec::offsets_fit"(const uint64_t*, int32_t, uint64_t) noexcept

cdef extern from "shown.hpp" namespace "pairec" nogil:
    enum c_Type "pairec::Shown::Type":
        pass
    cdef struct c_Head "pairec::ShownHead":
        string_view scene
        string_view request_id
        string_view uid
        string_view features
        string_view experiment_id
        string_view fingerprint
        int64_t time
    cdef cppclass c_Items "pairec::ShownItems":
        vector[int32_t] rows
        vector[double] algo_scores
    cdef cppclass c_Shown "pairec::Shown":
        void add_column(string_view, c_Type, const void*, const char*, const uint64_t*, int32_t) except +
        void add_output(string_view) except +
        c_Items items(const c_Arena&, const int32_t*, int32_t) except +
        bool record(const c_Head&, const c_IdMap&, const c_Items&, string&) noexcept

# In the order of Shown::Type.
_TYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "b1"]
cdef int TEXT = 11

cdef const char* nothing = b""  # a pointer to no bytes that is none to nowhere


cdef string_view view(str text) except *:
    cdef Py_ssize_t size
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    return string_view(data, size)


cdef class Shown:
    """Makes records of recommendations of one scene.

    Args:
        scene, fingerprint: texts of every record.
        ids: of the items.
        columns: name -> (values, None) or (codes int32, (text uint8, offset uint64)), each [at least as many as ids],
            plain and contiguous: numbers, in which NaN is missing, or codes into a vocabulary, -1 missing.
        outputs: names of the arena's first columns of scores.

    Raises:
        ValueError: a column is shorter, not contiguous, or of a type that a record cannot have.
    """

    cdef c_Shown c
    cdef readonly str scene, fingerprint
    cdef readonly Py_ssize_t outputs
    cdef IdMap _ids
    cdef list _arrays

    def __init__(self, str scene not None, str fingerprint not None, IdMap ids not None, dict columns not None,
                 outputs not None):
        cdef const char* text
        cdef const uint64_t* offset
        cdef const unsigned char[::1] letters
        cdef const uint64_t[::1] bounds
        cdef size_t data
        cdef int kind, texts
        self.scene, self.fingerprint, self._ids, self._arrays = scene, fingerprint, ids, []
        for name, (values, vocabulary) in columns.items():
            type_of = values.dtype.kind + str(values.dtype.itemsize)
            wanted = ["i4"] if vocabulary is not None else _TYPES
            if values.ndim != 1 or len(values) < len(ids) or not values.flags.c_contiguous or type_of not in wanted:
                raise ValueError(f"column {name!r} must be {' or '.join(wanted)} [{len(ids)}] and contiguous, "
                                 f"got {type_of} {list(values.shape)}")
            kind, texts = _TYPES.index(type_of), 0
            text = NULL
            offset = NULL
            if vocabulary is not None:
                letters, bounds = vocabulary
                kind, texts = TEXT, <int> (bounds.shape[0] - 1)
                if texts < 0 or not c_offsets_fit(&bounds[0], texts, letters.shape[0]):
                    raise ValueError(f"column {name!r}: offset does not fit its text")
                text = <const char*> &letters[0] if letters.shape[0] else nothing
                offset = &bounds[0]
            data = values.ctypes.data
            self.c.add_column(view(name), <c_Type> kind, <const void*> data, text, offset, texts)
            self._arrays.append((values, vocabulary))
        self.outputs = len(outputs)
        for name in outputs:
            self.c.add_output(view(name))

    def items(self, Arena arena not None, positions) -> ShownItems:
        """The candidates at `positions` of `arena.order`, with what a record says of them.

        Raises:
            ValueError: a position that `arena.order` does not have, or an arena with fewer columns of scores.
        """
        cdef const int32_t[::1] places = np.asarray(positions, np.int32)
        cdef int32_t count = <int32_t> places.shape[0]
        cdef int32_t index
        cdef ShownItems taken = ShownItems.__new__(ShownItems)
        if arena.c.algos < self.outputs:
            raise ValueError(f"the arena has {arena.c.algos} columns of scores, not {self.outputs}")
        for index in range(count):
            if not 0 <= places[index] < arena.c.order_count:
                raise ValueError(f"positions must be below {arena.c.order_count}, got {places[index]}")
        taken._shown = self
        taken.c = self.c.items(arena.c, &places[0] if count else NULL, count)
        return taken


cdef class ShownItems:
    """Items of an answer, out of its arena. `Shown.items` makes them."""

    cdef Shown _shown
    cdef c_Items c

    @property
    def rows(self) -> np.ndarray:
        """Rows of the items' table, int32 [items]."""
        return np.array(self.c.rows, np.int32)

    @property
    def algo_scores(self) -> np.ndarray:
        """Scores by algorithm, float64 [outputs, items]."""
        return np.array(self.c.algo_scores, np.float64).reshape(self._shown.outputs, self.c.rows.size())

    def record(self, str request_id not None, str uid not None, bytes features not None, str experiment_id not None,
               int64_t time):
        """What `callback.encode` makes of them, as bytes; `features` are a map in msgpack.

        None where an item is not the table's, a text not the vocabulary's, or has no UTF-8: those are for
        `callback.encode`.
        """
        cdef Shown shown = self._shown
        cdef c_Head head
        cdef string record
        cdef bool good
        try:
            head.scene, head.request_id, head.uid = view(shown.scene), view(request_id), view(uid)
            head.experiment_id, head.fingerprint = view(experiment_id), view(shown.fingerprint)
        except UnicodeEncodeError:
            return None
        head.features = string_view(PyBytes_AS_STRING(features), PyBytes_GET_SIZE(features))
        head.time = time
        with nogil:
            good = shown.c.record(head, shown._ids.c, self.c, record)
        return PyBytes_FromStringAndSize(record.data(), record.size()) if good else None
