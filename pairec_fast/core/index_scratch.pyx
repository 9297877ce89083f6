"""The memory of a search, allocated before it."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint16_t, uint64_t

from pairec_fast.core.arena cimport Block
from pairec_fast.core.index_types cimport (
    Kind, Seen, block_lanes, blocks_ahead, c_Index, c_SearchScratch, entries_max, flat_keep, pool_room, seen_max, visited_words,
)


cdef class SearchScratch:
    """All memory a search needs; with one, a search allocates nothing. One search at a time. Made by an index."""

    def __init__(self):
        raise TypeError("an index makes its own")

    @staticmethod
    cdef SearchScratch make(const c_Index* index, int64_t k, int64_t effort):
        cdef SearchScratch self = SearchScratch.__new__(SearchScratch)
        cdef bint walks = index.kind == Kind.hnsw
        cdef int64_t room = room_for(index, k), seen = 0
        cdef size_t lists = line(4 * <size_t> (index.partition.lists + 16))
        cdef size_t deny = line(2 * <size_t> (places(index) + index.fresh.capacity // 16 + 2))
        cdef size_t query = line(<size_t> index.dim + 64), numbers = line(4 * room), best = line(8 * room)
        cdef size_t results = line(4 * k)
        cdef size_t blocks = 0
        if index.kind == Kind.partition:
            blocks = line(4 * <size_t> (places(index) + blocks_ahead))
        if walks:
            seen = seen_max(index.graph, effort)
        cdef size_t visited = line(8 * visited_words(index.count) if walks else 0)
        cdef size_t each = line(4 * max(seen, <int64_t> entries_max if walks else 0))
        self._block = Block(
            4 * lists + 3 * blocks + deny + 2 * query + line(4 * query) + 3 * numbers + 2 * best + 4 * results
            + visited + line(sizeof(Seen) * seen) + line(8 * seen) + 3 * each)
        cdef char* at = <char*> self._block.data

        cdef c_SearchScratch* c = &self.c
        c.scratch.room = <int32_t> room
        c.scratch.keys = <int32_t*> at
        at += numbers
        c.scratch.places = <int32_t*> at
        at += numbers
        c.scratch.sums = <int32_t*> at
        at += numbers
        c.scratch.best = <uint64_t*> at
        at += best
        c.scratch.spare = <uint64_t*> at
        at += best
        c.scratch.list = <int32_t*> at
        at += lists
        c.scratch.list_key = <int32_t*> at
        at += lists
        c.scratch.order = <int32_t*> at
        at += lists
        c.scratch.base = <float*> at
        at += lists
        c.scratch.block_keys = <int32_t*> at
        at += blocks
        c.scratch.block_places = <int32_t*> at
        at += blocks
        c.scratch.block_order = <int32_t*> at
        at += blocks
        c.scratch.query = <int8_t*> at
        at += query
        c.deny = <uint16_t*> at
        at += deny
        c.rows = <int32_t*> at
        at += results
        c.scores = <float*> at
        at += results
        self.rows = <int32_t*> at
        at += results
        self.scores = <float*> at
        at += results
        self.query = <float*> at
        at += line(4 * query)
        c.walk.codes = <int8_t*> at
        at += query
        c.walk.visited = <uint64_t*> at
        at += visited
        c.walk.seen_max = seen
        c.walk.seen = <Seen*> at
        at += line(sizeof(Seen) * seen)
        c.walk.keys = <uint64_t*> at
        at += line(8 * seen)
        c.walk.rows = <int32_t*> at
        at += each
        c.walk.dots = <float*> at
        at += each
        c.walk.scores = <int32_t*> at
        self.k_max = <int32_t> k
        self.effort_max = effort
        return self

    cdef bint fits(self, const c_Index* index, int64_t k, int64_t effort) noexcept:
        return self.k_max >= k and self.effort_max >= effort and self.c.scratch.room >= room_for(index, k)


cdef int64_t room_for(const c_Index* index, int64_t k) noexcept:
    """Of what a search keeps for k."""
    cdef int64_t most = max(index.count, index.fresh.capacity)
    cdef int64_t keep = min(max(flat_keep(k), <int64_t> (index.partition.keep * k) + 64), most + 64)
    return min(max(pool_room(keep), 2 * k + 1024), <int64_t> 0x7FFFFFFF)


cdef int32_t places(const c_Index* index) noexcept:
    """Blocks of them."""
    if index.kind == Kind.partition:
        return index.partition.block[index.partition.lists]
    return (index.count + block_lanes - 1) // block_lanes
