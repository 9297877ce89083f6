from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from *:
    """
    #include <system_error>
    #include "recover.hpp"

    // Turns what the C++ throws into OSError(errno, message), PairecError or ValueError.
    static void pairec_raise_log_error() {
      try {
        throw;
      } catch (const pairec::FileError& error) {
        const std::string message = std::string(error.what()) + ": " + std::generic_category().message(error.code);
        if (PyObject* args = Py_BuildValue("(is)", error.code, message.c_str())) {
          PyErr_SetObject(PyExc_OSError, args);
          Py_DECREF(args);
        }
      } catch (const pairec::LockedError& error) {
        PyObject* module = PyImport_ImportModule("pairec_fast.errors");
        PyObject* type = module == nullptr ? nullptr : PyObject_GetAttrString(module, "PairecError");
        if (type != nullptr) PyErr_SetString(type, error.what());
        Py_XDECREF(type);
        Py_XDECREF(module);
      } catch (const std::invalid_argument& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
      } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
      } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
      }
    }
    """
    void raise_log_error "pairec_raise_log_error" ()

cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass atomic_u64 "std::atomic<std::uint64_t>":
        uint64_t load()
    cdef cppclass atomic_i64 "std::atomic<std::int64_t>":
        int64_t load()
    cdef cppclass atomic_u32 "std::atomic<std::uint32_t>":
        uint32_t load()

cdef extern from "<array>" namespace "std" nogil:
    cdef cppclass ErrorCounts "std::array<std::atomic<std::uint32_t>, 136>":
        atomic_u32& operator[](size_t)
        size_t size()

cdef extern from "file.hpp" namespace "pairec" nogil:
    cdef cppclass Fd:
        int get()
    void make_directory(const string&) except +raise_log_error
    int64_t monotonic_ns()

cdef extern from "ring.hpp" namespace "pairec" nogil:
    cdef enum class CPush "pairec::Push":
        ok, full, too_large, closed
    cdef cppclass RingCounters:
        atomic_u64 pushed, pushed_bytes, dropped_full, dropped_too_large, dropped_closed, high_water_bytes
    cdef struct Run:
        const unsigned char* data
        uint64_t begin, end
    cdef struct RecordHeader:
        uint32_t size
    uint64_t c_record_bytes "pairec::record_bytes"(uint64_t)
    bool is_gap(const unsigned char*, size_t)
    uint64_t gap_dropped(const unsigned char*, size_t)
    bool c_ring_has_owner "pairec::ring_has_owner"(const string&) except +raise_log_error
    cdef cppclass CRing "pairec::Ring":
        CPush push(const void*, size_t)
        CPush offer(const void*, size_t)
        void close()
        Run peek(uint64_t, uint64_t)
        void release(uint64_t)
        bool mark_clean()
        void unlock()
        uint64_t tail()
        uint64_t head()
        uint64_t capacity()
        uint64_t record_bytes_max()
        uint64_t ring_id()
        const RingCounters& counters()
        bool owned()

cdef extern from "segment.hpp" namespace "pairec" nogil:
    cdef struct SegmentFooter:
        uint64_t blocks, records
    cdef cppclass SegmentFile:
        string path
        bool closed
    cdef struct Record:
        const unsigned char* data
        uint32_t size
        uint64_t ring_id, position
    cdef cppclass SegmentReader:
        bool next(Record&) except +raise_log_error
        uint64_t records()
        uint64_t bytes()
        uint64_t torn_bytes()
        const SegmentFooter& sum()
        const vector[string]& errors()
    cdef cppclass DirectoryReader:
        DirectoryReader(const string&, const string&) except +raise_log_error
        bool next(Record&) except +raise_log_error
    void check_sink(const string&) except +raise_log_error
    vector[SegmentFile] list_segments(const string&, const string&) except +raise_log_error
    unique_ptr[SegmentReader] open_segment(SegmentFile) except +raise_log_error

cdef extern from "flush.hpp" namespace "pairec" nogil:
    cdef cppclass FlushOptions:
        string directory, sink
        uint32_t slot
        uint64_t rotate_bytes
        int64_t rotate_ns, sync_ns, retain_ns
        uint64_t retain_bytes, free_bytes_min
    cdef cppclass FlushCounters:
        atomic_u64 records, bytes, segments, removed, removed_bytes
        atomic_u64 free_bytes, low_water, low_water_times, syncs, sync_sum_ns, sync_most_ns
        atomic_i64 oldest_ns, hole_ns, heartbeat_ns
        ErrorCounts errors
    cdef cppclass Flusher:
        Flusher(CRing&, FlushOptions) except +raise_log_error
        bool flush(int64_t)
        bool rotate(int64_t)
        bool stop(int64_t)
        const FlushCounters& counters()

cdef extern from "recover.hpp" namespace "pairec" nogil:
    cdef cppclass Recovery:
        bool found, clean, quarantined
        uint32_t slot
        uint64_t records, repeated, unfinished, damaged, repaired
        vector[string] errors
    Recovery adopt_ring(const string&, const string&, const string&, uint32_t) except +raise_log_error
    unique_ptr[CRing] open_ring(const string&, const string&, const string&, uint64_t, uint32_t,
                                Recovery&) except +raise_log_error
    unique_ptr[CRing] open_memory_ring(const string&, const string&, uint64_t, uint32_t,
                                       Recovery&) except +raise_log_error
    unique_ptr[CRing] open_empty_ring(const string&, uint64_t, uint32_t) except +raise_log_error


# What the modules of other sinks share.
cdef bint push_to(CRing* ring, object record, bint last=*) except -1
cdef string encoded(object path) except *
cdef int64_t nanoseconds(str name, double seconds) except -1
cdef uint32_t checked_slot(object slot) except? 0xFFFFFFFF
cdef uint64_t checked_capacity(object capacity) except 0
cdef double age(int64_t since)
cdef dict ring_counters(CRing* ring)
cdef dict recovery_dict(const Recovery& recovery)


cdef class Ring:
    cdef unique_ptr[CRing] _ring
    cdef uint64_t _cursor
    cdef bint _closed


cdef class Log:
    cdef unique_ptr[CRing] _ring
    cdef unique_ptr[Flusher] _flusher
    cdef readonly dict recovered
    cdef uint64_t _before
    cdef bint _closed, _drained
    cdef int _check_owned(self, str verb) except -1
