"""Places on the earth as cells: S2 cell ids and geohashes, for one place or columns of places."""

from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t

import numpy as np


cdef extern from "geo.hpp" namespace "pairec::geo" nogil:
    int level_max
    int precision_max
    uint64_t c_cell "pairec::geo::cell"(double lat, double lng, int level)
    void c_neighbors "pairec::geo::neighbors"(uint64_t id, uint64_t* out)
    uint64_t c_geohash "pairec::geo::geohash"(double lat, double lng, int precision)
    void c_geohash_neighbors "pairec::geo::geohash_neighbors"(uint64_t hash, int precision, uint64_t* out)

LEVEL_MAX = level_max
PRECISION_MAX = precision_max
DIGITS = "0123456789bcdefghjkmnpqrstuvwxyz"


def cells(const double[::1] lat not None, const double[::1] lng not None, int level):
    """The S2 cell ids [count] int64 of places in degrees; a place that is not finite is 0, which is no cell.

    Raises:
        ValueError: `level` is not 0 to 30, or the columns differ in length.
    """
    _check(lat.shape[0], lng.shape[0], level, 0, level_max, "level")
    out = np.empty(lat.shape[0], np.int64)
    cdef int64_t[::1] ids = out
    cdef Py_ssize_t k
    with nogil:
        for k in range(lat.shape[0]):
            ids[k] = <int64_t> c_cell(lat[k], lng[k], level) if isfinite(lat[k]) and isfinite(lng[k]) else 0
    return out


def neighbors(int64_t cell) -> list:
    """The eight cells around an S2 cell, as signed ids."""
    cdef uint64_t out[8]
    c_neighbors(<uint64_t> cell, out)
    return [<int64_t> out[k] for k in range(8)]


def geohashes(const double[::1] lat not None, const double[::1] lng not None, int precision):
    """The geohashes [count] int64 of places in degrees, as numbers of 5 * `precision` bits; not finite is -1.

    Raises:
        ValueError: `precision` is not 1 to 12, or the columns differ in length.
    """
    _check(lat.shape[0], lng.shape[0], precision, 1, precision_max, "precision")
    out = np.empty(lat.shape[0], np.int64)
    cdef int64_t[::1] hashes = out
    cdef Py_ssize_t k
    with nogil:
        for k in range(lat.shape[0]):
            hashes[k] = <int64_t> c_geohash(lat[k], lng[k], precision) if isfinite(lat[k]) and isfinite(lng[k]) else -1
    return out


def geohash_neighbors(int64_t hash, int precision) -> list:
    """The eight geohashes around one, as numbers: N, NE, E, SE, S, SW, W, NW."""
    cdef uint64_t out[8]
    _check(0, 0, precision, 1, precision_max, "precision")
    c_geohash_neighbors(<uint64_t> hash, precision, out)
    return [<int64_t> out[k] for k in range(8)]


def geohash_text(int64_t hash, int precision) -> str:
    """A geohash as its `precision` characters."""
    return "".join(DIGITS[hash >> 5 * (precision - 1 - k) & 31] for k in range(precision))


def _check(lats, lngs, value, lowest, highest, name):
    if lats != lngs:
        raise ValueError(f"{lats} latitudes and {lngs} longitudes")
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must be {lowest} to {highest}, got {value}")
