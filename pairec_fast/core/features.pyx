"""Features of user and item together."""

from libc.math cimport NAN
from libc.stdint cimport int32_t, int64_t
from libcpp.vector cimport vector

import numpy as np

from pairec_fast.core.arena cimport Arena, c_Arena, check_candidates, check_rows
from pairec_fast.core.recall cimport Neighbours, c_Neighbours, c_accumulate


cdef extern from "features.hpp" namespace "pairec" nogil:
    cdef enum class Kind "pairec::Cross::Kind"(int32_t):
        dot "pairec::Cross::Kind::dot"
        cell "pairec::Cross::Kind::cell"
        similarity "pairec::Cross::Kind::similarity"
    ctypedef void (*Dots)() noexcept
    Dots dots_kernel() except +
    ctypedef struct c_Cross "pairec::Cross":
        Kind kind
        int32_t column
        int32_t width
        const float* left
        const float* right
        const int32_t* user_group
        const int32_t* item_group
        c_Neighbours table
        int32_t newest
        Dots dots
    void c_cross_features "pairec::cross_features"(c_Arena&, const c_Cross*, int32_t, int32_t, const int32_t*,
                                                   int32_t) noexcept
    int32_t c_used "pairec::used"(const c_Cross&, int32_t) noexcept
    void c_cross_pairs "pairec::cross_pairs"(const c_Cross&, const int32_t*, const int32_t*, int64_t,
                                             float*) noexcept


cdef int32_t check_groups(str name, group, Py_ssize_t groups) except -1:
    """Raise ValueError unless all of `group` are -1 or below `groups`."""
    numbers = np.asarray(group)
    if len(numbers) and not (numbers.min() >= -1 and numbers.max() < groups):
        raise ValueError(f"{name} has groups {numbers.min()} to {numbers.max()}; right are -1 to {groups - 1}")
    return 0


cdef int32_t check_users(const int32_t[::1] users, int32_t end) except -1:
    """Raise ValueError unless all of `users` are -1, which is unknown, or below `end`."""
    numbers = np.asarray(users)
    if len(numbers) and not (numbers.min() >= -1 and numbers.max() < end):
        raise ValueError(f"users are {numbers.min()} to {numbers.max()}; rows here are -1 to {end - 1}")
    return 0


cdef class Cross:
    """A feature of user and item together. Made by `dot`, `cell` or `similarity`; keeps its arrays alive."""

    cdef c_Cross c
    cdef int32_t users, items  # rows of the tables it reads; a Cross made without them has none
    cdef tuple arrays

    @staticmethod
    def dot(const float[:, ::1] users not None, const float[:, ::1] items not None) -> Cross:
        """Inner product of `users` [users, dim] and `items` [items, dim], summed in float64 in order of dimension."""
        if users.shape[1] != items.shape[1]:
            raise ValueError(f"user vectors have {users.shape[1]} dimensions, item vectors {items.shape[1]}")
        cdef Cross self = Cross.__new__(Cross)
        self.c.kind = Kind.dot
        self.c.dots = dots_kernel()
        self.c.width = users.shape[1]
        self.c.left = &users[0, 0]
        self.c.right = &items[0, 0]
        self.users, self.items = users.shape[0], items.shape[0]
        self.arrays = (users, items)
        return self

    @staticmethod
    def cell(const float[:, ::1] values not None, const int32_t[::1] user_group, const int32_t[::1] item_group) -> Cross:
        """`values[group of the user, group of the item]`; a group array of None is the row itself, -1 gives NaN.

        A group of items beyond the last column, of a text that came later, is the last.

        Raises:
            ValueError: a group is not a row, or a column, of `values`.
        """
        cdef Cross self = Cross.__new__(Cross)
        if user_group is not None:
            check_groups("user_group", user_group, values.shape[0])
        if item_group is not None:
            check_groups("item_group", item_group, values.shape[1])
        self.users = values.shape[0] if user_group is None else user_group.shape[0]
        self.items = values.shape[1] if item_group is None else item_group.shape[0]
        self.c.kind = Kind.cell
        self.c.width = values.shape[1]
        self.c.left = &values[0, 0]
        self.c.user_group = &user_group[0] if user_group is not None else NULL
        self.c.item_group = &item_group[0] if item_group is not None else NULL
        self.arrays = (values, user_group, item_group)
        return self

    @staticmethod
    def similarity(Neighbours table not None, int32_t newest=0) -> Cross:
        """Sum of the weights between the user's history and the item; 0 without a neighbour, NaN without a history.

        With `newest`, only over that many at the end of the history, and divided by how many there were.

        Raises:
            ValueError: `newest` is negative.
        """
        if newest < 0:
            raise ValueError(f"newest must not be negative, got {newest}")
        cdef Cross self = Cross.__new__(Cross)
        self.c.kind = Kind.similarity
        self.c.table = table.c
        self.c.newest = newest
        self.users, self.items = 0x7FFFFFFF, table.items
        self.arrays = (table,)
        return self

    def pairs(self, const int32_t[::1] users not None, const int32_t[::1] items not None):
        """The feature for pairs of rows: float32 [n]. `users` -1: unknown, gives NaN. Dot and cell only.

        Raises:
            ValueError: lengths differ, a row is not in its table, or this is a similarity.
        """
        if self.c.kind == Kind.similarity:
            raise ValueError("similarity needs histories: use histories()")
        if users.shape[0] != items.shape[0]:
            raise ValueError(f"{users.shape[0]} users, {items.shape[0]} items")
        out = np.empty(users.shape[0], np.float32)
        cdef float[::1] view = out
        if users.shape[0]:
            check_users(users, self.users)
            check_rows("items", &items[0], items.shape[0], self.items)
            with nogil:
                c_cross_pairs(self.c, &users[0], &items[0], users.shape[0], &view[0])
        return out

    def histories(self, Arena arena not None, const int64_t[::1] offset not None, const int32_t[::1] history not None,
                  const int32_t[::1] group not None, const int32_t[::1] items not None):
        """The similarity of `items` [n] to the history `history[offset[g]:offset[g + 1]]` of their `group` g: float32 [n].

        Rows of one group should lie together: each run costs one pass over its history. `arena` is scratch.

        Raises:
            ValueError: this is no similarity, the arena is made for fewer items, the arrays do not fit together,
                or a row is not in the table.
        """
        if self.c.kind != Kind.similarity:
            raise ValueError("only similarity reads histories")
        if arena.c.items_max < self.items:
            raise ValueError(f"arena for {arena.c.items_max} items, table of {self.items}")
        if group.shape[0] != items.shape[0]:
            raise ValueError(f"{group.shape[0]} groups, {items.shape[0]} items")
        bounds = np.asarray(offset)
        rising = len(bounds) > 0 and bounds[0] >= 0 and (np.diff(bounds) >= 0).all()
        if not rising or bounds[len(bounds) - 1] > history.shape[0]:
            raise ValueError(f"offset must rise from 0 or more to at most {history.shape[0]}, the length of history")
        check_rows("group", &group[0], group.shape[0], <int32_t> (offset.shape[0] - 1))
        check_rows("items", &items[0], items.shape[0], self.items)
        check_rows("history", &history[0], history.shape[0], self.items)
        out = np.empty(items.shape[0], np.float32)
        cdef float[::1] view = out
        cdef int64_t i
        cdef int32_t last = -1, length = 0
        cdef double share = 1.0
        with nogil:
            for i in range(items.shape[0]):
                if group[i] != last:
                    last = group[i]
                    length = c_used(self.c, <int32_t> (offset[last + 1] - offset[last]))
                    share = length if self.c.newest > 0 else 1.0
                    c_accumulate(arena.c, self.c.table, &history[0] + offset[last + 1] - length, length)
                if length == 0:
                    view[i] = NAN
                elif arena.c.mark.contains(items[i]):
                    view[i] = <float> (arena.c.sum[items[i]] / share)
                else:
                    view[i] = 0.0
        return out


cdef class Crosses:
    """The features of user and item together that a scene's models read, bound to one snapshot. Immutable.

    Args:
        cross: (column, Cross) each: which column of `arena.features` it fills.

    Raises:
        ValueError: a column is negative or taken twice.
    """

    cdef int32_t users, items, remembered  # the smallest tables it reads: of users, of candidates, of history
    cdef int32_t largest  # rows of its largest item-to-item table; 0 without one
    cdef int32_t width    # columns an arena must have
    cdef vector[c_Cross] crosses
    cdef list kept

    def __cinit__(self, list cross not None):
        cdef Cross one
        cdef int32_t column
        self.users = self.items = self.remembered = 0x7FFFFFFF
        taken = set()
        for column, one in cross:
            if one is None:
                raise ValueError(f"column {column}: no Cross")
            if column < 0 or column in taken:
                raise ValueError(f"column {column} is negative or taken twice")
            taken.add(column)
            self.users = min(self.users, one.users)
            if one.c.kind == Kind.similarity:  # a candidate that its table lacks has no neighbours
                self.remembered, self.largest = min(self.remembered, one.items), max(self.largest, one.items)
            else:
                self.items = min(self.items, one.items)
            self.width = max(self.width, column + 1)
            self.crosses.push_back(one.c)
            self.crosses.back().column = column
        self.kept = cross

    def fill(self, Arena arena not None, int32_t user, const int32_t[::1] history not None) -> None:
        """Write their columns of `arena.features[:count]`.

        Args:
            user: row in the user table, or -1.
            history: int32, rows of the user's recent items, newest last.

        Raises:
            ValueError: the arena is too narrow or made for fewer items than the item-to-item tables, or a row of
                `arena`, `user` or `history` is not in the tables.
        """
        if arena.c.width < self.width:
            raise ValueError(f"the arena's features are {arena.c.width} wide; {self.width} or more is right")
        if arena.c.overlay.rows < self.largest:
            raise ValueError(f"arena for {arena.c.overlay.rows} items, item-to-item table of {self.largest}")
        if not -1 <= user < self.users:
            raise ValueError(f"user must be -1 to {self.users - 1}, got {user}")
        check_candidates(arena, min(self.items, arena.c.overlay.rows))
        cdef const int32_t* recent = &history[0] if history.shape[0] else NULL
        if self.largest:
            check_rows("history", recent, history.shape[0], self.remembered)
        with nogil:
            c_cross_features(arena.c, self.crosses.data(), <int32_t> self.crosses.size(), user, recent,
                             <int32_t> history.shape[0])
