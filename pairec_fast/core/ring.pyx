"""The record log: bytes pushed from the callback path, kept through the death of the process, written to segment files.

`Log` is what the engine uses: a ring in a mapped file and one native thread that moves its records to segments. `push`
answers when the record lies committed in the mapping: it survives the death of the process (SIGKILL included) and is
brought into a segment by the next `Log` or `recover` on the same ring. Power loss may take what was not yet flushed:
normally the last `sync_seconds`, more while the disk is slow or refuses (`counters()["oldest_unsynced_seconds"]`).
What is refused leaves a gap: a record among the others that says how many are missing there.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.operator cimport dereference
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

import errno
import os

from pairec_fast.errors import PairecError


cdef bint push_to(CRing* ring, object record, bint last=True) except -1:
    """One call without the GIL. `bytes` costs no buffer protocol. Only the `last` refusal of a record is counted."""
    cdef Py_buffer view
    cdef const void* data
    cdef size_t size
    cdef CPush status
    if PyBytes_CheckExact(record):
        data = PyBytes_AS_STRING(record)
        size = PyBytes_GET_SIZE(record)
        with nogil:
            status = ring.push(data, size) if last else ring.offer(data, size)
        return status == CPush.ok
    PyObject_GetBuffer(record, &view, PyBUF_SIMPLE)
    with nogil:
        status = ring.push(view.buf, view.len) if last else ring.offer(view.buf, view.len)
    PyBuffer_Release(&view)
    return status == CPush.ok


cdef string encoded(object path) except *:
    name = os.fsencode(path)
    if not name or b"\0" in name:
        raise ValueError(f"a path must not be empty or hold a NUL, got {path!r}")
    return name


cdef int64_t nanoseconds(str name, double seconds) except -1:
    if not 0 <= seconds <= 1e9:
        raise ValueError(f"{name} must be 0 to 1e9 seconds, got {seconds}")
    return <int64_t> (seconds * 1e9)


cdef uint32_t checked_slot(object slot) except? 0xFFFFFFFF:
    if not 0 <= slot < 65536:
        raise ValueError(f"slot must be 0 to 65535, got {slot}")
    return slot


cdef uint64_t checked_capacity(object capacity) except 0:
    if not 65536 <= capacity <= 1 << 33 or capacity & (capacity - 1):
        raise ValueError(f"capacity must be a power of two from 65536 to {1 << 33} bytes, got {capacity}")
    return capacity


cdef uint64_t checked_bytes(str name, object value) except? 0:
    if not 0 <= value < 1 << 63:
        raise ValueError(f"{name} must be 0 to {(1 << 63) - 1} bytes, got {value}")
    return value


cdef double age(int64_t since):
    """Seconds since a monotonic time, of which 0 means never."""
    return max(0, monotonic_ns() - since) / 1e9 if since else 0.0


cdef dict ring_counters(CRing* ring):
    cdef const RingCounters* c = &ring.counters()
    return {
        "pushed": c.pushed.load(),
        "pushed_bytes": c.pushed_bytes.load(),
        "dropped_full": c.dropped_full.load(),
        "dropped_too_large": c.dropped_too_large.load(),
        "dropped_closed": c.dropped_closed.load(),
        "used_bytes": ring.tail() - ring.head(),
        "high_water_bytes": c.high_water_bytes.load(),
    }


cdef list texts(vector[string] errors):
    return [os.fsdecode(<bytes> error) for error in errors]


cdef dict recovery_dict(const Recovery& recovery):
    return {
        "found": recovery.found,
        "clean": recovery.clean,
        "quarantined": recovery.quarantined,
        "slot": recovery.slot,
        "records": recovery.records,
        "repeated": recovery.repeated,
        "unfinished": recovery.unfinished,
        "damaged": recovery.damaged,
        "repaired": recovery.repaired,
        "errors": texts(recovery.errors),
    }


cdef class Ring:
    """A crash-safe byte ring in the file `path`: any threads push, one thread pops.

    Args:
        path: the file, on tmpfs if pushes must not wait for write-back. Made, or replaced if it was closed empty.
        capacity: bytes of data, a power of two from 64 KiB to 8 GiB. A record may have capacity / 8 - 16 bytes.
        slot: which worker's ring this is.

    Raises:
        ValueError: `capacity` or `slot`.
        OSError: the file cannot be made; ENOSPC names the bytes needed and available.
        PairecError: the file has a live owner, or holds records (`recover` brings them into a segment).
    """

    def __cinit__(self, path, capacity=64 << 20, *, slot=0):
        cdef string name = encoded(path)
        cdef uint64_t size = checked_capacity(capacity)
        cdef uint32_t number = checked_slot(slot)
        with nogil:
            self._ring = open_empty_ring(name, size, number)

    def __dealloc__(self):
        if self._ring and not self._ring.get().owned():
            self._ring.release()  # a forked child: its descriptors are closed already

    def push(self, record) -> bool:
        """Copy `record` (bytes-like, contiguous) into the ring. False if it is refused: `counters` says why."""
        return push_to(self._ring.get(), record)

    def pop(self, bytes_max=1 << 20) -> list:
        """The oldest records as `(position, payload)`, up to `bytes_max` bytes but at least one, and free their space:
        [] when there is none, also when the oldest is still being copied. One thread at a time."""
        cdef Run run
        cdef uint64_t limit = bytes_max
        cdef uint64_t at = 0
        cdef const RecordHeader* header
        if self._closed or not self._ring.get().owned():
            return []
        run = self._ring.get().peek(self._cursor, limit)
        records = []
        while run.begin + at < run.end:
            header = <const RecordHeader*> (run.data + at)
            records.append((run.begin + at, PyBytes_FromStringAndSize(<const char*> run.data + at + 16, header.size)))
            at += c_record_bytes(header.size)
        self._cursor = run.end
        self._ring.get().release(run.end)
        return records

    def counters(self) -> dict:
        """`pushed`, `pushed_bytes`, `dropped_full`, `_too_large` and `_closed`, `used_bytes`, `high_water_bytes`."""
        return ring_counters(self._ring.get())

    @property
    def ring_id(self) -> int:
        """Random name of this generation; with a position it names a record for ever."""
        return self._ring.get().ring_id()

    @property
    def record_bytes_max(self) -> int:
        """The largest payload that is accepted."""
        return self._ring.get().record_bytes_max() - 16

    def close(self) -> None:
        """Refuse further pushes. What has not been popped stays in the file for `recover`. Idempotent."""
        if not self._closed and self._ring.get().owned():
            self._closed = True
            self._ring.get().close()
            self._ring.get().mark_clean()
            self._ring.get().unlock()


cdef class Log:
    """A ring with a flush thread: `push` on any thread, segment files in `directory`.

    Opening recovers what a dead owner of `ring_path` left: it is in closed segments before the first push. A ring whose
    header is damaged is kept as `.corrupt`; `recovered` tells (the dict that `recover` answers).

    Args:
        directory: where segments go; made with mode 0700 if missing.
        ring_path: the ring's file, one per process; on tmpfs for even push times. Its directory must exist. None: the
            ring lies in memory of this process alone, and what was not flushed dies with it.
        capacity: bytes of the ring, a power of two from 64 KiB to 8 GiB. A record may have capacity / 8 - 16 bytes.
        slot: number of this worker; no two live logs of one directory and sink with files may share it.
        sink: first part of segment names, letters, digits and underscores.
        rotate_bytes, rotate_seconds: a segment is closed at this size or age, whichever comes first.
        sync_seconds: a written block waits at most so long for its fdatasync to begin; polling adds up to 10 ms.
        retain_bytes, retain_seconds: closed segments of this directory and sink, of whichever log, are removed beyond
            this size together or this age of their last write, the oldest first; 0 keeps them.
        free_bytes_min: with less free space nothing is written until there is more or the log is closed; records wait
            in the ring. 0 is no mark, None 1 GiB or, of a smaller disk, 5 % of it.

    A forked child cannot use it: every push there is refused.

    Raises:
        ValueError: an argument is out of its range; the message names it.
        OSError: a file or directory cannot be made, read or written; ENOSPC names the bytes the ring needs and has.
        PairecError: the ring has a live owner.
    """

    def __cinit__(self, directory, ring_path, *, capacity=64 << 20, slot=0, sink="log", rotate_bytes=128 << 20,
                  rotate_seconds=60.0, sync_seconds=0.05, retain_bytes=0, retain_seconds=0.0, free_bytes_min=0):
        cdef FlushOptions options
        cdef Recovery recovery
        cdef string path = b"" if ring_path is None else encoded(ring_path)
        cdef uint64_t size = checked_capacity(capacity)
        if not 4096 <= rotate_bytes <= 1 << 40:
            raise ValueError(f"rotate_bytes must be 4096 to {1 << 40}, got {rotate_bytes}")
        options.directory = encoded(directory)
        options.sink = sink.encode()
        options.slot = checked_slot(slot)
        options.rotate_bytes = rotate_bytes
        options.rotate_ns = nanoseconds("rotate_seconds", rotate_seconds)
        options.sync_ns = nanoseconds("sync_seconds", sync_seconds)
        options.retain_bytes = checked_bytes("retain_bytes", retain_bytes)
        options.retain_ns = nanoseconds("retain_seconds", retain_seconds)
        options.free_bytes_min = (<uint64_t> -1 if free_bytes_min is None  # FlushOptions::free_bytes_auto
                                  else checked_bytes("free_bytes_min", free_bytes_min))
        check_sink(options.sink)
        with nogil:
            make_directory(options.directory)
            if path.empty():
                self._ring = open_memory_ring(options.directory, options.sink, size, options.slot, recovery)
            else:
                self._ring = open_ring(options.directory, options.sink, path, size, options.slot, recovery)
            self._before = self._ring.get().counters().pushed.load()
            self._flusher = unique_ptr[Flusher](new Flusher(dereference(self._ring), options))
        self.recovered = recovery_dict(recovery)

    def __dealloc__(self):
        if not self._ring:
            return
        if not self._ring.get().owned():
            # A forked child: thread, locks and descriptors are the parent's. Nothing here may be destroyed.
            self._flusher.release()
            self._ring.release()
            return
        with nogil:
            if self._flusher and not self._closed and self._flusher.get().stop(1_000_000_000):
                self._ring.get().mark_clean()
            self._flusher.reset()  # before the ring it uses

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def push(self, record) -> bool:
        """Copy `record` (bytes-like, contiguous) into the ring; never waits.

        True: it survives the death of this process, if the ring has a file. False: refused and counted, as
        `dropped_full`, `dropped_too_large` or `dropped_closed` (also in a forked child). Refusals of the first two
        kinds leave a gap among the records, which says how many there were and between which positions.

        Raises:
            TypeError: not bytes-like.
        """
        return push_to(self._ring.get(), record)

    def try_push(self, record) -> bool:
        """`push` for one who asks again: that the ring is full is not counted, and makes no gap."""
        return push_to(self._ring.get(), record, False)

    def flush(self, double timeout=10.0) -> bool:
        """Wait until all pushed before is in a segment and fdatasync has answered 0. False after `timeout` seconds."""
        cdef int64_t wait = nanoseconds("timeout", timeout)
        cdef bint done
        self._check_owned("flush")
        with nogil:
            done = self._flusher.get().flush(wait)
        return done

    def rotate(self, double timeout=10.0) -> bool:
        """`flush`, and close the segment that is open. False after `timeout` seconds."""
        cdef int64_t wait = nanoseconds("timeout", timeout)
        cdef bint done
        self._check_owned("rotate")
        with nogil:
            done = self._flusher.get().rotate(wait)
        return done

    def close(self, double timeout=10.0) -> bool:
        """Refuse further pushes, drain the ring into closed segments, end the thread, mark the ring clean. Idempotent.

        False if that took more than `timeout` seconds (a full or hanging disk): the rest stays in the ring, and the
        next `Log` or `recover` on it writes it; without a file it is lost. May take one disk call longer than `timeout`.
        No-op in a forked child.
        """
        cdef int64_t wait = nanoseconds("timeout", timeout)
        cdef bint drained
        if not self._closed and self._ring.get().owned():
            self._closed = True
            with nogil:
                drained = self._flusher.get().stop(wait)
                if drained:
                    self._ring.get().mark_clean()
                self._ring.get().unlock()
            self._drained = drained
        return self._drained

    def counters(self) -> dict:
        """A snapshot of what happened. Costs microseconds; reads no file.

        `pushed`, `pushed_bytes`, the `dropped_` counts and `high_water_bytes` go on from the previous owner of the
        ring; the rest is this log's: `accepted` = `delivered` + `in_ring` + `in_spill` + `dead_letter`, in records; the
        last two are 0, as the disk refuses nothing for good. `flushed_records` (= `delivered`) and `flushed_bytes`
        (payload) are on disk as far as fdatasync can tell. `segments_closed`, `errors` (errno name -> count),
        `used_bytes` of the ring, `recovered_records`. Ages, 0.0 if there is none: `oldest_unsynced_seconds` of the
        oldest record not yet on disk (up to 10 ms too small, more behind a slow disk call), `heartbeat_seconds` since
        the flush thread looked around, `hole_age_seconds` of a push that has not returned and holds up all behind it.
        `fdatasync_count`, `fdatasync_seconds_sum`, `_max`; `segments_removed`, `removed_bytes` by retention. With a
        mark: `free_bytes` of the disk, `low_water` 1 while under it, `low_water_times` that this began.
        """
        cdef const FlushCounters* c = &self._flusher.get().counters()
        counts = ring_counters(self._ring.get())
        # In this order: what is pushed or delivered meanwhile must not make a count negative.
        counts["delivered"] = counts["flushed_records"] = c.records.load()
        counts["accepted"] = self._ring.get().counters().pushed.load() - self._before
        counts["in_ring"] = counts["accepted"] - counts["delivered"]
        counts["in_spill"] = counts["dead_letter"] = 0
        counts["flushed_bytes"] = c.bytes.load()
        counts["segments_closed"] = c.segments.load()
        counts["errors"] = {
            errno.errorcode.get(code, f"E{code}"): c.errors[code].load()
            for code in range(c.errors.size()) if c.errors[code].load()
        }
        counts["recovered_records"] = self.recovered["records"]
        return counts | {
            "oldest_unsynced_seconds": age(c.oldest_ns.load()), "hole_age_seconds": age(c.hole_ns.load()),
            "heartbeat_seconds": 0.0 if self._closed else age(c.heartbeat_ns.load()),
            "fdatasync_count": c.syncs.load(), "fdatasync_seconds_sum": c.sync_sum_ns.load() / 1e9,
            "fdatasync_seconds_max": c.sync_most_ns.load() / 1e9, "segments_removed": c.removed.load(),
            "removed_bytes": c.removed_bytes.load(), "free_bytes": c.free_bytes.load(),
            "low_water": c.low_water.load(), "low_water_times": c.low_water_times.load(),
        }

    @property
    def ring_id(self) -> int:
        """Random name of this generation of the ring; with a position it names a record for ever."""
        return self._ring.get().ring_id()

    @property
    def record_bytes_max(self) -> int:
        """The largest payload that is accepted."""
        return self._ring.get().record_bytes_max() - 16

    @property
    def tail(self) -> int:
        """Position: the end of all that has been pushed. What `push` has just taken ends at or before it."""
        return self._ring.get().tail()

    @property
    def synced(self) -> int:
        """Position: fdatasync has answered 0 for all before it. Never falls."""
        return self._ring.get().head()

    @property
    def delivered(self) -> int:
        """Position: the far end of the sink has all before it. The disk is its own far end: the same as `synced`."""
        return self._ring.get().head()

    cdef int _check_owned(self, str verb) except -1:
        if not self._ring.get().owned():
            raise PairecError(f"{verb}: this log belongs to the process that opened it, not to a forked child")
        return 0


def recover(directory, ring_path, *, sink="log", slot=0) -> dict:
    """Bring what a dead process left in its ring and open segments into closed segments of `directory`.

    For a parent whose workers have died. Changes nothing if the ring has a live owner or is absent; running it again is
    harmless, also after it was killed. `slot` counts only where the ring itself cannot say it.

    Returns:
        `state`: "recovered", "clean", "absent", "locked" or "quarantined" (damaged header; the file is now `.corrupt`);
        `found`, `clean`, `quarantined`, `slot`; `records` written now, `repeated` ones that a segment had already,
        `unfinished` pushes that never returned, `damaged` records by checksum, `repaired` open segments, `errors`.

    Raises:
        ValueError: `sink`, `slot` or a path.
        OSError: a file cannot be read or written. The ring keeps what it holds.
    """
    cdef string place = encoded(directory), path = encoded(ring_path), name = sink.encode()
    cdef uint32_t number = checked_slot(slot)
    cdef Recovery recovery
    check_sink(name)
    if not os.path.exists(ring_path):
        return {"state": "absent", **recovery_dict(recovery)}
    try:
        with nogil:
            make_directory(place)
            recovery = adopt_ring(place, name, path, number)
    except PairecError as error:
        return {"state": "locked", **recovery_dict(recovery), "errors": [str(error)]}
    answer = recovery_dict(recovery)
    state = "quarantined" if recovery.quarantined else "clean" if recovery.clean or not recovery.found else "recovered"
    return {"state": state, **answer}


def ring_has_owner(path) -> bool:
    """Whether a living process owns the ring file at this moment. Takes no lock. OSError: it cannot be opened."""
    return c_ring_has_owner(encoded(path))


cdef class _Records:
    cdef unique_ptr[DirectoryReader] _reader
    cdef bint _gaps

    def __cinit__(self, directory, sink, gaps):
        self._gaps = gaps
        cdef string place = encoded(directory), name = sink.encode()
        with nogil:
            self._reader = unique_ptr[DirectoryReader](new DirectoryReader(place, name))

    def __iter__(self):
        return self

    def __next__(self):
        cdef Record record
        cdef bool more
        with nogil:
            more = self._reader.get().next(record)
            while more and not self._gaps and is_gap(record.data, record.size):
                more = self._reader.get().next(record)
        if not more:
            raise StopIteration
        return PyBytes_FromStringAndSize(<const char*> record.data, record.size), record.ring_id, record.position


def read_segments(directory, sink="log", *, gaps=False):
    """Iterate over the records of all segments as `(payload, ring_id, position)`, each record once.

    Order: rings by creation, then segments by sequence, then as pushed. Closed and open segments, damaged ones as far
    as their checksums hold (`verify_segments` tells what is missing). With `gaps` also what the log itself left where
    it refused some: `is_gap_record` tells them from records.

    Raises:
        ValueError: `sink`.
        OSError: a file cannot be read. That is not damage: it is raised, not skipped.
    """
    return _Records(directory, sink, gaps)


def is_gap_record(bytes payload not None) -> bool:
    """Whether this is a gap: the msgpack map `gap_from`, `gap_to` (positions), `dropped`, `reason`."""
    return is_gap(<const unsigned char*> PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload))


def verify_segments(directory, sink="log") -> list:
    """Read every segment and report on it; changes nothing.

    Returns:
        One dict per file, in reading order: `file`, `closed` (named `.seg`), `records` readable, `blocks`, `bytes` of
        the file, `torn_bytes` after the last whole block of an open one, `dropped` records that its gaps tell of,
        `errors` (texts; empty when all is well).

    Raises:
        ValueError: `sink`.
        OSError: a file cannot be read.
    """
    cdef string place = encoded(directory), name = sink.encode()
    cdef unique_ptr[SegmentReader] reader
    cdef Record record
    cdef SegmentFile file
    cdef uint64_t gaps, dropped
    reports = []
    for file in list_segments(place, name):
        reader = open_segment(file)
        if not reader:
            continue
        gaps = dropped = 0
        with nogil:
            while reader.get().next(record):
                if is_gap(record.data, record.size):
                    gaps += 1
                    dropped += gap_dropped(record.data, record.size)
        reports.append({
            "file": os.fsdecode(<bytes> file.path),
            "closed": file.closed,
            "records": reader.get().records() - gaps,
            "blocks": reader.get().sum().blocks,
            "bytes": reader.get().bytes(),
            "torn_bytes": reader.get().torn_bytes(),
            "dropped": dropped,
            "errors": texts(reader.get().errors()),
        })
    return reports
