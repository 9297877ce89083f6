"""The file of an index is refused unless all it says fits together, whoever wrote its checksums."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pairec_fast.core import index_build, index_file
from pairec_fast.core.index import VectorIndex
from pairec_fast.errors import SnapshotError
from tests.indexes import KINDS, clustered, forge, header_of, sections_of


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a small file of each kind, by squared distance: those have all sections."""
    pytest.importorskip("hnswlib")
    directory = tmp_path_factory.mktemp("small")
    vectors = clustered(np.random.default_rng(4), 600)
    for kind in KINDS:
        VectorIndex.build(vectors, directory / kind, kind=kind, metric="l2", k=10, queries=vectors[:20])
    return {kind: (directory / kind).read_bytes() for kind in KINDS}


def refused(path, message, verify=True):
    with pytest.raises(SnapshotError, match=message):
        VectorIndex.load(path, verify)


@pytest.mark.parametrize("kind", KINDS)
def test_every_section_begins_a_line_and_a_file_is_whole_lines(small, kind):
    header = header_of(small[kind])
    assert len(small[kind]) % 64 == 0
    assert all(section.offset % 64 == 0 for section in header.sections.values())
    assert list(header.sections) == list(header.expected())


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_or_grown_is_refused(small, tmp_path, kind):
    whole, bad = small[kind], tmp_path / "bad"
    cuts = {*range(0, 600, 37), *range(0, len(whole), len(whole) // 20), len(whole) - 1}
    for data in [*(whole[:cut] for cut in sorted(cuts)), whole + b"\0", whole + bytes(64)]:
        bad.write_bytes(data)
        for verify in (True, False):
            refused(bad, r"bad.*(bytes|CRC)", verify)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_refused(small, tmp_path, kind):
    whole, bad = small[kind], tmp_path / "bad"
    said = int.from_bytes(whole[12:16], "little") + index_file.PREAMBLE.size
    places = [*range(said), *range(said, len(whole), 1999), said, index_build.ROOM - 1, len(whole) - 1]
    for at in places:
        data = bytearray(whole)
        data[at] ^= 0x10
        bad.write_bytes(data)
        refused(bad, "bad")
        if at < 20 or 24 <= at < index_build.ROOM:
            refused(bad, "bad", verify=False)


def test_foreign_files_other_versions_and_missing_files_are_named(small, tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x93NUMPY" + bytes(1000))
    refused(bad, "bad is not a vector index")
    bad.write_bytes(b"")
    refused(bad, "bad has 0 bytes")
    for version in (1, 9):
        data = bytearray(small["flat"])
        data[8] = version
        bad.write_bytes(data)
        refused(bad, rf"version {version} .* reads version 3")
    for path in (tmp_path / "missing", tmp_path):
        refused(path, str(path))


def test_a_header_that_is_none_is_refused_though_its_checksum_holds(small, tmp_path):
    whole, bad = small["flat"], tmp_path / "bad"
    size = int.from_bytes(whole[12:16], "little")
    text = whole[32 : 32 + size]
    for other in (
        b"", b"{", b"[]", b"null", b"\xff", b"{}", b"9" * size, text[:-1], text.replace(b'"k"', b'"q"'),
        text.replace(b'"dim":16', b'"dim":"16"'), text.replace(b'"dim":16', b'"dim":16.5'),
        text.replace(b'"dim":16', b'"dim":1e999'), text.replace(b'"dim":16', b'"dim":' + b"9" * 40),
        text.replace(b'"scale":', b'"scale":NaN,"x":'), text.replace(b'"scale":', b'"more":1,"scale":'),
        text.replace(b"|u1", b"object"), text.replace(b"<f4", b"<f8"), text.replace(b"|u1", b"nope"),
    ):  # fmt: skip
        bad.write_bytes(resealed(whole, other))
        for verify in (True, False):
            refused(bad, "bad: ", verify)


def resealed(whole, text):
    head = index_file.PREAMBLE.pack(
        index_file.MAGIC,
        index_file.VERSION,
        len(text),
        index_file.crc32c(text),
        int.from_bytes(whole[20:24], "little"),
        0,
    )
    return (head + text).ljust(index_build.ROOM, b"\0") + whole[index_build.ROOM :]


NUMBERS = [
    {"count": 10**9}, {"count": 0}, {"count": -1}, {"count": 599}, {"count": 601}, {"count": 2**31}, {"count": 2**70},
    {"dim": 400}, {"dim": 0}, {"dim": -16}, {"dim": 65_536}, {"dim": 65_537},
    {"effort": 0}, {"effort": 601}, {"effort": 2**40}, {"k": 0}, {"k": 601},
    {"metric": "ip"}, {"metric": "cosine"}, {"metric": "dot"}, {"kind": "auto"},
    {"scale": -1.0}, {"scale": 1e30}, {"error": -1.0}, {"longest": -1.0}, {"longest": 1e30},
    {"growth": -0.1}, {"growth": 1.1}, {"keep": 0.5}, {"keep": 1e9}, {"reach": -1.0}, {"stop": 1e9},
    {"centroid_scale": -1.0},
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_a_header_that_do_not_add_up_are_refused(small, tmp_path, kind):
    bad = tmp_path / "bad"
    changes = [*NUMBERS, *({"kind": other} for other in KINDS if other != kind)]
    for change in changes:
        forge(bad, small[kind], change)
        for verify in (True, False):
            refused(bad, "bad: ", verify)


@pytest.mark.parametrize("kind", KINDS)
def test_sections_of_another_shape_or_elsewhere_are_refused(small, tmp_path, kind):
    bad, header = tmp_path / "bad", header_of(small[kind])
    for name, section in header.sections.items():
        first, *rest = section.shape
        for shape in ([first + 1, *rest], [-first, *rest], [0, *rest], [2**40, *rest], [*section.shape, 1], []):
            forge(bad, small[kind], {"sections": {name: shape}})
            refused(bad, "bad: ", verify=False)
        before = 0 if name == next(iter(header.sections)) else section.offset - 64
        for offset in (-64, 0, 32, section.offset + 1, before, 2**62):
            sections = {**header.sections, name: index_file.Section(section.dtype, section.shape, offset)}
            bad.write_bytes(small[kind])
            index_build._seal(str(bad), msgspec.structs.replace(header, sections=sections))
            refused(bad, "bad", verify=False)
        fewer = {other: one for other, one in header.sections.items() if other != name}
        bad.write_bytes(small[kind])
        index_build._seal(str(bad), msgspec.structs.replace(header, sections=fewer))
        refused(bad, "bad: ", verify=False)


def test_shapes_that_contradict_all_others_the_same_way_are_refused(small, tmp_path):
    """What only sections tell, how many there are, must be in bounds before sizes are computed from it."""
    bad, header = tmp_path / "bad", header_of(small["partition"])
    blocks = header.sections["live"].shape[0]
    for other in (-1, -blocks, 0, 1, 600 // 16, 2**40):
        shapes = {
            name: [size // blocks * other if size in (blocks, 16 * blocks) else size for size in section.shape]
            for name, section in header.sections.items()
        }
        forge(bad, small["partition"], {"sections": shapes})
        refused(bad, "bad: ", verify=False)
    for degree in (-1, 0, 65):
        forge(bad, small["hnsw"], {"sections": {"links": [600, degree]}})
        refused(bad, "bad: degree", verify=False)
    entries = {"entry_rows": [4097], "entry_high": [4097, 32], "entry_square": [4097]}
    forge(bad, small["hnsw"], {"sections": entries})
    refused(bad, "bad: entries", verify=False)


def forged_sections(kind, parts):
    """(section, place, value, message) of numbers that lead beyond the end, or that no search can work with."""
    last = {name: len(part) - 1 for name, part in parts.items()}
    for name, part in parts.items():
        if part.dtype == np.float32:
            for value in (np.nan, np.inf, -np.inf):
                yield name, (last[name],) + (0,) * (part.ndim - 1), value, f"section {name}"
    if "bias" in parts:
        yield "bias", 0, 1.0, "bias"
        yield "bias", 0, -3e38, "bias"
    if kind == "hnsw":
        for place in ((0, 0), (599, 5)):
            for value in (600, -2, 2**31 - 1, -(2**31)):
                yield "links", place, value, f"links leads to {value}"
        for value in (600, -1, 2**31 - 1):
            yield "entry_rows", last["entry_rows"], value, f"entry_rows leads to {value}"
        yield "entry_rows", 0, parts["entry_rows"][1], "entry"
        yield "entry_high", (0, 0), 99, "entry_high"
        for name in ("square", "entry_square"):
            for value in (-1.0, 1e38):
                yield name, 0, value, name
    if kind in ("flat", "hnsw"):
        yield "live", 0, 0, "live"
        yield "live", last["live"], 0xFFFF, "live"
    if kind == "partition":
        full = int(np.argmax(parts["size"]))
        for name in ("scale4", "scale8"):
            for value in (0.0, -1.0):
                yield name, 0, value, name
        for name in ("spread", "square"):
            yield name, 0, -1.0, name
        for value in (-1, 1, 2**31 - 1, -(2**31)):
            yield "block", 0, value, "contradict"
            yield "block", last["block"], value, "contradict"
            yield "size", full, value, "contradict"
        yield "list", 0, 65_535, "contradict"
        yield "list", last["list"], 0, "contradict"
        for value in (-1, len(parts["row"]), 2**31 - 1, parts["place"][1]):
            yield "place", 0, value, "place"
        held, free = parts["place"][0], int(np.flatnonzero(parts["row"] < 0)[0])
        for value in (-1, -2, 600, 1, 2**31 - 1):
            yield "row", held, value, "row"
        yield "row", free, 0, "row"
        yield "live", free // 16, 0xFFFF, "places"
        yield "live", held // 16, 0, "places"


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_lead_beyond_the_end_are_refused_though_the_checksums_hold(small, tmp_path, kind):
    bad, parts = tmp_path / "bad", sections_of(bytearray(small[kind]))
    said = 0
    for section, place, value, message in forged_sections(kind, parts):
        forge(bad, small[kind], None, **{section: (place, value)})
        refused(bad, f"bad: .*{message}")
        VectorIndex.load(bad, verify=False)
        said += 1
    assert said >= 10


def test_sizes_beyond_all_memory_are_refused_before_they_are_added_up(small, tmp_path):
    bad = tmp_path / "bad"
    forge(bad, small["partition"], None, size=(slice(None), 2**31 - 1))
    refused(bad, "bad: .*contradict")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_at_random_is_refused_or_searched_without_harm(small, tmp_path, kind):
    """Any code, centroid or neighbour may be there; what comes of it is some rows, each once, best first."""
    rng, bad = np.random.default_rng(7), tmp_path / "bad"
    opened = 0
    for number in range(60):
        data = bytearray(small[kind])
        parts = sections_of(data)
        name = list(parts)[number % len(parts)]
        part = parts[name].reshape(-1)
        some = rng.integers(0, len(part), 1 + len(part) // 50)
        if part.dtype == np.float32:
            part[some] *= rng.choice([0.0, 1e-30, -1.0, 0.5, 1e20], len(some)).astype(np.float32)
        elif part.dtype.itemsize == 1:
            part[some] = rng.integers(0, 256, len(some)).astype(np.uint8).view(part.dtype)
        else:
            part[some] = rng.integers(-1, 600, len(some))
        del parts, part
        bad.write_bytes(data)
        index_build._seal(str(bad), header_of(data))
        try:
            index = VectorIndex.load(bad)
        except SnapshotError:
            continue
        opened += 1
        for query in rng.standard_normal((5, 16)).astype(np.float32) * np.float32(10.0 ** rng.integers(-18, 19)):
            for k, effort in ((1, 1), (50, 20), (600, 600)):
                rows, _ = index.search(query, k, effort, deny=np.int32([3, 3]))
                assert len(np.unique(rows)) == len(rows) <= k
                assert ((rows >= 0) & (rows < 600) & (rows != 3)).all()
    assert opened > 5


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_at_the_bounds_of_what_is_read_do_no_harm(small, tmp_path, kind):
    """Nonsense may be found, but within bounds, each row once, and as many as there are."""
    bad, rng = tmp_path / "bad", np.random.default_rng(8)
    queries = rng.standard_normal((3, 16)).astype(np.float32)
    queries = np.concatenate([queries, queries * np.float32(1e18), queries * np.float32(1e-30), queries[:1] * 0])
    for change in (
        {"scale": 0.0}, {"scale": 1e-300}, {"scale": 1e18}, {"error": 0.0}, {"error": 1e19}, {"longest": 1e19},
        {"effort": 1}, {"effort": 600}, {"k": 1}, {"k": 600}, {"growth": 0.0}, {"growth": 1.0},
        {"keep": 1.0}, {"keep": 64.0, "k": 1, "growth": 1.0}, {"reach": 0.0}, {"reach": 100.0}, {"stop": 0.0},
        {"stop": 100.0}, {"centroid_scale": 0.0}, {"centroid_scale": 1e18},
    ):  # fmt: skip
        forge(bad, small[kind], change)
        index = VectorIndex.load(bad, spare=20)
        index.append(queries[0])
        allow = index.filter(rng.random(600) < 0.5)
        for query in queries:
            for k in (1, 50, 2**31 - 1):
                for mode in ("budget", "recall"):
                    rows, _ = index.search(query, k, None, None, np.int32([5, 5]), mode)
                    assert len(np.unique(rows)) == len(rows) == min(k, 600)
                    assert ((rows >= 0) & (rows <= 600) & (rows != 5)).all()
                    rows, _ = index.search(query, k, 1, allow, None, mode)
                    assert len(np.unique(rows)) == len(rows) == min(k, len(allow))


def test_squares_longer_than_the_longest_are_refused(small, tmp_path):
    bad = tmp_path / "bad"
    for kind in KINDS:
        forge(bad, small[kind], {"longest": 1e-3})
        refused(bad, "bad: section .*(bias|square) holds a number that is not")
