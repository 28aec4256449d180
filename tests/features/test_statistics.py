"""Every statistic by hand, and what holds for all of them: no look-ahead, finite numbers, linear cost."""

import gzip
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from joblib import parallel_config

from prmkit import Solution, Step, flatten
from prmkit.features import StepStatistics
from prmkit.features.statistics import _equations, _step_statistics
from prmkit.features.statistics._step_statistics import MARKERS, OPENINGS, step_statistics

STATISTICS = StepStatistics.descriptions
NAMES = list(STATISTICS)
ALICE = "Alice: black, Bob: blue"


def statistic(name, problem, steps):
    """One column of one solution."""
    return step_statistics(problem, steps)[:, NAMES.index(name)]


# problem, steps, statistic, its value at the last step
BY_HAND = [
    # position
    ("", ["a", "b", "c"], "index", 2),
    ("", ["one two", "three"], "prefix_words", math.log(3)),
    ("How many apples?", ["one"], "problem_words", math.log(4)),
    ("2 and 3 and 2", ["one"], "problem_numbers", 2),
    ("Pick (a) or (b).", ["a"], "problem_options", 1),
    ("Pick one.", ["a"], "problem_options", 0),
    # length and make-up
    ("", ["two words"], "words", math.log(3)),
    ("", ["abcd"], "characters", math.log(5)),
    ("", ["one two three"], "words_to_mean", 0),
    ("", ["one two three", "a b"], "words_to_mean", math.log(3 / 4)),
    ("", ["one two three", "a", "a b"], "words_to_mean", math.log(3 / 3)),
    ("", ["one", "one two three"], "words_to_previous", math.log(4 / 2)),
    ("a b c", ["d"], "words_to_problem", math.log(2 / 4)),
    ("", ["ab abcd"], "word_length", 3),
    ("", ["a\nb\nc"], "lines", 2),
    ("", ["a1b2"], "digit_share", 0.5),
    ("", ["a+b="], "symbol_share", 0.5),
    ("", ["Ab"], "capital_share", 0.5),
    ("", [r"\frac{1}{2} \times 3"], "latex_commands", 2),
    ("", [r"\pi", r"\pi \pi \pi"], "latex_to_mean", 2),
    ("", ["12", "ab"], "digits_to_mean", -1),
    ("", ["ab", "++"], "symbols_to_mean", 1),
    ("", ["Why? How?"], "question_marks", 2),
    # numbers
    ("", ["3 and 4 and 3"], "numbers", 3),
    ("", ["1,250 dollars"], "numbers", 1),
    ("", ["1,2,3"], "numbers", 3),
    ("2", ["2, 5 and 7"], "numbers_new", 2),
    ("2", ["5", "5"], "numbers_new", 0),
    ("2", ["2, 5 and 7"], "numbers_new_share", 2 / 3),
    ("2", ["2, 5 and 7"], "numbers_problem_share", 1 / 3),
    ("3 and 4", ["12, 7 and 50"], "numbers_underived", 1),
    ("3 and 4", ["12, 7, total = 50"], "numbers_underived", 0),
    ("2 and 8", ["2", "3"], "numbers_used", 0.5),
    ("5", ["it is 5"], "last_number_seen", 1),
    ("5", ["it is 6"], "last_number_seen", 0),
    ("5", ["none"], "last_number_seen", -1),
    ("5", ["6", "6"], "last_number_problem", 0),
    ("5", ["6 or 5"], "last_number_problem", 1),
    ("5", ["none"], "last_number_problem", -1),
    ("", ["3 and 9"], "largest_number", math.log(10)),
    ("9", ["19"], "largest_to_known", math.log(20 / 10)),
    ("", ["1.5 and 2 and .25"], "decimals", 2),
    ("", ["so 5", "5 more"], "first_number_recent", 1),
    ("", ["so 5 of 6", "5 more"], "first_number_recent", 0),
    # words
    ("green apples", ["apples fall down"], "words_in_problem", 1 / 3),
    ("", ["apples", "apples fall"], "words_in_prefix", 1 / 2),
    ("apples", ["apples fall"], "words_new", 1 / 2),
    ("", ["apples", "apples fall"], "words_new_to_mean", -1 / 2),
    ("green apples fall", ["apples"], "problem_covered", 1 / 3),
    ("x", ["x y z"], "symbols_new", 2),
    # repetition
    ("a b c d", ["a b c x"], "triples_in_problem", 1 / 2),
    ("", ["a b c d", "a b c x"], "triples_in_prefix", 1 / 2),
    ("", ["a b", "b c"], "previous_overlap", 1 / 3),
    ("", ["So $x$.", "other", "so x"], "repeats", 1),
    ("", ["So $x$.", "so y"], "repeats", 0),
    ("", ["so we add", "so we see", "so we go"], "same_opening", 2),
    # equations
    ("", ["a = b = c"], "equalities", 2),
    ("", ["2 + 3 = 5"], "equations_right", 1),
    ("", ["2 + 3 = 6"], "equations_wrong", 1),
    ("", ["2 + 3 = 6"], "equations_error", math.log1p(100 / 6)),
    ("", ["x = 3", "x + 1 = 4"], "equations_bound_right", 1),
    ("", ["x = 3", "x + 1 = 5"], "equations_bound_wrong", 1),
    ("", ["2x + x = 3x"], "equations_identities", 1),
    ("", ["2x + x = 4x"], "equations_differing", 1),
    ("", ["2x + x = 3x = 4x"], "equations_differing_later", 1),
    ("", ["2x + x = 4x = 4x"], "equations_differing_later", 0),
    ("", ["the sum = 4"], "equations_unread", 1),
    ("", ["x = 3", "x = 4"], "symbols_rebound", 1),
    ("", ["x = 3", "x = 3"], "symbols_rebound", 0),
    ("", ["2x + 1 = 7", "x = 3"], "solutions_right", 1),
    ("", ["2x + 1 = 7", "x = 4"], "solutions_wrong", 1),
    ("", ["2x + 1 = 7", "2x = 6"], "solutions_right", 1),
    ("5", ["2 + 3 = 5"], "results_seen", 1),
    ("", ["1 + 1 = 3", "ok"], "wrong_before", 1),
    ("", ["1 + 1 = 2", "ok"], "right_before", 1),
    # state
    ("", [ALICE], "assignments", 2),
    ("", [ALICE, "Alice: blue, Bob: blue"], "assignments_changed", 1),
    ("", [ALICE, "Alice: blue, Bob: blue"], "assignments_repeated", 1),
    ("", ["(a) beats option b"], "options_named", 2),
    # wording
    *(("", [" ".join(sorted(words)[:2])], f"marker_{name}", 2) for name, words in MARKERS.items()),
    *(("", [f"And {min(MARKERS[name])}"], f"opens_{name}", 1) for name in OPENINGS),
    *(("", [f"And this {min(MARKERS[name])}"], f"opens_{name}", 0) for name in OPENINGS),
    ("", ["Wait, but no", "ok"], "hedges_before", 2),
    ("", ["The answer, my answer", "ok"], "answers_before", 1),
]


@pytest.mark.parametrize(("problem", "steps", "name", "expected"), BY_HAND)
def test_by_hand(problem, steps, name, expected):
    assert statistic(name, problem, steps)[-1] == pytest.approx(expected, abs=1e-12)


def test_every_documented_statistic_is_computed_by_hand_above():
    assert {name for _, _, name, _ in BY_HAND} == set(STATISTICS)


def test_a_leading_number_is_not_part_of_the_step():
    plain = step_statistics("", ["2 + 3 = 5"])
    for numbered in ("Step 3: 2 + 3 = 5", "3. 2 + 3 = 5", " 12) 2 + 3 = 5", "step 3. 2 + 3 = 5"):
        np.testing.assert_array_equal(step_statistics("", [numbered]), plain)


class TestTransformer:
    steps = flatten([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15.", "The answer is 15."])])

    def test_names_match_columns(self):
        rows = StepStatistics().fit_transform(self.steps)
        assert rows.shape == (3, len(STATISTICS))
        assert StepStatistics().get_feature_names_out().tolist() == NAMES

    def test_rows_in_any_order_and_repeated(self):
        rows = StepStatistics().transform(self.steps)
        order = [2, 0, 2, 1]
        np.testing.assert_array_equal(StepStatistics().transform([self.steps[i] for i in order]), rows[order])

    def test_a_string_is_a_step_without_problem(self):
        np.testing.assert_array_equal(StepStatistics().transform(["2 + 2 = 4"]), step_statistics("", ["2 + 2 = 4"]))

    def test_solutions_are_refused(self):
        with pytest.raises(TypeError, match="flatten"):
            StepStatistics().fit([self.steps[0].solution])

    def test_a_late_step_alone_is_scored_in_its_context(self):
        rows = StepStatistics().transform(self.steps)
        np.testing.assert_array_equal(StepStatistics().transform([Step(self.steps[0].solution, 1)]), rows[1:2])


# Pieces of which a text that means trouble is made.
PIECES = [*"0123456789abxyzπ", *"+-*/^=().,:;$%!{}[]\\ \n", "x", "\\frac", "\\sqrt", "\\times", "\\text{", "Step 3: "]
PIECES += [
    "=",
    "≈",
    "1,000",
    "0.5",
    "12",
    " of ",
    "so ",
    "Alice: blue",
    "(a)",
    "a_1",
    "_{",
    "**",
    "\\\\",
    "²",
    "٣",
    "İ",
]
messy = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))


@settings(max_examples=200, deadline=None)
@given(problem=messy, steps=st.lists(messy, min_size=1, max_size=4), later=st.lists(messy, max_size=2))
def test_any_text_gives_finite_rows_that_no_later_step_changes(problem, steps, later):
    rows = step_statistics(problem, steps)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(step_statistics(problem, steps + later)[: len(steps)], rows)


def test_each_text_is_read_once_however_long_the_solution(monkeypatch):
    read = []
    tokenize = _equations.tokenize
    monkeypatch.setattr(_equations, "tokenize", lambda text: read.append(len(text)) or tokenize(text))
    for n in (10, 100):
        read.clear()
        steps = [f"Then {i} + 1 = {i + 1}" for i in range(n)]
        step_statistics("What = 7?", steps)
        assert sum(read) == len("What = 7?") + sum(map(len, steps))


def test_the_work_for_a_step_does_not_grow_with_the_solution(monkeypatch):
    """Sides evaluated for equations of earlier steps are bounded, so 10 times the steps are 10 times the work."""
    work = []
    read = _equations.Reader.read
    monkeypatch.setattr(_equations.Reader, "read", lambda self: work.append(1) or read(self))
    counts = []
    for n in (40, 400):
        work.clear()
        step_statistics("", [f"2x + {i} = {i + 6} so x = 3" for i in range(n)])
        counts.append(len(work))
    assert counts[1] <= 11 * counts[0]


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "1,",
        ",111",
        "\\frac",
        "\\frac12",
        "\\text{",
        pytest.param("a=", marks=pytest.mark.slow),
        pytest.param("x=2", marks=pytest.mark.slow),
        "9^",
        "9",
        "Ab: ",
        "a_",
        "a_{",
        "-",
        "5%",
        "\n",
        "$",
    ],
)
def test_a_hundred_thousand_characters_of_trouble(piece):
    """Anything quadratic in the text would take minutes here."""
    text = (piece * 100_000)[:100_000]
    start = time.process_time()
    rows = step_statistics(text, [text, text + "=1"])
    assert np.isfinite(rows).all()
    assert time.process_time() - start < 10


def test_real_solutions(data_folder):
    """Wrong steps of real solutions hold more failed equations than right ones."""
    with gzip.open(data_folder / "steps_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines][::30]
    rows = np.vstack([step_statistics(record["problem"], record["steps"]) for record in records])
    labels = np.array([-2 if label is None else label for record in records for label in record["labels"]])
    assert np.isfinite(rows).all()
    failed = rows[:, NAMES.index("equations_wrong")] > 0
    assert failed[labels == -1].mean() > 2 * failed[labels == 1].mean()


def test_processes_may_share_many_steps(monkeypatch):
    texts = [f"Then {i} + {i % 7} = {i + i % 7}." for i in range(900)]
    X = flatten([Solution(f"p{i}", texts[i : i + 3]) for i in range(0, 900, 3)])
    X = [X[i] for i in np.random.default_rng(0).permutation(len(X))]
    alone = StepStatistics().transform(X)
    monkeypatch.setattr(_step_statistics, "_WORTH_SHARING", 100)
    for settings_of_joblib in ({"n_jobs": 1}, {"backend": "threading", "n_jobs": 2}):
        with parallel_config(**settings_of_joblib):
            np.testing.assert_array_equal(StepStatistics().transform(X), alone)
