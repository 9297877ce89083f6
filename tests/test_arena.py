"""The arena: columns NumPy and C++ see alike, sized once."""

from __future__ import annotations

import gc
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pairec_fast.core.arena import Arena
from pairec_fast.core.recall import add

CSRC = Path(__file__).resolve().parent.parent / "csrc"

COLUMNS = {
    "row": (np.int32, (5,)),
    "source": (np.uint8, (5,)),
    "place": (np.int32, (5,)),
    "recall_score": (np.float64, (5,)),
    "keep": (np.uint8, (5,)),
    "features": (np.float32, (5, 3)),
    "algo_score": (np.float64, (2, 5)),
    "score": (np.float64, (5,)),
    "order": (np.int32, (5,)),
}


def rows(*numbers):
    return np.array(numbers, np.int32)


def zeros(count):
    return np.zeros(count, np.float32)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_has_its_dtype_and_shape_and_starts_on_a_cache_line(name):
    column = getattr(Arena(5, items_max=7, width=3, algos=2), name)
    assert (column.dtype, column.shape) == COLUMNS[name]
    assert column.ctypes.data % 64 == 0
    assert (column.T if name == "features" else column).flags.c_contiguous and column.flags.writeable
    assert not column.any(), "an arena starts zeroed"


@pytest.mark.parametrize("size", [1, 15, 16, 17, 64, 1000])
def test_columns_do_not_overlap(size):
    arena = Arena(size, items_max=size, width=3, algos=2)
    columns = [getattr(arena, name) for name in COLUMNS]
    for number, column in enumerate(columns, 1):
        column[...] = number
    for number, column in enumerate(columns, 1):
        assert (column == number).all()
    # The stamps were not written over either: every row is still new.
    assert add(arena, np.arange(size, dtype=np.int32), zeros(size), 0) == size


def test_what_a_kernel_writes_a_view_taken_before_shows():
    arena = Arena(4, items_max=10)
    row = arena.row
    add(arena, rows(7, 3), zeros(2), 0)
    assert row[: arena.count].tolist() == [7, 3]


def test_bytes_is_the_sum_of_the_columns_on_cache_lines():
    # 10 columns of one slot and 6 of one item (or slot), each padded to one line of 64 bytes.
    assert Arena(1).bytes == 16 * 64
    assert Arena(16, items_max=16).bytes == 16 * 64 + 5 * 64, (
        "doubles of 16: recall_score, algo_score, score, sum, scratch"
    )


@pytest.mark.parametrize("name", ["candidates_max", "items_max", "width", "algos"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_that_is_not_positive_is_refused_by_name(name, value):
    sizes = {"candidates_max": 1, "items_max": 1, "width": 1, "algos": 1, name: value}
    with pytest.raises(ValueError, match=f"{name} must be positive, got {value}"):
        Arena(sizes.pop("candidates_max"), **sizes)


@pytest.mark.parametrize("slots", [2**30 + 1, 2**31 - 1])
def test_a_size_beyond_the_address_space_is_a_memory_error_not_a_small_arena(slots):
    """8 * slots * algos passes 2**64: in size_t it would wrap around to a block far too small."""
    with pytest.raises(MemoryError):
        Arena(slots, width=2**31 - 1, algos=2**31 - 1)


def test_a_size_beyond_int32_is_refused():
    with pytest.raises(OverflowError):
        Arena(2**31)


def test_count_stays_within_the_arena():
    arena = Arena(3)
    for count in (0, 3):
        arena.count = count
        assert arena.count == count
    for count in (-1, 4):
        with pytest.raises(ValueError, match=r"count must be 0 to candidates_max \(3\)"):
            arena.count = count
    assert arena.count == 3


def test_a_capacity_cannot_be_changed():
    arena = Arena(3, items_max=5, width=2, algos=1)
    assert (arena.candidates_max, arena.items_max, arena.width, arena.algos) == (3, 5, 2, 1)
    for name in ("candidates_max", "items_max", "width", "algos", "order_count", "row", "features"):
        with pytest.raises(AttributeError):
            setattr(arena, name, 1)


def test_reset_forgets_the_candidates_and_that_they_were_seen():
    arena = Arena(4, items_max=4)
    for _ in range(1000):
        assert add(arena, rows(1, 2), zeros(2), 0) == 2
        assert add(arena, rows(1, 2), zeros(2), 0) == 0
        arena.reset()
        assert (arena.count, arena.order_count) == (0, 0)


def test_candidates_are_counted_by_source():
    arena = Arena(5, items_max=9)
    add(arena, np.array([1, 2, 3], np.int32), np.zeros(3), 2)
    add(arena, np.array([4], np.int32), np.zeros(1), 255)
    assert arena.count_sources(0) == [] and arena.count_sources(4) == [0, 0, 3, 0]
    assert arena.count_sources(256)[255] == 1
    with pytest.raises(ValueError, match="sources must be 0 to 256, got 257"):
        arena.count_sources(257)


def test_scores_begin_as_those_of_recall_and_once():
    arena = Arena(5, items_max=9, algos=2)
    arena.algo_score[:], arena.score[:] = 7.0, 7.0
    add(arena, np.array([1, 2, 3], np.int32), np.array([0.5, 0.25, 0.125]), 0)
    arena.begin_scores()
    assert arena.scored and arena.score.tolist() == [0.5, 0.25, 0.125, 7.0, 7.0]
    assert arena.algo_score.tolist() == [[0.0, 0.0, 0.0, 7.0, 7.0]] * 2
    arena.score[:3] = arena.algo_score[:, :3] = 1.0
    arena.begin_scores()
    assert arena.score[:3].tolist() == [1.0] * 3 and arena.algo_score[1, :3].tolist() == [1.0] * 3
    arena.reset()
    arena.begin_scores()
    assert arena.score[:3].tolist() == [1.0] * 3, "without candidates nothing is written"


def test_views_outlive_their_arena():
    """A reply may hold a slice longer than the thread that owned the arena lives."""
    arena = Arena(100_000, items_max=100_000, width=4)
    features, order = arena.features, arena.order
    features[...], order[...] = 1.5, 7
    del arena
    gc.collect()
    others = [Arena(100_000, items_max=100_000, width=4) for _ in range(8)]  # would be given the freed memory
    for other in others:
        other.features[...] = 0
    assert (features == 1.5).all() and (order == 7).all()


def test_arenas_share_nothing():
    one, other = Arena(2, items_max=3), Arena(2, items_max=3)
    add(one, rows(2), zeros(1), 0)
    assert other.count == 0 and add(other, rows(2), zeros(1), 0) == 1


PROGRAM = """
#include "arena.hpp"
#include <initializer_list>
#include <cstdio>

int main() {
  std::uint32_t stamp[3] = {0xFFFFFFFFu, 1u, 5u};
  pairec::Stamps stamps{stamp, 0xFFFFFFFFu, 3};
  bool right = stamps.contains(0) && !stamps.contains(1);
  stamps.clear();  // the counter wraps; a stamp of 1 from four billion requests ago must not come alive
  right = right && stamps.now == 1 && !stamps.contains(0) && !stamps.contains(1) && !stamps.contains(2);
  right = right && stamps.insert(1) && !stamps.insert(1) && stamps.contains(1);

  const std::int32_t edge = 0x7FFFFFFF, rows[] = {0, 4, 2, -1, 5, edge, -edge - 1};
  right = right && pairec::rows_within(rows, 3, 5) && !pairec::rows_within(rows, 3, 4);
  for (int i = 3; i < 7; ++i) right = right && !pairec::rows_within(rows + i, 1, 5);
  right = right && !pairec::rows_within(rows + 5, 1, edge) && pairec::rows_within(rows + 4, 1, edge);
  for (std::int32_t end : {0, -1, -edge - 1})
    right = right && pairec::rows_within(rows, 0, end) && !pairec::rows_within(rows, 1, end) &&
            !pairec::rows_within(rows + 3, 1, end) && !pairec::rows_within(rows + 5, 1, end);
  std::puts(right ? "right" : "wrong");
}
"""


def test_stamps_survive_the_wrap_of_their_generation_and_rows_are_told_apart_at_the_edges_of_int32(tmp_path):
    """Out of reach from Python: the wrap takes four billion resets."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    (tmp_path / "program.cpp").write_text(PROGRAM)
    program = tmp_path / "program"
    subprocess.run([compiler, "-std=c++20", "-O2", f"-I{CSRC}", tmp_path / "program.cpp", "-o", program], check=True)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "right\n"
