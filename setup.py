"""The build is a table: compiled module -> the C++ it is made of.

`PAIREC_SANITIZE=address,undefined` or `PAIREC_SANITIZE=thread` in the environment builds the sanitizer flavour.
"""

import os

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

FOREST = ["forest_ranks", "forest_bin", "forest_columns", "forest_walk", "forest_label", "forest_score"]
LOG = ["ring", "segment", "segment_directory", "recover", "thread", "file"]
CORE = {
    "simd": [],
    "cache": [],
    "checksum": [],
    "bucket": [],
    "mapping": [],
    "overlay": [],
    "arena": [],
    "idmap": ["idmap"],
    "entries": ["entries", "idmap"],
    "index_scratch": [],
    "index_filter": ["excerpt"],
    "index": ["index", "flat", "hnsw", "partition", "blocks", "pool", "quantise", "rows", "best", "distance"],
    "recall": ["recall"],
    "filter": ["filter"],
    "join": ["join"],
    "meter": [],
    "pick": ["pick", "priority", "snake", "groups"],
    "features": ["features", "recall"],
    "forest": ["forest_text", "forest_objective", "forest_compile", "forest_explain", *FOREST],
    "forest_request": ["forest_request", "fold", *FOREST],
    "expression": ["expression"],
    "elementary": ["elementary"],
    "hash": ["hash"],
    "geo": ["geo"],
    "rerank": ["rerank", "diversity", "mix"],
    "turned": ["vectors"],
    "dpp": ["dpp", "vectors"],
    "ssd": ["ssd", "vectors"],
    "aggregate": ["aggregate"],
    "protobuf": ["protobuf"],
    "columns": ["text_columns"],
    "callback": ["callback", "go_json"],
    "shown": ["shown", "idmap"],
    "expand": ["expand", "go_json"],
    "repair": ["repair", *LOG],
    "ring": [*LOG, "flush", "retain"],
    "segment": ["segment", "segment_directory", "ring", "file"],
    "kafka": [*LOG, "kafka", "deliver", "deliver_rows", "backlog", "series", "expand", "go_json"],
}

# No contraction into fused multiply-adds: every level of SIMD must give the same bits. Never -march=native: the wheel
# runs on any x86-64 and picks its kernels at run time (csrc/simd.hpp).
COMPILE = ["-std=c++20", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
COMPILE += ["-Wall", "-Wextra", "-Wno-psabi", "-Wno-unused-parameter"]
LINK = ["-pthread"]

sanitize = os.environ.get("PAIREC_SANITIZE")
if sanitize:
    flags = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g", "-O1"]
    COMPILE += flags
    LINK += flags

extensions = [
    Extension(
        f"pairec_fast.core.{module}",
        [f"pairec_fast/core/{module}.pyx", *(f"csrc/{name}.cpp" for name in sources)],
        include_dirs=["csrc", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
        language="c++",
    )
    for module, sources in CORE.items()
    if os.path.exists(f"pairec_fast/core/{module}.pyx")
]

cores = os.cpu_count() or 1
setup(
    options={"build_ext": {"parallel": cores}},
    ext_modules=cythonize(
        extensions,
        nthreads=cores,
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
    ),
)
