"""A cache in this process, of a bounded size, whose entries are forgotten after a time."""

import time

from pairec_fast.core.columns import MISSING

cdef object _missing = MISSING
ENTRIES_MAX = 100_000


cdef class Cache:
    """Values by key. `seconds`: how long one is kept from when it was put; 0 or less: until it is pushed out.

    The oldest are pushed out when `entries_max` are there. Any number of threads may use it: what happens to the
    entries happens in one go, because none of it runs Python code.
    """

    cdef readonly double seconds
    cdef readonly Py_ssize_t entries_max
    cdef object _clock
    cdef dict _entries  # in the order in which they were put

    def __init__(self, double seconds, Py_ssize_t entries_max=ENTRIES_MAX, clock=time.monotonic):
        if entries_max <= 0:
            raise ValueError(f"entries_max must be positive, got {entries_max}")
        self.seconds, self.entries_max, self._clock = seconds, entries_max, clock
        self._entries = {}

    def __class_getitem__(cls, kind):
        return cls

    def __len__(self):
        return len(self._entries)

    def get(self, str key):
        """The value, None if there is none any more."""
        value = self._get(key, self._clock())
        return None if value is _missing else value

    def put(self, str key, value, seconds=None):
        """Keep `value` for `seconds`, else for as long as the cache keeps any."""
        cdef double life = self.seconds if seconds is None else seconds
        self._put(key, value, self._clock() + life if life > 0 else float("inf"))

    def forget(self, str key):
        """Keep the value no longer."""
        self._entries.pop(key, None)

    def clear(self):
        """Keep nothing any longer."""
        self._entries.clear()

    def get_many(self, keys):
        """The values of `keys` [n], `MISSING` where there is none, and of these where they stand, and the keys."""
        cdef list values = [], places = [], asked = []
        now = self._clock()
        for key in keys:
            value = self._get(key, now)
            if value is _missing:
                places.append(len(values))
                asked.append(key)
            values.append(value)
        return values, places, asked

    def fill(self, list values, list places, keys, came, *, but=(), bint nothing=True):
        """What came for `keys` [m] goes to its `places` in `values`, and is put, but for the entries that `but` names
        and, unless `nothing`, for those that are None or empty."""
        cdef Py_ssize_t at = 0
        until = self._clock() + self.seconds if self.seconds > 0 else float("inf")
        for key, value in zip(keys, came, strict=True):
            values[places[at]] = value
            if (nothing or value) and at not in but:
                self._put(key, value, until)
            at += 1

    cdef _get(self, str key, double now):
        entry = self._entries.get(key)
        if entry is None:
            return _missing
        until, value = entry
        if now < until:
            return value
        del self._entries[key]
        return _missing

    cdef _put(self, str key, value, double until):
        cdef dict entries = self._entries
        entries.pop(key, None)  # so that it comes to stand as the newest
        while len(entries) >= self.entries_max:
            del entries[next(iter(entries))]
        entries[key] = (until, value)
