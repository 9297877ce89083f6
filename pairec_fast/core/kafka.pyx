"""The record log of a Kafka topic: bytes pushed from the callback path, sent by a native thread, spilled while brokers
are away.

`KafkaLog` is a ring in a mapped file and one thread that expands its records into rows and gives them to librdkafka,
which is loaded at run time. A record leaves the ring when every row was acknowledged by all in-sync replicas, or when it
lies in a spill segment on disk as far as fdatasync can tell. The spill is sent when brokers are back, oldest first, also
by another worker if this one has died. Delivery is at least once: the headers `ring_id`, `position` and `row` of each
message (decimal text) let a reader remove repeats.
"""

from cython.operator cimport dereference
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libcpp cimport bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string
from libcpp.utility cimport pair
from libcpp.vector cimport vector

from pairec_fast.core.ring cimport (
    CRing, Recovery, age, atomic_i64, atomic_u32, atomic_u64, check_sink, checked_capacity, checked_slot, encoded,
    make_directory, nanoseconds, open_memory_ring, open_ring, push_to, recovery_dict, ring_counters,
)

import errno
import os

from pairec_fast.errors import PairecError

cdef extern from *:
    """
    #include "deliver.hpp"

    static const pairec::KafkaLibrary* pairec_load_kafka(const std::vector<std::string>& candidates) {
      return &pairec::KafkaLibrary::load(candidates);
    }

    // KafkaError is a PairecError; the rest is raised as the other logs raise it.
    static void pairec_raise_kafka_error() {
      try {
        throw;
      } catch (const pairec::KafkaError& error) {
        PyObject* module = PyImport_ImportModule("pairec_fast.errors");
        PyObject* type = module == nullptr ? nullptr : PyObject_GetAttrString(module, "PairecError");
        if (type != nullptr) PyErr_SetString(type, error.what());
        Py_XDECREF(type);
        Py_XDECREF(module);
      } catch (...) {
        pairec_raise_log_error();
      }
    }
    """
    void raise_kafka_error "pairec_raise_kafka_error" ()

cdef extern from "<atomic>" namespace "std" nogil:
    cdef cppclass atomic_int "std::atomic<int>":
        int load()

cdef extern from "file.hpp" namespace "pairec" nogil:
    int64_t wall_ns()

cdef extern from "kafka.hpp" namespace "pairec" nogil:
    cdef cppclass KafkaOptions:
        string servers, topic
        int64_t message_timeout_ms
        vector[pair[string, string]] properties
    cdef cppclass KafkaLibrary:
        const string& path()
        string version()
        string error_name(int)
    const KafkaLibrary* c_load_library "pairec_load_kafka" (const vector[string]&) except +raise_kafka_error
    int code_lowest "pairec::kafka_code::lowest"
    int code_highest "pairec::kafka_code::highest"

cdef extern from "deliver.hpp" namespace "pairec" nogil:
    cdef cppclass CodeCounts:
        uint32_t get(int)
    cdef cppclass DiskErrors "std::array<std::atomic<std::uint32_t>, 136>":
        atomic_u32& operator[](size_t)
        size_t size()
    cdef cppclass DeliverOptions:
        string directory, sink
        uint64_t rotate_bytes
        int64_t sync_ns, stall_ns, unknown_topic_ns, adopt_ns
        KafkaOptions kafka
    cdef cppclass DeliverCounters:
        atomic_u64 records, rows, dead, spilled, released, spill_records, spill_bytes, adopted, damaged, delivered
        atomic_i64 spill_first_ns, oldest_ns, beat_ns, hole_ns
        atomic_int queued, state
        CodeCounts errors, dead_codes
        DiskErrors disk_errors
    cdef cppclass Deliverer:
        Deliverer(CRing&, const KafkaLibrary&, DeliverOptions) except +raise_kafka_error
        bool flush(int64_t)
        bool stop(int64_t)
        uint64_t synced()
        const DeliverCounters& counters()
        void inject_fatal(int)


STATES = ("direct", "spill", "replay")
# What the sink's promises stand on.
RESERVED = frozenset({
    "bootstrap.servers", "metadata.broker.list", "enable.idempotence", "acks", "request.required.acks",
    "message.timeout.ms", "delivery.timeout.ms", "transactional.id", "delivery.report.only.error", "dr_cb", "dr_msg_cb",
})


cdef dict code_counts(const KafkaLibrary* library, const CodeCounts* counts):
    return {
        library.error_name(code).decode(): counts.get(code)
        for code in range(code_lowest, code_highest + 1) if counts.get(code)
    }


cdef vector[string] paths(object candidates) except *:
    cdef vector[string] names
    for candidate in candidates:
        names.push_back(encoded(candidate))
    return names


def load_library(candidates) -> tuple:
    """Load the first of `candidates` that is a librdkafka. Returns its path and version.

    Raises:
        PairecError: none is; the message says why of each, and how to install one.
    """
    cdef vector[string] names = paths(candidates)
    cdef const KafkaLibrary* library
    cdef bytes path
    with nogil:
        library = c_load_library(names)
    path = library.path()
    return os.fsdecode(path), library.version().decode()


cdef class KafkaLog:
    """A ring whose records go to a Kafka topic: `push` on any thread, one message per row, keyed by uid.

    Opening brings what a dead owner of `ring_path` left into the spill; `recovered` tells (as `Log.recovered`). The
    spill of any dead worker is sent by whoever lives.

    Args:
        directory: where spill (`{sink}_spill-…`) and dead letters (`{sink}_dead-…`) go; made with mode 0700 if missing.
        ring_path: the ring's file, one per process; on tmpfs for even push times. Its directory must exist. None is a
            ring in memory, which dies with the process.
        servers: `host:port`, separated by commas.
        topic: must exist, unless the brokers make topics by themselves.
        library: paths of librdkafka to try, in order; the first that loads is used.
        options: librdkafka properties beside the sink's own, texts; security settings for example. `batch.size` is what
            batches have at most; they are smaller where the topic's `max.message.bytes` is. Without `partitioner` keys go
            where Java producers send them ("murmur2").
        capacity: bytes of the ring, a power of two from 64 KiB to 8 GiB. A record may have capacity / 8 - 16 bytes.
        slot: number of this worker; no two live logs of one directory and sink may share it.
        sink: first part of segment names, up to 58 letters, digits and underscores.
        rotate_bytes: at which a segment of spill or dead letters is closed.
        sync_seconds: spilled records wait so long for their fdatasync, at most.
        stall_seconds: when nothing is acknowledged for so long, or one record not for three times that, records go to
            the spill.
        message_timeout_seconds: librdkafka's `message.timeout.ms`; at least twice `stall_seconds`.
        unknown_topic_seconds: while the topic is unknown for so long records are kept; then they are dead letters.
        adopt_seconds: how often the spill of dead workers is looked for.

    A forked child cannot use it: every push there is refused.

    Raises:
        ValueError: an argument or a property is wrong, or librdkafka makes no producer of them; the message names it.
        OSError: a file or directory cannot be made, read or written; ENOSPC names the bytes the ring needs and has.
        PairecError: the ring has a live owner, or librdkafka is not found.
    """

    cdef unique_ptr[CRing] _ring
    cdef unique_ptr[Deliverer] _deliverer
    cdef const KafkaLibrary* _library
    cdef readonly dict recovered
    cdef uint64_t _before
    cdef bint _closed, _drained

    def __cinit__(self, directory, ring_path, *, servers, topic, library=("librdkafka.so.1",), options=None,
                  capacity=64 << 20, slot=0, sink="kafka", rotate_bytes=16 << 20, sync_seconds=0.05, stall_seconds=2.0,
                  message_timeout_seconds=30.0, unknown_topic_seconds=60.0, adopt_seconds=10.0):
        cdef DeliverOptions wanted
        cdef Recovery recovery
        cdef bint in_memory = ring_path is None
        cdef string path = b"" if in_memory else encoded(ring_path)
        cdef string spill
        cdef uint64_t size = checked_capacity(capacity)
        cdef vector[string] candidates = paths(library)
        if not 4096 <= rotate_bytes <= 1 << 40:
            raise ValueError(f"rotate_bytes must be 4096 to {1 << 40}, got {rotate_bytes}")
        if not 2 * stall_seconds <= message_timeout_seconds <= 900:
            raise ValueError(f"message_timeout_seconds must be at least twice stall_seconds ({stall_seconds}) and at "
                             f"most 900, got {message_timeout_seconds}")
        for name, text in (("servers", servers), ("topic", topic)):
            if not text or "\0" in text:
                raise ValueError(f"{name} must not be empty or hold a NUL, got {text!r}")
        wanted.directory = encoded(directory)
        wanted.sink = sink.encode()
        spill = (sink + "_spill").encode()
        wanted.rotate_bytes = rotate_bytes
        wanted.sync_ns = nanoseconds("sync_seconds", sync_seconds)
        wanted.stall_ns = nanoseconds("stall_seconds", stall_seconds)
        wanted.unknown_topic_ns = nanoseconds("unknown_topic_seconds", unknown_topic_seconds)
        wanted.adopt_ns = nanoseconds("adopt_seconds", adopt_seconds)
        wanted.kafka.servers = servers.encode()
        wanted.kafka.topic = topic.encode()
        wanted.kafka.message_timeout_ms = round(message_timeout_seconds * 1000)
        for name, value in (options or {}).items():
            if name in RESERVED:
                raise ValueError(f'librdkafka property "{name}" is the sink\'s own and cannot be set')
            wanted.kafka.properties.push_back(pair[string, string](name.encode(), value.encode()))
        cdef uint32_t number = checked_slot(slot)
        check_sink(wanted.sink)
        check_sink(spill)
        with nogil:
            self._library = c_load_library(candidates)
            make_directory(wanted.directory)
            if in_memory:
                self._ring = open_memory_ring(wanted.directory, spill, size, number, recovery)
            else:
                self._ring = open_ring(wanted.directory, spill, path, size, number, recovery)
            self._before = self._ring.get().counters().pushed.load()
            self._deliverer = unique_ptr[Deliverer](
                new Deliverer(dereference(self._ring), dereference(self._library), wanted))
        self.recovered = recovery_dict(recovery)

    def __dealloc__(self):
        if not self._ring:
            return
        if not self._ring.get().owned():
            # A forked child: threads, locks and descriptors are the parent's. Nothing here may be destroyed.
            self._deliverer.release()
            self._ring.release()
            return
        with nogil:
            if self._deliverer and not self._closed and self._deliverer.get().stop(1_000_000_000):
                self._ring.get().mark_clean()
            self._deliverer.reset()  # before the ring it uses

    def __enter__(self) -> KafkaLog:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def push(self, record) -> bool:
        """Copy `record` (bytes-like, contiguous) into the ring; never waits.

        True: it survives the death of this process. False: refused and counted, as `dropped_full`, `dropped_too_large`
        or `dropped_closed` (also in a forked child).

        Raises:
            TypeError: not bytes-like.
        """
        return push_to(self._ring.get(), record, True)

    def try_push(self, record) -> bool:
        """`push` for one who will ask again: that the ring is full is not counted as a drop."""
        return push_to(self._ring.get(), record, False)

    def flush(self, double timeout=10.0) -> bool:
        """Wait until all pushed before is acknowledged, or a dead letter. False after `timeout` seconds.

        What goes to the spill is synced without waiting for others, also by `flush(0)`.
        """
        cdef int64_t wait = nanoseconds("timeout", timeout)
        cdef bint done
        self._check_owned("flush")
        with nogil:
            done = self._deliverer.get().flush(wait)
        return done

    def close(self, double timeout=10.0) -> bool:
        """Refuse further pushes, wait for acknowledgements, spill the rest, end the thread, mark the ring clean.

        Brokers get half of `timeout` seconds, 5 at most, and nothing if they are known to be away. False if all of it
        was not enough (a full or hanging disk): the rest stays in the ring, for the next `KafkaLog` on it. May take one
        disk call, and the end of librdkafka's threads, longer than `timeout`. Idempotent; no-op in a forked child.
        """
        cdef int64_t wait = nanoseconds("timeout", timeout)
        cdef bint drained
        if not self._closed and self._ring.get().owned():
            self._closed = True
            with nogil:
                drained = self._deliverer.get().stop(wait)
                if drained:
                    self._ring.get().mark_clean()
                self._ring.get().unlock()
            self._drained = drained
        return self._drained

    def counters(self) -> dict:
        """A snapshot of what happened. Costs microseconds; reads no file.

        `pushed`, `pushed_bytes`, the `dropped_` counts and `high_water_bytes` go on from the previous owner of the ring;
        the rest is this log's. In records: `accepted` + `adopted_records` (those of dead workers, taken over) =
        `delivered` + `in_ring` + `in_spill` + `dead_letter`. `delivered_rows` were acknowledged, `spilled_records` have
        ever gone to the spill, which has `spill_bytes` now. `kafka_errors` and `dead_letters` count by librdkafka's
        names, `errors` of the disk by errno. `spilling` is 1 while records go to the spill; `kafka_outq` are the messages
        in librdkafka; `oldest_undelivered_seconds`, `spill_oldest_seconds`, `heartbeat_seconds` and `hole_age_seconds` (of
        a push that has not returned and holds up all behind it) are ages, 0.0 if there is none. `used_bytes` of the ring; `recovered_records` brought into the spill on opening; `damaged_segments` of
        the spill set aside as `.corrupt`.
        """
        cdef const DeliverCounters* c = &self._deliverer.get().counters()
        cdef int64_t first = c.spill_first_ns.load()
        counts = ring_counters(self._ring.get())
        # In this order: what is pushed or delivered meanwhile must not make a count negative.
        released = c.released.load()
        counts["accepted"] = self._ring.get().counters().pushed.load() - self._before
        counts["in_ring"] = counts["accepted"] - released
        counts["delivered"] = c.records.load()
        counts["in_spill"] = c.spill_records.load()
        counts["dead_letter"] = c.dead.load()
        counts["adopted_records"] = c.adopted.load()
        counts["delivered_rows"] = c.rows.load()
        counts["spilled_records"] = c.spilled.load()
        counts["spill_bytes"] = c.spill_bytes.load()
        counts["spilling"] = int(c.state.load() != 0)
        counts["kafka_outq"] = c.queued.load()
        counts["kafka_errors"] = code_counts(self._library, &c.errors)
        counts["dead_letters"] = code_counts(self._library, &c.dead_codes)
        counts["errors"] = {
            errno.errorcode.get(code, f"E{code}"): c.disk_errors[code].load()
            for code in range(c.disk_errors.size()) if c.disk_errors[code].load()
        }
        counts["oldest_undelivered_seconds"] = age(c.oldest_ns.load())
        counts["spill_oldest_seconds"] = max(0, wall_ns() - first) / 1e9 if first else 0.0
        counts["hole_age_seconds"] = age(c.hole_ns.load())
        counts["heartbeat_seconds"] = 0.0 if self._closed else age(c.beat_ns.load())
        counts["recovered_records"] = self.recovered["records"]
        counts["damaged_segments"] = c.damaged.load()
        return counts

    @property
    def state(self) -> str:
        """What the flush thread does: "direct", "spill" (brokers are away) or "replay" (the spill is being sent)."""
        return STATES[self._deliverer.get().counters().state.load()]

    @property
    def tail(self) -> int:
        """Position: the end of all that has been pushed. What `push` has just taken ends at or before it."""
        return self._ring.get().tail()

    @property
    def synced(self) -> int:
        """Position: all before it is acknowledged, a dead letter, or on disk as far as fdatasync can tell. Never falls."""
        return self._deliverer.get().synced()

    @property
    def delivered(self) -> int:
        """Position: all before it is acknowledged or a dead letter. Never falls."""
        return self._deliverer.get().counters().delivered.load()

    @property
    def ring_id(self) -> int:
        """Random name of this generation of the ring; with a position it names a record for ever."""
        return self._ring.get().ring_id()

    @property
    def record_bytes_max(self) -> int:
        """The largest payload that is accepted."""
        return self._ring.get().record_bytes_max() - 16

    def inject_fatal_error(self, int code) -> None:
        """Make the producer fail for good with this code, as a broker could: for tests."""
        self._deliverer.get().inject_fatal(code)

    cdef int _check_owned(self, str verb) except -1:
        if not self._ring.get().owned():
            raise PairecError(f"{verb}: this log belongs to the process that opened it, not to a forked child")
        return 0
