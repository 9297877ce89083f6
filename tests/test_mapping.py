"""A file in memory, without a descriptor held open."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from pairec_fast.core import MappedFile


def test_a_mapping_is_the_bytes_of_its_file_and_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 5000)
    data = memoryview(MappedFile(tmp_path / "file"))
    assert data.readonly and data.tobytes() == b"abc" * 5000
    with pytest.raises(TypeError):
        data[0] = 1


def test_no_descriptor_stays_open_and_arrays_outlive_the_name_of_the_file(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    arrays = []
    for number in range(300):
        path = tmp_path / str(number)
        np.full(100, number, np.int32).tofile(path)
        arrays.append(np.frombuffer(MappedFile(path), np.int32))
        path.unlink()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    assert [int(array[99]) for array in arrays] == list(range(300))


def test_an_empty_file_is_empty_and_a_missing_one_is_named(tmp_path):
    (tmp_path / "empty").touch()
    assert memoryview(MappedFile(tmp_path / "empty")).nbytes == 0
    with pytest.raises(FileNotFoundError, match="missing"):
        MappedFile(tmp_path / "missing")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3 * 4096, 3 * 4096 + 64, 2 << 20, (5 << 20) + 77])
@pytest.mark.parametrize("spare", [1, 4096, 100_000])
def test_spare_bytes_follow_those_of_the_file_and_leave_it_as_it_is(tmp_path, size, spare):
    content = bytes(range(1, 256)) * (size // 255 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    mapped = MappedFile(tmp_path / "file", spare)
    data, tail = memoryview(mapped), mapped.tail
    assert data.readonly and data[:size] == content[:size] and not any(data[size:]) and len(tail) == spare
    tail[:] = b"x" * spare
    assert data[size:] == b"x" * spare and (tmp_path / "file").read_bytes() == content[:size]
    assert memoryview(MappedFile(tmp_path / "file", spare))[size:] == bytes(spare), "another process's stay its own"
    del data, mapped
    gc.collect()
    assert tail[0] == ord("x"), "the tail keeps the mapping"


@pytest.mark.parametrize("size", [2 << 20, (5 << 20) + 77])
@pytest.mark.parametrize("spare", [1, 3 << 20])
def test_a_large_file_with_spare_bytes_lies_where_its_pages_can_be_large(tmp_path, size, spare):
    """The system gives a plain mapping such an address; one laid over a reservation must be put there."""
    content = np.arange(size, dtype=np.uint8).tobytes()
    (tmp_path / "file").write_bytes(content)

    def mappings() -> int:
        with open("/proc/self/maps") as lines:
            return sum(1 for _ in lines)

    before = mappings()
    for _ in range(20):
        mapped = MappedFile(tmp_path / "file", spare)
        assert np.frombuffer(mapped, np.uint8).ctypes.data % (2 << 20) == 0
        assert memoryview(mapped)[:size] == content and memoryview(mapped)[-1] == 0
    del mapped
    gc.collect()
    assert mappings() < before + 10, "what was reserved for that is given back"
