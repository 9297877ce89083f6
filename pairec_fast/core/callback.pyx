"""An ordinary callback: its body into the record of the log, without an object for each value."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t
from libcpp cimport bool
from libcpp.string cimport string

cdef extern from "<string_view>" namespace "std" nogil:
    cdef cppclass string_view:
        string_view()
        string_view(const char*, size_t)
        const char* data()
        size_t size()

cdef extern from "callback.hpp" namespace "pairec" nogil:
    cdef cppclass CCallbackBody "pairec::CallbackBody":
        bool read(const char*, size_t) noexcept
        string_view uid() noexcept
        string_view request_id() noexcept
        string_view scene() noexcept
        size_t items() noexcept
        bool record(int64_t, string_view, size_t, string&) noexcept

# Bytes, below which the GIL is kept: a kilobyte takes some 2 us.
cdef size_t LARGE = 64 << 10


cdef str text(string_view view):
    return PyUnicode_DecodeUTF8(view.data(), view.size(), NULL)


cdef class CallbackBody:
    """What an ordinary body of `/api/callback` says: exact keys, each once; items with an `item_id`; features that are
    scalars or lists of texts. `read` makes them.

    Attributes:
        body: as it was given.
        uid, request_id, scene_id: texts, none of them empty.
        items: how many there are, at least one.
    """

    cdef CCallbackBody _body
    cdef readonly bytes body
    cdef readonly str uid, request_id, scene_id
    cdef readonly Py_ssize_t items

    @staticmethod
    def read(bytes body not None):
        """The callback in `body`; None if it is not ordinary, or wrong: that is for `messages.decode`."""
        cdef CallbackBody self = CallbackBody.__new__(CallbackBody)
        cdef const char* data = PyBytes_AS_STRING(body)
        cdef size_t size = PyBytes_GET_SIZE(body)
        cdef bool good
        if size < LARGE:
            good = self._body.read(data, size)
        else:
            with nogil:
                good = self._body.read(data, size)
        if not good:
            return None
        self.body = body
        self.uid, self.request_id = text(self._body.uid()), text(self._body.request_id())
        self.scene_id = text(self._body.scene())
        self.items = self._body.items()
        return self

    def record(self, int64_t time, str fingerprint not None, Py_ssize_t kept) -> bytes:
        """What `callback.encode` makes of it: a `Record` of the first `kept` items, at positions from 0 on.

        Raises:
            ValueError: it does not have as many items.
            MemoryError: there is none left.
        """
        cdef string record
        cdef bool good
        if not 0 <= kept <= self.items:
            raise ValueError(f"kept must be 0 to {self.items}, the number of items, got {kept}")
        encoded = fingerprint.encode()
        cdef string_view view = string_view(PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))
        good = self._body.record(time, view, kept, record)
        if not good:
            raise MemoryError
        return PyBytes_FromStringAndSize(record.data(), record.size())
