"""Vector indexes for tests: made of clusters, opened, compared with the truth, and forged with checksums that hold."""

from __future__ import annotations

import mmap

import msgspec
import numpy as np

from pairec_fast.core import index_build, index_file
from pairec_fast.core.index import VectorIndex
from pairec_fast.core.index_file import Header
from tests import reference

METRICS = index_file.METRICS
KINDS = index_file.KINDS
DIM = 16


def made(path, vectors, spare=0, **options):
    VectorIndex.build(vectors, path, **options)
    return VectorIndex.load(path, spare=spare)


def clustered(rng, count, skew=0.0):
    """Clusters of uneven size around 40 centres; norms log-normal if skewed, as two-tower models make them."""
    centres = rng.standard_normal((40, DIM))
    vectors = centres[np.minimum(rng.zipf(1.3, count), 40) - 1] + 0.5 * rng.standard_normal((count, DIM))
    return (vectors * np.exp(skew * rng.standard_normal((count, 1)))).astype(np.float32)


def truth(vectors, queries, k, metric="ip", allow=None):
    return [reference.nearest(vectors, query, k, metric, allow)[0] for query in queries]


def recalls(found, exact):
    """Of each query, which share of the exact rows was found; 1 if there are none."""
    return np.array([np.isin(b, a).mean() if len(b) else 1.0 for a, b in zip(found, exact, strict=True)])


def recall(index, vectors, queries, k, effort=None, allow=None, **options):
    found = [index.search(query, k, effort, allow, **options)[0] for query in queries]
    exact = truth(vectors, queries, k, index.metric, allow)
    return recalls(found, exact).mean()


def header_of(data) -> Header:
    with mmap.mmap(-1, len(data)) as memory:
        memory.write(bytes(data))
        return index_file.read_header("whole", memory)[0]


def sections_of(data) -> dict[str, np.ndarray]:
    """Section -> a view to write through, of a bytearray."""
    header = header_of(data)
    return {
        name: np.frombuffer(data, section.dtype, int(np.prod(section.shape)), section.offset).reshape(section.shape)
        for name, section in header.sections.items()
    }


def forge(path, whole, header=None, **sections):
    """Write a file like `whole`, with other numbers in its header or its sections and checksums that hold.

    Args:
        header: names -> values; `sections` -> {name: shape}.
        sections: name -> (place, value).
    """
    data = bytearray(whole)
    said = header_of(data)
    views = sections_of(data)
    for name, (place, value) in sections.items():
        views[name][place] = value
    changes = dict(header or {})
    if "sections" in changes:
        shapes = changes["sections"]
        changes["sections"] = {
            name: msgspec.structs.replace(one, shape=shapes.get(name, one.shape)) for name, one in said.sections.items()
        }
    del views
    path.write_bytes(data)
    index_build._seal(str(path), msgspec.structs.replace(said, **changes))
