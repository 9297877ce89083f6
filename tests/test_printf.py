"""`sprintf` of expressions writes what Go writes, also where value and verb do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from pairec_fast.errors import ConfigError
from pairec_fast.expression import ROW, Failure, expr
from pairec_fast.expression.printf import SPRINTF, sprintf


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("u_%s", "a"), "u_a"),
        (("%v|%v|%v", 1, 2.5, True), "1|2.5|true"),
        (("%05d|%-5s|%5s|", 42, "a", "b"), "00042|a    |    b|"),
        (("%.2f", 2.567), "2.57"),
        (("%08.3f", -3.14159), "-003.142"),
        (("%+d", 5), "+5"),
        (("%x|%x", 255, "hi"), "ff|6869"),
        (("%.2s", "héllo"), "hé"),
        (("%v", 1e6), "1e+06"),
        (("%v", [1, "a"]), "[1 a]"),
        (("100%%",), "100%"),
        (("%d", 3.0), "%!d(float64=3)"),
        (("%s", 3), "%!s(int=3)"),
        (("%s", None), "%!s(<nil>)"),
        (("%d",), "%!d(MISSING)"),
        (("a", 1, "x"), "a%!(EXTRA int=1, string=x)"),
        (("50%",), "50%!(NOVERB)"),
    ],
)
def test_what_go_writes(arguments, expected):
    assert sprintf(*arguments) == expected


def test_a_format_that_is_none_or_too_wide_or_of_another_verb_fails():
    for arguments in ((5,), ("%5000d", 1), ("%p", 1)):
        with pytest.raises(Failure):
            sprintf(*arguments)


def test_an_expression_has_it_where_it_is_given():
    text = "sprintf('%s_%d', uid, item.kind)"
    with pytest.raises(ConfigError, match="unknown function sprintf"):
        expr(text)
    expression = expr(text, extra=SPRINTF)
    assert expression.value({"uid": "u1", "item": {"kind": 3}}) == "u1_3"
    codes, texts = expression.column({"kind": np.array([3, 4, 3])}, 3, {"uid": "u1", "item": ROW})
    assert [texts[code] for code in codes] == ["u1_3", "u1_4", "u1_3"]
