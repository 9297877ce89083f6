from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from pairec_fast.core.arena cimport Block, Stamps


cdef extern from "distance.hpp" namespace "pairec" nogil:
    enum class Metric(int32_t):
        ip
        cosine
        l2
    cdef cppclass Scorer:
        pass
    Scorer scorer(Metric metric) except +
    void c_prepare "pairec::prepare"(
        const float* vector, int32_t dim, int32_t width, bint normalise, float* padded) noexcept


cdef extern from "flat.hpp" namespace "pairec" nogil:
    cdef struct Vectors:
        const float* data
        int32_t count
        int32_t width
        Scorer scorer
    ctypedef struct c_Scratch "pairec::Scratch":
        int32_t pool_max
        Stamps visited
        uint64_t* pool
        uint64_t* frontier
        int32_t* rows
        float* scores
    int64_t best_capacity(int64_t size) noexcept
    const int32_t block_rows


cdef extern from "hnsw.hpp" namespace "pairec" nogil:
    cdef struct Graph:
        Vectors vectors
        const int32_t* links
        int32_t degree
        int32_t upper_degree
        int32_t levels
        int32_t entry
        const int32_t** upper
    int64_t c_effort_max "pairec::effort_max"(const Graph& graph) noexcept
    int32_t c_search "pairec::search"(
        const Graph& graph, const float* query, int32_t k, int64_t effort, const uint8_t* allow, int32_t allowed,
        c_Scratch& scratch, int32_t* rows, float* scores) noexcept


cdef class SearchScratch:
    cdef c_Scratch c
    cdef Block _block
    cdef float* query      # [dim_max, rounded up to 16] for a prepared query
    cdef int32_t* rows     # [pool_max] for results
    cdef float* scores     # [pool_max]
    cdef readonly int32_t count_max, pool_max, dim_max


cdef class VectorIndex:
    cdef Graph graph
    cdef bint normalise
    cdef object _map, _header, _free
    cdef readonly str path
    cdef readonly int32_t count, dim, width
    cdef readonly int64_t effort
    cdef SearchScratch _take(self, int32_t pool_max)
    # From this effort on every search is a scan.
    cdef int64_t effort_max(self) noexcept nogil
    # The query as search_into wants it: `query` [dim] -> `padded` [width]. Finite, and not zero under cosine, is the
    # caller's to check.
    cdef void prepare(self, const float* query, float* padded) noexcept nogil
    # The nearest rows to a prepared query [width], best first; how many: min(k, allowed). `rows`, `scores` [k].
    # k > 0, effort > 0 (index.effort for the tuned one). `allow` [count] or NULL; `allowed` how many it allows. The
    # scratch must have count_max >= count, and pool_max >= k, to which k is cut; with pool_max below
    # min(effort, effort_max()) recall suffers. Allocates nothing.
    cdef int32_t search_into(
        self, const float* query, int32_t k, int64_t effort, const uint8_t* allow, int32_t allowed,
        SearchScratch scratch, int32_t* rows, float* scores) noexcept nogil
