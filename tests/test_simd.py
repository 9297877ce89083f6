"""PAIREC_ISA forces a level of SIMD and is refused where it cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pairec_fast.core.simd import isas

CSRC = Path(__file__).resolve().parent.parent / "csrc"
LEVELS = ["baseline", "avx2", "avx512bw", "avx512vbmi"]


def isa_under(value: str | None) -> subprocess.CompletedProcess[str]:
    """Ask a fresh process: the level is read from the environment of the process."""
    environment = {name: text for name, text in os.environ.items() if name != "PAIREC_ISA"}
    if value is not None:
        environment["PAIREC_ISA"] = value
    code = "from pairec_fast.core.simd import isa; print(isa())"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_levels_are_known_and_weakest_first():
    assert isas() == LEVELS[: len(isas())]
    assert isas()[0] == "baseline"


@pytest.mark.parametrize("value", [None, ""])
def test_the_best_level_is_used_unless_told(value):
    assert isa_under(value).stdout.strip() == isas()[-1]


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_forced_or_refused_where_the_machine_lacks_it(level):
    done = isa_under(level)
    if level in isas():
        assert done.stdout.strip() == level
    else:
        assert done.returncode == 1
        assert f"ValueError: PAIREC_ISA={level}: this machine has {isas()[-1]} at best" in done.stderr


@pytest.mark.parametrize("value", ["avx", "AVX2", "avx512", " avx2", "native"])
def test_an_unknown_level_is_refused_with_those_that_are_known(value):
    done = isa_under(value)
    assert done.returncode == 1
    assert f"ValueError: PAIREC_ISA={value}: unknown; use {', '.join(LEVELS[:3])} or {LEVELS[3]}" in done.stderr


PROGRAM = """
#include <cstdio>
// A machine that has AVX2 and no more, whatever this one is.
#define __builtin_cpu_init() ((void)0)
#define __builtin_cpu_supports(name) (name[0] != 'a' || name[3] == '2')
#include "simd.hpp"

int main() {
  try {
    std::puts(pairec::isa_names[static_cast<int>(pairec::isa_active())]);
  } catch (const std::invalid_argument& error) {
    std::puts(error.what());
  }
}
"""


def test_a_level_too_high_is_refused_and_lower_ones_are_not(tmp_path):
    """On a pretended machine with AVX2 at best, so that the refusal is tried on every machine."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    (tmp_path / "program.cpp").write_text(PROGRAM)
    program = tmp_path / "program"
    subprocess.run([compiler, "-std=c++20", f"-I{CSRC}", tmp_path / "program.cpp", "-o", program], check=True)

    def active(level):
        environment = {**os.environ, "PAIREC_ISA": level}
        return subprocess.run([program], env=environment, capture_output=True, text=True, check=True).stdout.strip()

    if active("") == "baseline":
        pytest.skip("not an x86-64 machine")
    assert [active(level) for level in ("", "baseline", "avx2")] == ["avx2", "baseline", "avx2"]
    for level in ("avx512bw", "avx512vbmi"):
        assert active(level) == f"PAIREC_ISA={level}: this machine has avx2 at best"
