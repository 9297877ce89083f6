"""The functions of expressions: values known elsewhere, and the same over columns as for one value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pairec_fast.core import elementary, geo
from pairec_fast.core.hash import murmur3, xxh64
from pairec_fast.expression import Failure, expr, govaluate
from pairec_fast.expression.functions import FUNCTIONS, functions
from pairec_fast.expression.regex import search


def call(name, *arguments):
    return FUNCTIONS[name].operation.function(*arguments)


# --- hashes ---


def test_xxh64_gives_the_published_values():
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    assert xxh64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1
    assert xxh64(b"movie") == 6454754232697774446


def test_murmur3_gives_the_published_values():
    assert murmur3(b"") == 0
    assert murmur3(b"hello") == 0x248BFA47
    assert murmur3(b"hello, world") == 0x149BBB7F
    assert murmur3(b"The quick brown fox jumps over the lazy dog.") == 0xD5C48BFC
    assert murmur3(b"hello world") % 100 == 83


def rotl(x, r, bits):
    return (x << r | x >> (bits - r)) % 2**bits


def slow_xxh64(data):
    """The specification, in Python's whole numbers."""
    p1, p2, p3, p4, p5 = (
        11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579, 2870177450012600261
    )  # fmt: skip
    m = 2**64

    def rounded(accumulator, lane):
        return rotl((accumulator + lane * p2) % m, 31, 64) * p1 % m

    def words(part, size):
        return int.from_bytes(part[:size], "little")

    rest = data
    if len(data) >= 32:
        accumulators = [(p1 + p2) % m, p2, 0, -p1 % m]
        while len(rest) >= 32:
            accumulators = [rounded(a, words(rest[8 * k :], 8)) for k, a in enumerate(accumulators)]
            rest = rest[32:]
        total = sum(rotl(a, r, 64) for a, r in zip(accumulators, (1, 7, 12, 18), strict=True)) % m
        for a in accumulators:
            total = ((total ^ rounded(0, a)) * p1 + p4) % m
    else:
        total = p5
    total = (total + len(data)) % m
    while len(rest) >= 8:
        total, rest = (rotl(total ^ rounded(0, words(rest, 8)), 27, 64) * p1 + p4) % m, rest[8:]
    if len(rest) >= 4:
        total, rest = (rotl(total ^ words(rest, 4) * p1 % m, 23, 64) * p2 + p3) % m, rest[4:]
    for byte in rest:
        total = rotl(total ^ byte * p5 % m, 11, 64) * p1 % m
    total = (total ^ total >> 33) * p2 % m
    total = (total ^ total >> 29) * p3 % m
    return total ^ total >> 32


def slow_murmur3(data):
    m, total = 2**32, 0

    def mixed(word):
        return rotl(word * 0xCC9E2D51 % m, 15, 32) * 0x1B873593 % m

    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        total = (rotl(total ^ mixed(int.from_bytes(data[at : at + 4], "little")), 13, 32) * 5 + 0xE6546B64) % m
    if data[whole:]:
        total ^= mixed(int.from_bytes(data[whole:], "little"))
    total ^= len(data)
    total = (total ^ total >> 16) * 0x85EBCA6B % m
    total = (total ^ total >> 13) * 0xC2B2AE35 % m
    return total ^ total >> 16


def test_hashes_agree_with_the_slow_twins_at_every_length_to_100():
    rng = np.random.default_rng(0)
    for size in range(101):
        data = rng.bytes(size)
        assert xxh64(data) == slow_xxh64(data), size
        assert murmur3(data) == slow_murmur3(data), size


# --- places ---


def test_check_values_of_places():
    assert call("geoHash", 39.9042, 116.4074) == "wx4g0b"
    assert call("geoHash", 39.9042, 116.4074, 12) == "wx4g0bm6c408"
    assert call("geoHash", 57.64911, 10.40744, 11) == "u4pruydqqvj"  # the example of geohash's own description
    assert call("s2CellID", 39.9042, 116.4074) == 3886697436164390912
    assert int(call("haversine", 116.4074, 39.9042, 121.4737, 31.2304)) == 1067
    assert int(call("sphereDistance", 116.4074, 39.9042, 121.4737, 31.2304)) == 1067


def test_the_six_faces_of_the_cube():
    """The centres of S2's faces: cell ids of level 0 are the face, a one, and zeros."""
    for face, (lat, lng) in enumerate([(0, 0), (0, 90), (90, 0), (0, 180), (0, -90), (-90, 0)]):
        assert call("s2CellID", lat, lng, 0) % 2**64 == (2 * face + 1) << 60


@pytest.mark.parametrize("level", [1, 5, 15, 29, 30])
def test_cells_contain_the_places_that_gave_them_and_nest(level):
    rng = np.random.default_rng(level)
    lat, lng = np.degrees(np.arcsin(rng.uniform(-1, 1, 300))), rng.uniform(-180, 180, 300)
    fine, coarse = geo.cells(lat, lng, level).view(np.uint64), geo.cells(lat, lng, level - 1).view(np.uint64)
    last = np.uint64(1 << 2 * (30 - level + 1))
    np.testing.assert_array_equal(fine & ~(last - np.uint64(1)) | last, coarse)


def test_neighbours_of_a_cell_are_eight_and_mutual():
    rng = np.random.default_rng(1)
    for _ in range(300):
        lat, lng, level = math.degrees(math.asin(rng.uniform(-1, 1))), rng.uniform(-180, 180), int(rng.integers(2, 31))
        *around, own = call("s2CellNeighbors", lat, lng, level)
        assert own == call("s2CellID", lat, lng, level)
        assert len(around) == 8 and own not in around
        assert all(own in geo.neighbors(cell) for cell in around)


def test_neighbours_of_a_small_cell_are_where_a_step_leads():
    """Away from the edges of a face, the cells are those of places one cell's width further."""
    *around, _ = call("s2CellNeighbors", 10.0, 20.0, 20)
    step = 0.00009  # degrees: a cell of level 20 is about ten metres wide
    places = {call("s2CellID", 10.0 + i * step, 20.0 + j * step, 20) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert len(set(around) & places) >= 5


def test_geohash_neighbours_go_round_from_the_north():
    around = call("geoHashWithNeighbors", 39.9042, 116.4074)
    assert around == ["wx4g0c", "wx4g11", "wx4g10", "wx4fcp", "wx4fbz", "wx4fbx", "wx4g08", "wx4g09", "wx4g0b"]
    assert call("geoHashWithNeighbors", 0.0, 179.99, 3)[2] == "800"  # east of the last meridian comes the first


def test_places_that_are_none_fail():
    for name in ("s2CellID", "geoHash", "s2CellNeighbors", "geoHashWithNeighbors"):
        for arguments in ((math.nan, 0), (0, math.inf), (0, 0, 31), (0, 0, -1)):
            with pytest.raises(Failure):
                call(name, *arguments)
    for wrong in (
        lambda: geo.cells(np.zeros(2), np.zeros(1), 3),
        lambda: geo.cells(np.zeros(1), np.zeros(1), 31),
        lambda: geo.geohashes(np.zeros(1), np.zeros(1), 13),
        lambda: geo.geohash_neighbors(0, 0),
    ):
        with pytest.raises(ValueError):
            wrong()


# --- numbers and texts ---


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("round", (2.5,), 3.0),
        ("round", (-2.5,), -3.0),
        ("round", (0.49999999999999994,), 0.0),
        ("round", (2.567, 2), 2.56),
        ("round", (-2.567, 1), -2.5),
        ("round", ("x",), 0.0),
        ("max", (1, "2"), 2.0),
        ("max", (math.nan, 1), math.nan),
        ("max", (math.nan, math.inf), math.inf),
        ("min", (-0.0, 0.0), -0.0),
        ("pow", (2, 0.5), math.sqrt(2)),
        ("pow", (0, -1), math.inf),
        ("pow", (-8, 1 / 3), math.nan),
        ("pow", (-10, 401), -math.inf),
        ("log", (0,), -math.inf),
        ("log", (-1,), math.nan),
        ("log2", (8,), 3.0),
        ("log10", (1000,), math.log10(1000)),
        ("toFloat64", ("1_0.5",), 10.5),
        ("toFloat64", (True,), 0.0),
        ("trim", ("--a-b--", "-"), "a-b"),
        ("trimPrefix", ("aab", "a"), "ab"),
        ("replace", ("a_b_c", "_", "#"), "a#b#c"),
        ("replace", (12, 1, 3), "32"),
        ("getString", ("", 5), 5),
        ("getString", ("",), ""),
        ("getString", (None, 5), None),
        ("getString", (0, 5), 0),
        ("hash32", ("",), 0.0),
        ("maxIndex", ([1, 3, 3, "4"],), 3),
        ("maxIndex", ([2, "x"],), 0),
        ("maxIndex", ([math.nan, 5],), 0),
        ("maxValue", ([1, 3.5, 2],), 3.5),
    ],
)
def test_values(name, arguments, expected):
    got = call(name, *arguments)
    assert type(got) is type(expected)
    assert got == expected or (got != got and expected != expected)
    if got == 0.0:
        assert math.copysign(1, got) == math.copysign(1, expected)


def test_a_list_of_texts_and_an_empty_list_have_no_maximum():
    for value in ([], ["1", "2"], "12", None, 5):
        for name in ("maxIndex", "maxValue"):
            with pytest.raises(Failure):
                call(name, value)


def test_hash_is_unsigned_and_of_the_text():
    assert call("hash", "movie") == 6454754232697774446
    assert call("hash", 12) == call("hash", "12") == call("hash", 12.0)
    assert call("hash", None) == xxh64(b"")
    assert type(govaluate("hash('movie')").value({})) is int, "who encodes it knows no kinds of whole numbers"
    codes, vocabulary = govaluate("hash(t)").column({"t": (np.zeros(1, np.int32), ["movie"])}, 1)
    assert type(vocabulary[codes[0]]) is int and vocabulary[codes[0]] == 6454754232697774446
    big = next(value for k in range(100) if (value := call("hash", f"{k}")) >= 2**63)
    assert big < 2**64


def test_the_clock_of_timestamp_can_be_set():
    known = functions(lambda: 1234.5678)
    assert known["timestamp"].operation.function() == 1234.0
    for unit in ("ms", "MilliSeconds"):
        assert known["timestamp"].operation.function(unit) == 1234567.0
    now = iter([1.0, 2.0])
    expression = expr("timestamp() + 0", lambda: next(now))
    assert [expression.value({}), expression.value({})] == [1.0, 2.0], "a clock is not read at load"


@pytest.mark.parametrize("name", ["log", "log2", "log10", "exp", "sin", "cos", "acos"])
def test_elementary_functions_have_the_bits_of_the_c_library(name):
    rng = np.random.default_rng(0)
    x = np.abs(np.concatenate([rng.normal(0, 1, 5000), rng.random(5000), 10.0 ** rng.uniform(-300, 2, 5000)]))
    x = x[x <= 1] if name == "acos" else x[x > 0]
    expected = [getattr(math, name)(value) for value in x.tolist()]
    np.testing.assert_array_equal(elementary.apply(name, x), expected)
    assert elementary.apply(name, np.zeros(0)).size == 0


def test_power_and_angle_have_the_bits_of_the_c_library():
    rng = np.random.default_rng(0)
    x, y = np.abs(rng.normal(0, 3, 5000)), rng.normal(0, 3, 5000)
    np.testing.assert_array_equal(
        elementary.power(x, y), [math.pow(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)]
    )
    np.testing.assert_array_equal(
        elementary.angle(y, x), [math.atan2(*pair) for pair in zip(y.tolist(), x.tolist(), strict=True)]
    )
    for function in (elementary.power, elementary.angle):
        with pytest.raises(ValueError, match="columns of 2 and 1 rows"):
            function(np.zeros(2), np.zeros(1))
    with pytest.raises(KeyError):
        elementary.apply("tan", x)


def test_a_function_of_text_is_asked_once_per_distinct_value(monkeypatch):
    asked = []
    operation = FUNCTIONS["hash32"].operation
    counted = operation._replace(function=lambda value: asked.append(value) or operation.function(value))
    monkeypatch.setitem(FUNCTIONS, "hash32", FUNCTIONS["hash32"]._replace(operation=counted))
    columns = {"t": (np.arange(1000, dtype=np.int32) % 3, ["x", "y", "z"])}
    column = govaluate("hash32(t) % 100").column(columns, 1000)
    assert len(asked) <= 4 and {"x", "y", "z"} <= set(asked)
    np.testing.assert_array_equal(column[:3], [operation.function(text) % 100 for text in "xyz"])


# --- Go's regular expressions ---


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^a.c$", "abc", True),
        ("a$", "a\n", False),
        ("(?m)a$", "a\nb", True),
        (r"\d", "٣", False),
        (r"^\w+$", "naïve", False),
        (r"^[\w-]+$", "a-b", True),
        (r"\Da", "1a", False),
        ("(?i)ABC", "abc", True),
        ("[[:alpha:]]+1", "abc1", True),
        ("[^[:digit:]]", "12", False),
        (r"^\Qa.b\E$", "axb", False),
        (r"\x{e9}", "é", True),
        ("(?P<n>a)+", "aa", True),
        ("(?:a|b)c", "bc", True),
        ("a{2,3}", "aa", True),
        ("[]a]", "]", True),
        (r"\z", "", True),
    ],
)
def test_regular_expressions_are_gos(pattern, text, found):
    assert search(pattern, text) is found


@pytest.mark.parametrize(
    "pattern", ["(", "(?=a)", "(?<!a)b", r"(a)\1", "a++", "[a", r"\pL", "(?U)a+", "[[:nope:]]", "a(?i)b"]
)
def test_what_gos_regular_expressions_lack_is_refused(pattern):
    with pytest.raises(Failure):
        search(pattern, "a")
