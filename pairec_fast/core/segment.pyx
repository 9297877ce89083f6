"""Segment files one by one: for a sink that delivers what they hold, and removes each when it has been delivered."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t, uint64_t
from libcpp cimport bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from pairec_fast.core.ring cimport raise_log_error

import os


cdef extern from "segment.hpp" namespace "pairec" nogil:
    cdef cppclass SegmentFile:
        string path
        uint32_t slot
        uint64_t ring_id, sequence
        bool closed
    cdef cppclass SegmentFooter:
        uint64_t records, begin, end
    cdef cppclass Record:
        const unsigned char* data
        uint32_t size
        uint64_t ring_id, position
    cdef cppclass SegmentReader:
        bool next(Record&) except +raise_log_error
        const vector[string]& errors()
    vector[SegmentFile] c_list_segments "pairec::list_segments"(const string&, const string&) except +raise_log_error
    unique_ptr[SegmentReader] open_segment(SegmentFile) except +raise_log_error
    bool read_footer(const SegmentFile&, SegmentFooter&) except +raise_log_error

cdef extern from "ring.hpp" namespace "pairec" nogil:
    uint64_t record_bytes(uint64_t)


cdef class SegmentRecords:
    """Iterates over the readable records of one segment as `(payload, position, end)`, in the order pushed."""

    cdef unique_ptr[SegmentReader] _reader

    def __iter__(self):
        return self

    def __next__(self):
        cdef Record record
        cdef bool more
        with nogil:
            more = self._reader.get().next(record)
        if not more:
            raise StopIteration
        payload = PyBytes_FromStringAndSize(<const char*> record.data, record.size)
        return payload, record.position, record.position + record_bytes(record.size)

    @property
    def errors(self) -> list:
        """What could not be read, as texts; complete when the iteration has ended."""
        cdef vector[string] errors = self._reader.get().errors()
        return [os.fsdecode(<bytes> error) for error in errors]


cdef class Segment:
    """One segment file, as its name says it."""

    cdef SegmentFile _file

    @property
    def file(self) -> str:
        return os.fsdecode(<bytes> self._file.path)

    @property
    def slot(self) -> int:
        return self._file.slot

    @property
    def ring_id(self) -> int:
        return self._file.ring_id

    @property
    def sequence(self) -> int:
        return self._file.sequence

    @property
    def closed(self) -> bool:
        return self._file.closed

    def record_count(self) -> int:
        """What the footer says; 0 without one. Reads nothing else.

        Raises:
            OSError: the file cannot be read.
        """
        cdef SegmentFooter footer
        cdef bool found
        with nogil:
            found = read_footer(self._file, footer)
        return footer.records if found else 0

    def read(self) -> SegmentRecords:
        """The records. Damage is no error: see `SegmentRecords.errors`.

        Raises:
            OSError: the file is gone or cannot be read.
        """
        cdef SegmentRecords records = SegmentRecords.__new__(SegmentRecords)
        records._reader = open_segment(self._file)
        if not records._reader:
            raise FileNotFoundError(f"{self.file}: the segment is gone")
        return records


def list_segments(directory, sink="log") -> list:
    """The segments of `sink` in `directory`: rings by creation, then by sequence.

    Raises:
        ValueError: `sink`.
        OSError: the directory cannot be listed.
    """
    cdef string place = os.fsencode(directory), name = sink.encode()
    cdef vector[SegmentFile] files
    cdef Segment segment
    with nogil:
        files = c_list_segments(place, name)
    segments = []
    for file in files:
        segment = Segment.__new__(Segment)
        segment._file = file
        segments.append(segment)
    return segments
