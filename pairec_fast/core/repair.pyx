"""Damaged segments and those that dead processes left open, made whole again."""

from libc.stdint cimport int64_t, uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector

from pairec_fast.core.ring cimport SegmentFile, check_sink, list_segments, raise_log_error

import os

cdef extern from "repair.hpp" namespace "pairec" nogil:
    cdef cppclass Repair:
        int state
        uint64_t records
        int64_t lost
        string kept_as
        vector[string] errors
    Repair c_repair "pairec::repair"(const string&, const SegmentFile&) except +raise_log_error
    int c_state "static_cast<int>"(int)
    void c_remove_leftover "pairec::remove_leftover"(const string&) except +raise_log_error

STATES = ("sound", "in_use", "gone", "closed", "removed", "rewritten", "unreadable")


def repair_segments(directory, sink="log") -> list:
    """Make every segment of `directory` whole: close what dead processes left open, rewrite what is damaged.

    All that is readable is kept, in its place; what a damaged file was lies beside it as `.corrupt`. Segments that a
    living process is writing are left alone. Killed anywhere, nothing readable is lost; running again is harmless.

    Returns:
        One dict per file, in reading order: `file`; `state`: "sound", "in_use", "gone" (meanwhile), "closed" (had been
        left open), "removed" (left open and empty), "rewritten", or "unreadable" (moved aside); `records` readable and
        kept; `lost`, None if the file does not say how many it had; `kept_as`, the old file, or ""; `errors`.

    Raises:
        ValueError: `sink`.
        OSError: a file cannot be read or written. Running again goes on from there.
    """
    cdef string place = os.fsencode(directory)
    cdef string name = sink.encode()
    cdef string left
    cdef Repair result
    cdef SegmentFile file
    check_sink(name)
    for entry in os.listdir(directory):
        if entry.startswith(f"{sink}-") and entry.endswith(".repair"):
            left = os.fsencode(os.path.join(directory, entry))
            with nogil:
                c_remove_leftover(left)
    reports = []
    for file in list_segments(place, name):
        with nogil:
            result = c_repair(place, file)
        reports.append({
            "file": os.fsdecode(<bytes> file.path),
            "state": STATES[c_state(result.state)],
            "records": result.records,
            "lost": result.lost if result.lost >= 0 else None,
            "kept_as": os.fsdecode(<bytes> result.kept_as),
            "errors": [os.fsdecode(<bytes> error) for error in result.errors],
        })
    return reports
