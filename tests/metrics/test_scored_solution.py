"""A scored solution: its numbers, its text and its HTML."""

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from prmkit.data import Solution
from prmkit.scoring import ScoredSolution

PROBA = np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.25, 0.5, 0.25]])


@pytest.fixture
def scored():
    return ScoredSolution(Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15.", ""]), PROBA, [-1, 0, 1])


def test_numbers_follow_from_the_probabilities(scored):
    np.testing.assert_allclose(scored.risks, [0.1, 0.8, 0.25])
    np.testing.assert_allclose(scored.rewards, [0.9, 0.2, 0.75])
    np.testing.assert_allclose(scored.margin, [0.4, 0.3, 0.25])
    assert scored.entropy[2] == pytest.approx(-(0.5 * math.log(0.25) + 0.5 * math.log(0.5)))
    assert scored.p_no_error == pytest.approx(0.9 * 0.2 * 0.75)
    np.testing.assert_allclose(scored.first_error_distribution, [0.1, 0.72, 0.045, 0.135])
    expected = {"min": 0.2, "product": 0.135, "mean": 1.85 / 3, "last": 0.75, "geometric_mean": 0.135 ** (1 / 3)}
    assert scored.aggregates == pytest.approx(expected)
    summary = scored.to_text(color=False, width=200).splitlines()[-1]
    assert "min" in summary
    assert "last" not in summary, "there is no room to say for which models it judges a solution"


def test_the_worst_class_is_found_wherever_its_column_stands():
    solution = Solution("p", ["s"])
    assert ScoredSolution(solution, [[0.1, 0.2, 0.7]], ["positive", "neutral", "negative"]).risks[0] == 0.7
    assert ScoredSolution(solution, [[0.1, 0.9]], ["bad", "good"], label_order=["bad", "good"]).risks[0] == 0.1
    assert ScoredSolution(solution, [[0.1, 0.9]], np.array([False, True])).risks[0] == 0.1
    with pytest.raises(ValueError, match="label_order="):
        ScoredSolution(solution, [[0.1, 0.9]], ["bad", "good"])


@pytest.mark.parametrize(
    ("proba", "message"),
    [
        ([[0.1, 0.9]], r"expected \(n_steps, n_classes\) = \(2, 2\)"),
        ([[0.1, 0.9], [0.4, 0.4]], r"proba\[1\] sums to 0.8"),
        ([[0.1, 0.9], [float("nan"), 0.4]], "NaN"),
    ],
)
def test_what_is_no_probability_is_refused(proba, message):
    with pytest.raises(ValueError, match=message):
        ScoredSolution(Solution("p", ["a", "b"]), proba, [-1, 1])


def test_a_solution_without_steps_is_refused():
    with pytest.raises(ValueError, match="no steps to score"):
        ScoredSolution(Solution("p", []), np.empty((0, 2)), [-1, 1])


def test_probabilities_cannot_be_changed_afterwards(scored):
    with pytest.raises(ValueError, match="read-only"):
        scored.proba[0, 0] = 0.5
    assert PROBA.flags.writeable  # the caller's own array is left as it was


def test_to_dict_is_json(scored):
    read = json.loads(json.dumps(scored.to_dict(), allow_nan=False))
    assert [step["text"] for step in read["steps"]] == list(scored.solution.steps)
    assert read["steps"][1]["risk"] == 0.8
    assert read["steps"][0]["proba"] == [0.1, 0.2, 0.7]
    assert read["classes"] == [-1, 0, 1]
    assert len(read["first_error_distribution"]) == 4


def test_text_without_colour_says_everything(scored):
    text = scored.to_text(color=False, width=80)
    assert "\x1b" not in text
    for part in ("2 + 3 * 4?", "3 * 4 = 12.", "0.80  ██████▍", "(empty step)", "P(no error) 0.13", "step 1 (0.72)"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_long_steps_are_wrapped_and_nothing_is_lost():
    words = " ".join(f"word{i}" for i in range(60)) + " " + "x" * 150
    text = ScoredSolution(Solution("p", [words]), [[0.5, 0.5]], [-1, 1]).to_text(color=False, width=72)
    assert max(map(len, text.splitlines())) <= 72
    assert all(f"word{i}" in text for i in range(60))
    assert text.count("x") >= 150


def test_colour_follows_the_terminal_and_no_color(scored, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert "\x1b" not in str(scored)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert "\x1b[" in str(scored)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in str(scored)
    coloured = scored.to_text(color=True, width=80)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).split() == scored.to_text(color=False, width=80).split()


def test_a_step_cannot_send_codes_to_the_terminal():
    scored = ScoredSolution(Solution("p\x1b[2J", ["\x1b[31mred\x07 [bold]b[/bold]\x9b1m"]), [[0.2, 0.8]], [-1, 1])
    text = scored.to_text(color=False, width=80)
    assert not set(text) & {"\x1b", "\x07", "\x9b"}
    assert "[bold]b[/bold]" in text


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.titles, self.names, self.styles = [], [], [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.titles += [value for name, value in attrs if name == "title"]
        self.styles += [value for name, value in attrs if name == "style"]
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_escaped_and_has_tooltips():
    evil = '<script>alert("1")</script> & <img src=x onerror=y>'
    label = '"><b>bad'
    scored = ScoredSolution(Solution(evil, [evil]), [[0.25, 0.75]], [label, "good"], label_order=[label, "good"])
    page = _Tags()
    page.feed(scored._repr_html_())
    assert set(page.tags) <= {"div", "span", "b", "br"}
    assert page.tags.count("b") == 1  # the word "Problem"
    assert "".join(page.text).count(evil) == 2
    assert f"P({label}) = 0.250" in page.titles[0]
    assert "P(first error here) = 0.250" in page.titles[0]


def test_html_tooltips_hold_every_number_of_their_step(scored):
    page = _Tags()
    page.feed(scored._repr_html_())
    assert len(page.titles) == 3
    first_error = scored.first_error_distribution
    for index, title in enumerate(page.titles):
        lines = title.splitlines()
        risk, entropy = scored.risks[index], scored.entropy[index]
        assert lines[0] == f"step {index}: risk {risk:.3f}, entropy {entropy:.3f} nats"
        assert lines[1:4] == [f"P({label}) = {p:.3f}" for label, p in zip([-1, 0, 1], PROBA[index], strict=True)]
        assert lines[4:] == [f"P(first error here) = {first_error[index]:.3f}"]


def test_html_needs_no_script_and_nothing_from_elsewhere(scored):
    html = scored._repr_html_()
    page = _Tags()
    page.feed(html)
    assert page.names <= {"class", "style", "title"}  # no onclick, no src, no href
    assert not re.search(r"url\(|@import|expression\(", html)


def _contrast(text, background):
    """Contrast ratio of two colours, as WCAG 2 defines it; 4.5 is readable."""
    light = []
    for color in (text, background):
        part = np.array(color) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize(
    ("text", "page_color"),
    [((0, 0, 0), (255, 255, 255)), ((33, 33, 33), (245, 245, 245)), ((212, 212, 212), (30, 30, 30))],
    ids=["light", "grey", "dark"],
)
def test_html_is_readable_in_light_and_dark_themes(text, page_color):
    risks = np.linspace(0, 1, 11)
    path = ScoredSolution(Solution("p", ["s"] * 11), np.c_[risks, 1 - risks], [-1, 1])
    page = _Tags()
    page.feed(path._repr_html_())
    rules = [rule.split(":", 1) for style in page.styles for rule in style.split(";")]
    assert "color" not in {name for name, _ in rules}  # the text keeps the theme's colour
    tints = [re.findall(r"[\d.]+", value) for name, value in rules if name == "background" and "rgba" in value]
    assert len(tints) == 22  # a step, and the bar inside
    for *tint, alpha in tints:
        background = float(alpha) * np.array(tint, dtype=float) + (1 - float(alpha)) * np.array(page_color)
        assert _contrast(text, background) > 4.5
