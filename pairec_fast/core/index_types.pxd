# The C++ of csrc/index.hpp and what it is made of.

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint64_t


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


cdef extern from "blocks.hpp" namespace "pairec" nogil:
    cdef cppclass BlockKernels:
        pass
    BlockKernels block_kernels() except +
    const int32_t block_lanes


cdef extern from "rows.hpp" namespace "pairec" nogil:
    cdef cppclass RowKernels:
        pass
    RowKernels row_kernels() except +


cdef extern from "flat.hpp" namespace "pairec" nogil:
    cdef struct Flat:
        int32_t count
        int32_t width
        int32_t quads
        bint l2
        const float* vectors
        const uint8_t* codes
        const float* bias
        const float* scale
        float error
        float span
        float longest
        BlockKernels blocks
        Scorer scorer
    cdef struct Scratch:
        int32_t room
        int8_t* query
        int32_t* keys
        int32_t* places
        int32_t* sums
        uint64_t* best
        uint64_t* spare
        int32_t* list
        int32_t* list_key
        int32_t* order
        float* base
        int32_t* block_keys
        int32_t* block_places
        int32_t* block_order
    int64_t pool_room(int64_t keep) noexcept
    int64_t flat_keep(int64_t k) noexcept


cdef extern from "partition.hpp" namespace "pairec" nogil:
    const int32_t blocks_ahead
    cdef struct Partition:
        int32_t lists
        int32_t width
        int32_t quads
        int32_t row_bytes
        bint l2
        float keep
        float breadth
        float reach
        float stop
        const float* centroids
        const uint8_t* centroid_codes
        float centroid_scale
        const float* spread
        const float* square
        const int32_t* block
        const int32_t* size
        const uint16_t* list
        const uint8_t* centre_codes
        const int32_t* centre
        const float* centre_scale
        const float* block_spread
        const float* block_square
        const float* scale4
        const float* scale8
        const uint8_t* codes
        const int8_t* rows
        const float* bias
        const int32_t* row
        BlockKernels blocks
        RowKernels kernels
        Scorer scorer


cdef extern from "excerpt.hpp" namespace "pairec" nogil:
    cdef struct Excerpt:
        int32_t count
        int32_t blocks
        const int32_t* size
        const int32_t* first
        const uint8_t* codes
        const uint16_t* lanes
        const int32_t* place
        const float* scale
        const uint16_t* list
        const float* bias
    void extract(const Partition& partition, const int32_t* places, Excerpt& excerpt) noexcept


cdef extern from "hnsw.hpp" namespace "pairec" nogil:
    cdef struct Graph:
        RowKernels kernels
        const int8_t* high
        const int8_t* low
        const int32_t* links
        const int32_t* entry_rows
        const int8_t* entry_high
        const float* square
        const float* entry_square
        float square_max
        float scale
        int32_t count
        int32_t width
        int32_t degree
        int32_t entries
    cdef struct Seen:
        pass
    cdef struct WalkScratch:
        int64_t seen_max
        Seen* seen
        uint64_t* keys
        int32_t* rows
        float* dots
        int32_t* scores
        uint64_t* visited
        int8_t* codes
    int64_t seen_max(const Graph& graph, int64_t expansions) noexcept
    int64_t visited_words(int64_t count) noexcept
    const int32_t entries_max


cdef extern from "index.hpp" namespace "pairec" nogil:
    enum class Kind(int32_t):
        flat
        hnsw
        partition
    enum class Strategy(int32_t):
        none
        scan
        list
        partitions
        walk
        excerpt
    cdef struct Fresh:
        Flat flat
        int32_t first
        int32_t capacity
        uint16_t* live
    ctypedef struct c_Index "pairec::Index":
        Kind kind
        int32_t count
        int32_t dim
        int32_t width
        bint normalise
        Flat flat
        Partition partition
        Graph graph
        const int32_t* place
        const uint16_t* live
        bint is_whole
        Fresh fresh
    ctypedef struct c_Allow "pairec::Allow":
        bint is_all
        const uint16_t* lanes
        const int32_t* listed
        const Excerpt* excerpt
        int32_t count
        const uint16_t* fresh
        const int32_t* deny
        int32_t deny_count
    ctypedef struct c_Work "pairec::Work":
        int64_t effort
        float growth
        bint adaptive
    ctypedef struct c_SearchScratch "pairec::SearchScratch":
        Scratch scratch
        WalkScratch walk
        uint16_t* deny
        int32_t* rows
        float* scores
    int64_t expansions(const c_Index& index, const c_Work& work, const c_Allow& allow) noexcept
    int32_t c_search "pairec::search"(
        const c_Index& index, const float* query, int32_t k, const c_Work& work, const c_Allow& allow,
        c_SearchScratch& scratch, int32_t* rows, float* scores, Strategy* strategy) noexcept
    void c_append "pairec::append"(c_Index& index, const float* vector) noexcept
