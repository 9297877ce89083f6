"""A file in memory, without a descriptor held open: a snapshot has hundreds of files, a process about a thousand."""

from cpython.buffer cimport PyBuffer_FillInfo

import errno
import os
import stat

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int descriptor, long offset)
    int munmap(void* address, size_t length)
    int PROT_READ, MAP_SHARED
    void* MAP_FAILED


cdef class MappedFile:
    """The bytes of a file, read-only; a buffer. Unmapped when nothing refers to it any more.

    Cutting a mapped file short kills its readers: replace files by renaming.

    Raises:
        OSError: the file cannot be opened or mapped.
    """

    cdef void* data
    cdef readonly Py_ssize_t size

    def __cinit__(self, path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):  # it opens, and has a size
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(path))
            self.size = status.st_size
            if self.size > 0:  # nothing cannot be mapped, and needs no pages
                self.data = mmap(NULL, self.size, PROT_READ, MAP_SHARED, descriptor, 0)
                if self.data == MAP_FAILED:
                    self.data = NULL
                    raise OSError(f"{path}: {self.size} bytes cannot be mapped")
        finally:
            os.close(descriptor)

    def __dealloc__(self):
        if self.data != NULL:
            munmap(self.data, self.size)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data if self.data != NULL else <void*> b"", self.size, 1, flags)
