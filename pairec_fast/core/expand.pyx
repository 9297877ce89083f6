"""Rows of a record: what `log dump` prints, what Kafka and DataHub get."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef extern from "expand.hpp" namespace "pairec" nogil:
    cdef cppclass Expander:
        bool expand(const unsigned char*, size_t, string&, vector[size_t]&) noexcept


def expand(payload) -> list:
    """The rows of one callback as PAI-Rec logs them, each a JSON object in UTF-8: the user's, then one an item.

    Keys in the order of PAIREC 9.4. A JSON text in a row is "" if something in it has no JSON: NaN, infinities, bytes,
    keys that are no texts, more than 1,000 lists and objects in each other.

    Args:
        payload: bytes-like, the msgpack of a `callback.Record`; fields beyond the first seven are left out.

    Raises:
        ValueError: `payload` is no record, or its ids alone would take 256 MiB, as each row repeats them.
    """
    cdef Py_buffer view
    cdef Expander expander
    cdef string text
    cdef vector[size_t] ends
    cdef bool good
    cdef size_t begin = 0
    cdef size_t end
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    with nogil:
        good = expander.expand(<const unsigned char*> view.buf, view.len, text, ends)
    PyBuffer_Release(&view)
    if not good:
        raise ValueError("not a record of a callback")
    rows = []
    for end in ends:
        rows.append(PyBytes_FromStringAndSize(text.data() + begin, end - begin))
        begin = end
    return rows
