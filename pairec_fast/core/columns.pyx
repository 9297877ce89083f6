"""Columns out of what a store or a body says of the candidates: texts, rows, objects. One walk, none of it Python's.

A column is float64 [n], NaN where a value is missing, or (codes int32 [n], values): codes into a list, -1 missing.
"""

from cpython.dict cimport PyDict_GetItem
from cpython.list cimport PyList_GET_ITEM
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcpy
from libcpp cimport bool as c_bool
from libcpp.string cimport string
from libcpp.unordered_map cimport unordered_map
from libcpp.vector cimport vector

import datetime
import decimal

import msgspec
import numpy as np


cdef extern from "<string_view>" namespace "std" nogil:
    cdef cppclass string_view:
        string_view() except +
        string_view(const char*, size_t) except +
        const char* data()
        size_t size()

cdef extern from "text_columns.hpp" namespace "pairec" nogil:
    cdef enum c_Kind "pairec::Word::Kind":
        c_text "pairec::Word::text"
        c_json "pairec::Word::json"
        c_number "pairec::Word::number"
    cdef struct c_Word "pairec::Word":
        c_Kind kind
        string_view bytes
        double value
    cdef struct c_TextColumn "pairec::TextColumn":
        string_view name
        vector[double] numbers
        vector[int32_t] codes
        vector[c_Word] words
    cdef cppclass c_TextColumns "pairec::TextColumns":
        c_TextColumns(int32_t, size_t) except +
        void read_pairs(int32_t, string_view, string_view) except +
        c_bool read_object(int32_t, string_view) except +
        void settle() except +
        size_t names()
        vector[c_TextColumn]& columns()
    void c_read_vector "pairec::read_vector"(string_view, string_view, vector[float]&) except +


class Missing:
    """The type of `MISSING`."""

    __slots__ = ()

    def __repr__(self):
        return "MISSING"


MISSING = Missing()  # no value, where None is one
cdef object _missing = MISSING


def read_pairs(list given, str delimiter, Py_ssize_t most):
    """Texts [n] of pairs `name:value` with `delimiter` between, each of exactly one colon; None or empty: nothing.

    A value that Go's ParseFloat takes is a number. Answers the columns by name, of the first `most` names, and how many
    names there are. *Source*: PAIREC 8.1, the item side.
    """
    if not delimiter:
        raise ValueError("delimiter must not be empty")
    columns, names, _ = _read(given, delimiter, most)
    return columns, names


def read_objects(list given, Py_ssize_t most):
    """Texts [n], each a JSON object or `null`; None or empty: nothing. Numbers are doubles, but integers that no double
    holds.

    Answers as `read_pairs`, and behind that the rows whose text is no JSON object, or no ordinary one: nested deeper
    than 32, or with an integer of more than 100 digits. Nothing of these is in the columns.
    """
    return _read(given, None, most)


cdef _read(list given, str delimiter, Py_ssize_t most):
    cdef Py_ssize_t count = len(given), row, size
    cdef const char* data
    cdef vector[string_view] views
    cdef vector[int32_t] rows, odd
    cdef string_view between
    cdef bint is_json = delimiter is None
    for row in range(count):
        text = given[row]
        if text:
            data = PyUnicode_AsUTF8AndSize(text, &size)
            views.push_back(string_view(data, size))
            rows.push_back(<int32_t> row)
    if not is_json:
        data = PyUnicode_AsUTF8AndSize(delimiter, &size)
        between = string_view(data, size)
    cdef c_TextColumns* read = new c_TextColumns(<int32_t> count, <size_t> most)
    cdef size_t at
    try:
        with nogil:
            for at in range(views.size()):
                if not is_json:
                    read.read_pairs(rows[at], views[at], between)
                elif not read.read_object(rows[at], views[at]):
                    odd.push_back(rows[at])
            read.settle()
        return _columns(read, count), read.names(), odd
    finally:
        del read


cdef dict _columns(c_TextColumns* read, Py_ssize_t count):
    cdef dict columns = {}
    cdef list words, later = []  # lists of values, and where in them JSON stands
    cdef size_t at, place
    cdef c_TextColumn* column
    cdef c_Word* word
    cdef double[::1] numbers
    cdef int32_t[::1] codes
    cdef string nested
    for at in range(read.columns().size()):
        column = &read.columns()[at]
        name = PyUnicode_DecodeUTF8(column.name.data(), column.name.size(), NULL)
        if column.words.empty():
            made = np.empty(count)
            numbers = made
            memcpy(&numbers[0], column.numbers.data(), count * sizeof(double))
            columns[name] = made
            continue
        made = np.empty(count, np.int32)
        codes = made
        memcpy(&codes[0], column.codes.data(), count * sizeof(int32_t))
        words = []
        for place in range(column.words.size()):
            word = &column.words[place]
            if word.kind == c_text:
                words.append(PyUnicode_DecodeUTF8(word.bytes.data(), word.bytes.size(), NULL))
            elif word.kind == c_number:
                words.append(word.value)
            else:
                nested.append(b"[" if nested.empty() else b",")
                nested.append(word.bytes.data(), word.bytes.size())
                later.append((words, place))
                words.append(None)
        columns[name] = made, words
    if later:
        nested.append(b"]")
        for (words, spot), value in zip(later, msgspec.json.decode(nested), strict=True):
            words[spot] = value
    return columns


def read_vectors(list given, str separator):
    """Texts [n], each a vector written as `{a,b}` or `a,b`: float32 [n, dims]. What is no number is 0.

    Raises:
        ValueError: vectors of different lengths; its first argument is the place of the first such.
    """
    if not separator:
        raise ValueError("separator must not be empty")
    cdef Py_ssize_t size, at, dims = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(separator, &size)
    cdef string_view between = string_view(data, size)
    cdef vector[float] numbers
    for at in range(len(given)):
        data = PyUnicode_AsUTF8AndSize(given[at], &size)
        c_read_vector(string_view(data, size), between, numbers)
        if at == 0:
            dims = numbers.size()
        elif <Py_ssize_t> numbers.size() != dims * (at + 1):
            raise ValueError(at, f"{numbers.size() - dims * at} numbers, others have {dims}")
    made = np.empty((len(given), dims), np.float32)
    cdef float[:, ::1] view = made
    if numbers.size():
        memcpy(&view[0, 0], numbers.data(), numbers.size() * sizeof(float))
    return made


def column_of(values):
    """A column of Python values [n], `MISSING` among them: of numbers if all others are doubles and none of them NaN."""
    cdef list given = values if type(values) is list else list(values)
    column = _numbers(given)
    return _coded(given) if column is None else column


cdef _numbers(list values):
    """None if there is something else."""
    cdef Py_ssize_t count = len(values), row
    cdef double value
    made = np.empty(count)
    cdef double[::1] numbers = made
    for row in range(count):
        one = <object> PyList_GET_ITEM(values, row)
        if one is _missing:
            numbers[row] = float("nan")
        elif type(one) is float:
            value = one
            if value != value:
                return None
            numbers[row] = value
        else:
            return None
    return made


cdef _coded(list values):
    """Codes, and the values: texts, numbers and bools each once."""
    cdef Py_ssize_t count = len(values), row
    cdef dict known = {}
    cdef list kept = []
    cdef PyObject* found
    made = np.full(count, -1, np.int32)
    cdef int32_t[::1] codes = made
    for row in range(count):
        value = <object> PyList_GET_ITEM(values, row)
        if value is _missing:
            continue
        if type(value) is str:
            key = value
        elif isinstance(value, str | int | float):
            key = (type(value), value)
        else:
            codes[row] = len(kept)
            kept.append(value)
            continue
        found = PyDict_GetItem(known, key)
        if found is NULL:
            known[key] = codes[row] = len(kept)
            kept.append(value)
        else:
            codes[row] = <object> found
    return made, kept


def values_of(list entries, str name):
    """The value of `name` in each of dicts [n]; `MISSING` where there is none."""
    return [(<dict?> entry).get(name, _missing) for entry in entries]


def columns_of(list entries, Py_ssize_t most=2**31 - 1, *, bint nulls=True, bint doubles=False):
    """Columns by name of objects [n], dicts or None: of the first `most` names. And how many names there are.

    A value None is one, unless not `nulls`: then it is missing. With `doubles` an integer is one.
    """
    cdef Py_ssize_t count = len(entries), row
    cdef PyObject* found
    cdef list values
    cdef dict names = {}, columns = {}
    cdef bint there
    for entry in entries:
        if entry is not None:
            if not isinstance(entry, dict):
                raise TypeError(f"expected dicts, got {type(entry).__name__}")
            names.update(entry)  # the names in the order in which they come
    for name in names:
        if len(columns) == most:
            break
        values, there = [_missing] * count, False
        for row in range(count):
            entry = <object> PyList_GET_ITEM(entries, row)
            if entry is not None:
                found = PyDict_GetItem(entry, name)
                if found is not NULL and (nulls or <object> found is not None):
                    value = <object> found
                    values[row] = float(value) if doubles and type(value) is int else value
                    there = True
        if there:
            columns[name] = column_of(values)
    return columns, len(names)


def rows_by_key(keys, names, rows):
    """For each of `keys` the last of `rows` that begins with it, as a dict of what follows, by `names`, each made
    `plain`; None if none does."""
    cdef dict found = {}
    cdef list listed = list(names)
    cdef Py_ssize_t at, count = len(listed)
    for row in rows:
        if len(row) != count + 1:
            raise ValueError(f"expected {count + 1} values, got {len(row)}")
        found[row[0]] = entry = {}
        for at in range(count):
            entry[listed[at]] = plain(row[at + 1])
    return [found.get(key) for key in keys]


def hashes(names, answers):
    """Answers of HMGET [n], each a value or None for every one of `names`: dicts of what is there and not empty, or
    None if nothing is. What is no list, as an error, stays as it is."""
    cdef list listed = list(names), made = []
    cdef Py_ssize_t at, count = len(listed)
    for answer in answers:
        if type(answer) is list:
            if len(answer) != count:
                raise ValueError(f"expected {count} values, got {len(answer)}")
            entry = {}
            for at in range(count):
                value = answer[at]
                if value:
                    entry[listed[at]] = value
            answer = entry or None
        made.append(answer)
    return made


def prefixed(str prefix, keys):
    """`prefix` before each of `keys`."""
    return [prefix + key for key in keys]


def texts(values):
    """Bytes [n], or None, as texts; what is no UTF-8 becomes U+FFFD."""
    return [None if value is None else (<bytes> value).decode("utf-8", "replace") for value in values]


def integers(keys, low, high):
    """Those of `keys` that are integers from `low` to `high`, written as they are usually written."""
    return [key for key in keys if 0 < len(key) <= 20 and _written(key) and low <= int(key) <= high]


cdef bint _written(str key):
    digits = key[1:] if key[0] == "-" else key
    return digits.isascii() and digits.isdecimal() and (digits[0] != "0" or key == "0")


cpdef plain(value):
    """A value of a row as PAI-Rec's properties have it: a number, a bool, a text, None, or a list of texts."""
    kind = type(value)
    if kind is str or kind is float or kind is int or kind is bool or value is None:
        return value
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode(errors="replace")
    if isinstance(value, list) and not any([isinstance(part, dict | list) for part in value]):
        return [str(part) for part in value]
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else str(value)
