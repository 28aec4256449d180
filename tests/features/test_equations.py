"""The equation checker on strings as they stand in solutions: what holds, what fails, what cannot be read."""

import math
import random

import pytest
from hypothesis import given, settings, strategies as st

from prmkit.features.statistics._equations import Ledger, check_equations, relative_error
from prmkit.features.statistics._expressions import Reader, tokenize

COUNTS = ("right", "wrong", "bound_right", "bound_wrong", "identities", "differing", "unread", "rebound")
COUNTS += ("solved_right", "solved_wrong")


def found(text, before=""):
    """The counts that are not zero."""
    known = Ledger()
    check_equations(before, known)
    report = check_equations(text, known)
    return {name: getattr(report, name) for name in COUNTS if getattr(report, name)}


def value(text):
    return Reader(tokenize(text), {}).read().value


@pytest.mark.parametrize(
    "text",
    [
        "2 + 3 * 4 = 14",
        "So 5 - 8 = -3.",
        "There are 2 + 3 = 5 apples.",
        "2*3 + 4*5 = 6 + 20 = 26",  # two signs
        "10 - 2 - 3 = 5",
        "24 / 4 / 2 = 3",
        "-2^2 = -4",
        "2^3 = 8",
        "2**3 = 8",
        "(1 + 2)(3 + 4) = 21",
        "2(3 + 4) = 14",
        "5! = 120",
        r"\frac{1}{2} + \frac{1}{4} = \frac{3}{4}",
        r"\frac12 = 0.5",
        r"\dfrac{6}{3} = 2",
        r"$3 \times 4 = 12$",
        r"3 \cdot 4 = 12",
        r"12 \div 4 = 3",
        "3 × 4 = 12",
        "12 ÷ 4 = 3",
        "12 − 4 = 8",
        "3 x 4 = 12",
        r"\sqrt{16} = 4",
        r"\left( 1 + 2 \right)^2 = 9",
        "20% of 50 = 10",
        r"20\% of 50 = 10",
        "The price is $5 + $7 = $12.",
        "1,250 + 750 = 2,000",
        "3 apples + 4 apples = 7 apples",
        "10 dollars / 4 = 2.5",
        r"10 \text{ cm} + 5 \text{ cm} = 15 \text{ cm}",
        "10 / 3 = 3.33",  # rounded
        r"2\pi \approx 6.28",
        "0.1 + 0.2 = 0.3",
        r"90^\circ + 90^\circ = 180^\circ",
        r"\boxed{2 + 2 = 4}",
        "(2 + 2 = 4)",
        r"2 + 2 &= 4 \\",
    ],
)
def test_right(text):
    counts = found(text)
    assert set(counts) == {"right"}
    assert counts["right"] == text.count("=") + text.count("approx")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("2 + 3 * 4 = 20", 6 / 20),
        ("3 * 4 = 13", 1 / 13),
        (r"\frac{1}{2} + \frac{1}{3} = \frac{2}{5}", (5 / 6 - 2 / 5) / (5 / 6)),
        (r"7 \times 8 = 54", 2 / 56),
        ("20% of 50 = 12", 2 / 12),
        ("1,250 + 750 = 1,900", 100 / 2000),
        ("$5 + $7 = $13", 1 / 13),
        ("100 = 101", 1 / 101),  # whole numbers must be equal
        ("0 = 3", 1.0),
        ("10 / 3 = 3.5", (3.5 - 10 / 3) / 3.5),
    ],
)
def test_wrong_by_how_much(text, error):
    report = check_equations(text, Ledger())
    assert (report.wrong, report.right) == (1, 0)
    assert report.worst == pytest.approx(error)


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        ("", "2 + 3 = 5 = 6", {"right": 1, "wrong": 1}),
        ("", "2 + 3 = 5, 1 + 1 = 3", {"right": 1, "wrong": 1}),
        # symbols known from before are filled in
        ("x = 3", "2x + 1 = 7", {"bound_right": 1}),
        ("x = 3", "2x + 1 = 8", {"bound_wrong": 1}),
        ("Let $n = 4$.", "n^2 = 16", {"bound_right": 1}),
        ("a_1 = 2", "a_1 + 3 = 5", {"bound_right": 1}),
        ("x = 1 + 2", "x + 1 = 4", {"bound_right": 1}),
        ("x = 3", "x = 4", {"rebound": 1, "unread": 1}),
        # symbols that are not known
        ("", "(a + b)^2 = a^2 + 2ab + b^2", {"identities": 1}),
        ("", "(a + b)^2 = a^2 + b^2", {"differing": 1}),
        ("", "2(x + 1) = 2x + 2", {"identities": 1}),
        ("", "x + y = 7", {"unread": 1}),  # a condition, not a claim
        # an equation in one unknown symbol is tried with what is found for it
        ("2x + 1 = 7", "x = 3", {"solved_right": 1, "unread": 1}),
        ("2x + 1 = 7", "x = 4", {"solved_wrong": 1, "unread": 1}),
        ("2x + 1 = 7", "2x = 6", {"solved_right": 1, "unread": 1}),
        ("x^2 = 9", "x = -3", {"solved_right": 1, "unread": 1}),
        # no value on one side
        ("", "the total = 12", {"unread": 1}),
        ("", "2 + = 5", {"unread": 1}),
        ("", "f(2) = 5", {"unread": 1}),
        ("", "7 mod 3 = 1", {"unread": 1}),
        ("", "1/0 = 2", {"unread": 1}),
        ("", "((2 + 3) = 5", {"unread": 1}),
        ("", "CH3 = 4", {"unread": 1}),
        ("", r"2\frac13 = 2", {"unread": 1}),  # a mixed number or a product
        ("", r"\sqrt{-1} = 1", {"unread": 1}),
        ("", "9^9^9^9 = 1", {"unread": 1}),
        ("", "9^999 = 1", {"unread": 1}),
        ("", "total - 5 = 3", {"unread": 1}),  # the word belongs to the side
        ("", "2 <= 3", {}),
        ("", "a ≠ b", {}),
        ("", "no equation", {}),
        ("", "", {}),
        ("", "=", {"unread": 1}),
        ("", "= = =", {"unread": 3}),
    ],
)
def test_counts(before, text, expected):
    assert found(text, before) == expected


def test_results_are_what_equalities_end_in():
    assert check_equations("1 + 1 = 2 and 2 + 2 = 4 = 2^2 but x + y = z", Ledger()).results == [2.0, 4.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,250", 1250),
        ("1 + 2 * 3 ^ 2", 19),
        ("2 ^ -1", 0.5),
        ("2 - -3", 5),
        ("0!", 1),
        ("50%", 0.5),
        (r"\frac{\frac{1}{2}}{2}", 0.25),
        ("sqrt(9)", 3),
        ("(" * 30 + "1" + ")" * 30, 1),
    ],
)
def test_values(text, expected):
    assert value(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "+", "1 2", "1,2", "(1", "1)", "2.5!", "21!", "(" * 50 + "1" + ")" * 50, "1+" * 100 + "1", "9" * 400]
)
def test_what_has_no_value(text):
    assert math.isnan(value(text))


def test_a_symbol_has_the_same_value_in_every_text():
    assert value("x + y") == value("y + x")
    assert value("x") != value("y")


def test_relative_error():
    assert relative_error(0, 0) == 0
    assert relative_error(-1, 1) == 2
    assert relative_error(3, 4) == relative_error(4, 3) == 0.25


def arithmetic(depth):
    """A random expression in Python's own syntax that needs no rounding."""
    number = st.integers(0, 9).map(str)
    return st.recursive(
        number,
        lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        max_leaves=depth,
    )


@settings(max_examples=100, deadline=None)
@given(expression=arithmetic(8))
def test_agrees_with_python(expression):
    assert value(expression) == eval(expression)  # digits, brackets and + - * alone


def test_true_statements_hold_and_altered_ones_fail():
    rng = random.Random(0)
    for _ in range(200):
        a, b, c = (rng.randint(2, 99) for _ in range(3))
        assert found(f"{a} + {b} * {c} = {a + b * c}") == {"right": 1}
        assert found(f"{a} + {b} * {c} = {a + b * c + 1}") == {"wrong": 1}
