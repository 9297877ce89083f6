"""What was known of a key strictly before a time."""

from libc.stdint cimport int64_t

import numpy as np

cdef extern from "aggregate.hpp" namespace "pairec" nogil:
    ctypedef struct c_Events "pairec::Events":
        const int64_t* key
        const double* time
        const double* value
        int64_t count
    void c_aggregate "pairec::aggregate"(const c_Events&, const int64_t*, const double*, int64_t, double, double, double*,
                                         double*, double*) noexcept


def aggregate(keys, times, values, at_keys, at_times, *, double window=0.0, double half_life=0.0):
    """Count, sum and newest time of the events of each key strictly before each time.

    Args:
        keys, times, values: events, any order: int64 [n], float64 [n], float64 [n].
        at_keys, at_times: questions, any order: int64 [m], float64 [m].
        window: events older than this do not count; 0 keeps all.
        half_life: an event weighs 2^(-age / half_life); 0 weighs all alike. Not together with `window`.

    Returns:
        (number, sum, last), each float64 [m]; last is NaN without an event.

    Raises:
        ValueError: lengths differ, or both `window` and `half_life` are set.
    """
    if window < 0 or half_life < 0 or (window and half_life):
        raise ValueError(f"window {window} and half_life {half_life}: one of them may be positive")
    if not len(keys) == len(times) == len(values) or len(at_keys) != len(at_times):
        raise ValueError(f"{len(keys)} keys, {len(times)} times, {len(values)} values; {len(at_keys)} and {len(at_times)}")
    order, at_order = np.lexsort((times, keys)), np.lexsort((at_times, at_keys))
    cdef const int64_t[::1] key = np.ascontiguousarray(keys, np.int64)[order]
    cdef const double[::1] time = np.ascontiguousarray(times, np.float64)[order]
    cdef const double[::1] value = np.ascontiguousarray(values, np.float64)[order]
    cdef const int64_t[::1] at_key = np.ascontiguousarray(at_keys, np.int64)[at_order]
    cdef const double[::1] at_time = np.ascontiguousarray(at_times, np.float64)[at_order]
    answers = [np.empty(len(at_keys), np.float64) for _ in range(3)]
    cdef double[::1] number = answers[0], sum = answers[1], last = answers[2]
    cdef c_Events events
    if len(at_keys):
        events.count = key.shape[0]
        if events.count:
            events.key, events.time, events.value = &key[0], &time[0], &value[0]
        with nogil:
            c_aggregate(events, &at_key[0], &at_time[0], at_key.shape[0], window, half_life, &number[0], &sum[0], &last[0])
    unsorted = np.empty(len(at_keys), np.int64)
    unsorted[at_order] = np.arange(len(at_keys))
    return tuple(answer[unsorted] for answer in answers)
