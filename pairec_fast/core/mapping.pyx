"""A file in memory, without a descriptor held open: a snapshot has hundreds of files, a process about a thousand."""

from cpython.buffer cimport PyBuffer_FillInfo

import errno
import os
import stat

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int descriptor, long offset)
    int munmap(void* address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MAP_FIXED
    void* MAP_FAILED

cdef extern from "large_pages.hpp" namespace "pairec" nogil:
    size_t large_page
    void use_large_pages(void* data, size_t size)

cdef extern from "<unistd.h>" nogil:
    long sysconf(int name)
    int _SC_PAGESIZE


cdef class MappedFile:
    """The bytes of a file, read-only; a buffer. Unmapped when nothing refers to it any more.

    Cutting a mapped file short kills its readers: replace files by renaming.

    Args:
        spare: bytes of zeros that follow those of the file, in the same buffer; `tail` writes them. Whole pages of the
            file stay shared and read-only; its last, partial page is private, and memory is taken when it is written.

    Raises:
        OSError: the file cannot be opened or mapped.
    """

    cdef char* data
    cdef readonly Py_ssize_t size, spare  # of the file, behind it
    cdef void* reserved  # what is to be unmapped, and its bytes; `data` lies in it
    cdef size_t mapped

    def __cinit__(self, path, Py_ssize_t spare=0):
        if spare < 0:
            raise ValueError(f"spare must not be negative, got {spare}")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):  # it opens, and has a size
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(path))
            self.size = status.st_size
            self.spare = spare
            if self.size + spare > 0 and not self._map(descriptor):  # nothing cannot be mapped, and needs no pages
                raise OSError(f"{path}: {self.size + spare} bytes cannot be mapped")
        finally:
            os.close(descriptor)

    cdef bint _map(self, int descriptor) noexcept:
        cdef size_t size = self.size, page = sysconf(_SC_PAGESIZE)
        cdef size_t shared = size - size % page  # whole pages
        cdef size_t slack = 0
        cdef int writable = PROT_READ | PROT_WRITE
        cdef void* data
        if self.spare == 0:  # the system chooses an address that suits the file
            data = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0)
        else:  # reserve all, then lay the file over the beginning
            slack = large_page if size >= large_page else 0
            data = mmap(NULL, size + self.spare + slack, writable, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if data == MAP_FAILED:
            return False
        self.reserved, self.mapped = data, size + self.spare + slack
        self.data = <char*> data
        if slack:  # a page of the file is large in memory only at an address of that kind
            self.data = <char*> ((<size_t> data + slack - 1) // slack * slack)
        if self.spare and shared and mmap(
                self.data, shared, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, 0) == MAP_FAILED:
            return False
        use_large_pages(self.data, size if self.spare == 0 else shared)
        return self.spare == 0 or size == shared or mmap(
            self.data + shared, size - shared, writable, MAP_PRIVATE | MAP_FIXED, descriptor, shared) != MAP_FAILED

    def __dealloc__(self):
        if self.reserved != NULL:
            munmap(self.reserved, self.mapped)

    def __len__(self):
        return self.size + self.spare

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef void* data = self.data if self.data != NULL else <char*> b""
        PyBuffer_FillInfo(buffer, self, data, self.size + self.spare, 1, flags)

    @property
    def tail(self) -> memoryview:
        """The spare bytes, writable."""
        return memoryview(Tail(self))


cdef class Tail:
    """What follows a file in its mapping."""

    cdef MappedFile file

    def __cinit__(self, MappedFile file not None):
        self.file = file

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef void* data = self.file.data + self.file.size if self.file.data != NULL else <char*> b""
        PyBuffer_FillInfo(buffer, self, data, self.file.spare, 0, flags)
