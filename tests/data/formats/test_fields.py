"""Fields by name: rows of any layout are read once it is said which field is what, and the error proposes it."""

import contextlib
import json
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from typer.testing import CliRunner

from prmkit.cli import app
from prmkit.data import load, load_candidates

STEPS = ["5 * 3 = 15.", "So 16."]
SHAPES = {
    "lists, probabilities": (
        {"query": "5 * 3?", "process": STEPS, "rewards": [1, 0.25]},
        [1.0, 0.25],
    ),
    "several solutions": (
        {"query": "5 * 3?", "sampled": [{"steps": STEPS, "labels": [True, False]}, {"steps": ["a"], "labels": [True]}]},
        [1, -1, 1],
    ),
    "one text with tags": (
        {"question": "5 * 3?", "process": "5 * 3 = 15. [P]\nSo 16. [P]", "labels": ["+", "-"]},
        [1, -1],
    ),
    "objects": (
        {"instruction": "5 * 3?",
         "trace": {"steps": [{"content": STEPS[0], "rating": 1}, {"content": STEPS[1], "rating": -1}]}},
        [1, -1],
    ),
    "words": (
        {"question": "5 * 3?", "solution": [{"text": STEPS[0], "label": "Good"}, {"text": STEPS[1], "label": "BAD"}]},
        [1, -1],
    ),
    "first error": ({"question": "5 * 3?", "student_solution": STEPS, "mistake_at": 1}, [1, -1]),
    "a text whose paragraphs are as many as its labels": (
        {"question_id": "q7", "question": "5 * 3?", "reply": "5 * 3 = 15.\n\nSo 16.", "n_steps": 2, "marks": [1, 0]},
        [1, -1],
    ),
    "fields of other names, if only one fits": (
        {"body": {"text": "What is 5 * 3?", "by": {"parts": STEPS, "notes": [True, False]}}},
        [1, -1],
    ),
    "lists as Python writes them": ({"question": "5 * 3?", "steps": str(STEPS), "labels": "['+', '-']"}, [1, -1]),
    "labels by number of step": (
        {"task": "5 * 3?", "turns": [{"content": "Begin."}, *({"content": step} for step in STEPS)],
         "step_labels": {"1": "good", "2": "bad"}},
        [1, -1],
    ),
}  # fmt: skip


def proposed(record, function=load):
    """What an error proposes to type, as keyword arguments."""
    with pytest.raises(ValueError, match="fields=") as caught:
        function([record])
    call = re.search(r"\(…, (fields=dict\(.*?\)(?:, \w+=[^)]*)?)\)", str(caught.value))[1]
    return eval(f"dict({call})")


def hint(records):
    """What the error says that only the user knows."""
    with pytest.raises(ValueError, match="fields=") as caught:
        load(records)
    return str(caught.value).partition("Say which field is what: ")[2]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_error_of_an_unknown_layout_proposes_the_call_that_reads_it(shape):
    row, expected = SHAPES[shape]
    dataset = load([row], **proposed(row))
    assert dataset.y.tolist() == expected
    assert {step.problem.removeprefix("What is ") for step in dataset.X} == {"5 * 3?"}
    assert [step.text for step in dataset.X][:2] == STEPS


class TestWhatOnlyTheUserKnows:
    ROW = {"query": "5 * 3?", "solution": STEPS}

    def test_what_0_means(self):
        said = hint([{**self.ROW, "label": [1, 0]}])
        assert "labels='binary'). If 0 is neutral, pass labels='rating'; if the numbers are prob" in said
        # A later record shows that the numbers are ratings, or probabilities.
        assert hint([{**self.ROW, "label": [1, 0]}, {**self.ROW, "label": [1, -1]}]).endswith("labels='rating')")
        assert hint([{**self.ROW, "label": [1, 0]}, {**self.ROW, "label": [1, 0.5]}]).endswith("labels='label'))")

    def test_what_words_and_marks_mean(self):
        said = hint([{**self.ROW, "label": ["sound", "flawed"]}, {**self.ROW, "label": ["sound", "odd"]}])
        assert "label_map={'sound': …, 'flawed': …, 'odd': …}). Put -1 (wrong), 0 (neutral) or 1 (right) in" in said
        assert "label_map={5: …, 2: …})" in hint([{**self.ROW, "label": [5, 2]}])

    def test_where_first_errors_begin_and_what_null_means(self):
        said = hint([{**self.ROW, "error_step": 1}, {**self.ROW, "error_step": None}])
        assert "first_error='error_step'), base=0). If the first step of the file is 1, pass base=1. If null" in said
        assert said.endswith("If null means that no step is wrong, pass no_error=None")
        assert hint([{**self.ROW, "error_step": 0}]).endswith("base=0)")
        assert hint([{**self.ROW, "error_step": 0}, {**self.ROW, "error_step": 2}]).endswith("base=0)")
        # A label of the whole solution says nothing of its steps.
        assert "base=0). This is right if label is the number of the first wrong step" in hint(
            [{**self.ROW, "label": 1}]
        )
        assert hint([{**self.ROW, "error_step": 2}]).endswith("base=1)")
        assert "first_error='error_step'" in hint([{**self.ROW, "error_step": None}])

    def test_parts_that_are_not_seen(self):
        assert hint([self.ROW]).endswith("labels='…')). Put the field of labels in place of '…'")
        said = hint([{"solution": STEPS, "verdicts": [True, False]}])
        assert said.startswith("load(…, fields=dict(steps='solution', labels='verdicts')). Add problem='…'")


@pytest.mark.parametrize("value", [None, "", "none", 0, "-", False, []], ids=repr)
def test_a_first_error_that_is_none_is_declared(value):
    """What a file writes where no step is wrong is never guessed, beside -1 and "N/A"."""
    rows = [{"q": "5?", "s": STEPS, "e": one} for one in (1, value, -1)]
    fields = {"problem": "q", "steps": "s", "first_error": "e"}
    with pytest.raises(ValueError, match=rf"record 1: .*pass no_error={re.escape(repr(value))}"):
        load(rows, fields=fields, base=1)
    for no_error in (value, [value, "other"]):
        assert load(rows, fields=fields, base=1, no_error=no_error).first_errors == [0, -1, -1]
    with pytest.warns(UserWarning, match="1 malformed"):
        assert load(rows, fields=fields, base=1, no_error="other", on_error="skip").first_errors == [0, -1]


def test_the_error_names_the_nearest_format_and_what_breaks_it():
    with pytest.raises(ValueError, match="The nearest is stepwise, but the record has no field labels"):
        load([{"prompt": "5?", "completions": ["5."], "scores": [0.5]}])
    with pytest.raises(ValueError, match="The nearest is processbench, but the record holds str in label"):
        load([{"problem": "5?", "steps": ["5."], "label": "fine"}])
    with pytest.raises(ValueError) as caught:
        load([{"question": "5?", "steps": ["5."], "verdict": [True]}], format=None)
    assert "The nearest is scan, but the record has no field scores" in str(caught.value)
    with pytest.raises(ValueError) as caught:
        load([{"question": "5?", "parts": ["5."], "verdict": [True]}])
    assert "nearest" not in str(caught.value)


def test_whole_numbers_are_read_as_declared_and_never_guessed():
    row = {"q": "5?", "s": ["a", "b"], "y": [1, 0]}
    fields = {"problem": "q", "steps": "s", "labels": "y"}
    for labels, expected in (("binary", [1, -1]), ("rating", [1, 0]), ("soft", [1.0, 0.0])):
        dataset = load([row], fields=fields, labels=labels)
        assert dataset.y.tolist() == expected
    with pytest.raises(ValueError, match="holds 0, and nothing says what it means: pass labels='binary'"):
        load([row], fields=fields, on_error="skip")
    assert load([{**row, "y": [2, 1]}], fields=fields, label_map={2: "positive", 1: "negative"}).y.tolist() == [1, -1]
    with pytest.raises(ValueError, match="labels is 'ratings', expected 'rating', 'binary', 'soft', or None"):
        load([row], fields=fields, labels="ratings")


@pytest.mark.parametrize(("base", "value", "expected"), [
    (0, 1, [1, -1]), (1, 1, [-1]), (1, "2", [1, -1]), (0, -1, [1, 1]), (1, "N/A", [1, 1]), (0, 1.0, [1, -1]),
])  # fmt: skip
def test_a_first_error_counts_from_its_base(base, value, expected):
    row = {"q": "5?", "s": STEPS, "e": value}
    dataset = load([row], fields={"problem": "q", "steps": "s", "first_error": "e"}, base=base)
    assert dataset.y.tolist() == expected
    assert dataset.first_errors == [expected.index(-1) if -1 in expected else -1]


@pytest.mark.parametrize(("base", "value"), [(0, 2), (1, 0), (1, 3), (0, None), (0, True), (0, 0.5), (0, "second")])
def test_a_first_error_that_is_no_step_is_refused(base, value):
    fields = {"problem": "q", "steps": "s", "first_error": "e"}
    with pytest.raises(ValueError, match=r"record 0: .*e is "):
        load([{"q": "5?", "s": STEPS, "e": value}], fields=fields, base=base)


def test_a_file_that_probably_counts_from_1_is_said_to():
    rows = [{"q": f"{i}?", "s": STEPS, "e": 1} for i in range(12)]
    fields = {"problem": "q", "steps": "s", "first_error": "e"}
    with pytest.warns(UserWarning, match="none of 12 first errors is 0: .* pass base=1"):
        load(rows, fields=fields)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(rows, fields=fields, base=1)
        load([*rows, {**rows[0], "e": 0}], fields=fields)


def test_steps_that_repeat_all_before_them_are_cut():
    row = {"q": "5?", "states": [{"text": "5?\na.", "p": 0.75}, {"text": "5?\na.\nb.", "p": 0.5}]}
    dataset = load([row], fields={"problem": "q", "steps": "states.text", "labels": "states.p"})
    assert [step.text for step in dataset.X] == ["a.", "b."]
    assert "cut to what each adds: 1" in dataset.description


def test_one_text_needs_what_separates_its_steps():
    row = {"q": "5?", "s": "a.\n\nb.", "y": [True, False]}
    fields = {"problem": "q", "steps": "s", "labels": "y"}
    with pytest.raises(ValueError, match="pass step_separator="):
        load([row], fields=fields)
    assert load([row], fields=fields, step_separator="\n\n").solutions[0].steps == ("a.", "b.")


def test_ids_metadata_unlabelled_steps_names_with_dots_and_cells_of_a_table():
    row = {"q.text": "5?", "s": json.dumps([{"t": "a", "y": "good"}, {"t": "b"}]), "n": 7, "by": {"model": "M"}}
    fields = {"problem": "q.text", "steps": "s.t", "labels": "s.y", "id": "n", "generator": "by.model"}
    dataset = load([row], fields=fields)
    [solution] = dataset.solutions
    assert (solution.problem, solution.steps, solution.id) == ("5?", ("a", "b"), "7")
    assert solution.meta == {"generator": "M"}
    assert dataset.y.tolist() == [1]


def test_a_field_without_a_label_never_costs_a_row():
    rows = [
        {"q": "5?", "s": ["a"], "y": ["good"], "n": value, "by": {"model": value}} for value in (7, None, ["x"], {})
    ]
    rows.append({"q": "5?", "s": ["a"], "y": ["bad"]})
    fields = {"problem": "q", "steps": "s", "labels": "y", "id": "n", "generator": "by.model"}
    dataset = load(rows, fields=fields)
    assert dataset.y.tolist() == [1, 1, 1, 1, -1]
    assert [solution.id for solution in dataset.solutions] == ["7", "1", '["x"]', "{}", "4"]
    assert dataset.counts["records without by.model, which is no label"] == 1


@pytest.mark.parametrize(("fields", "reason"), [
    ({"problem": "q"}, "fields is .*at least steps"),
    ({"steps": "s"}, "one of labels and"),
    ({"steps": "s", "labels": "y", "first_error": "e"}, "one of labels and"),
    ({"steps": 3, "labels": "y"}, "fields is "),
    (["steps"], "fields is "),
    ({"steps": "t", "labels": "y"}, "record 0: without t: the fields are q, s, y"),
    ({"steps": "s", "labels": "q"}, "q is no list"),
    ({"steps": "o", "labels": "y"}, "without o"),
])  # fmt: skip
def test_what_cannot_be_read_says_why(fields, reason):
    with pytest.raises(ValueError, match=reason):
        load([{"q": "5?", "s": ["a"], "y": [True]}], fields=fields)


def test_objects_without_a_named_field_propose_one():
    row = {"q": "5?", "s": [{"number": 1, "body": "a"}], "y": [True]}
    with pytest.raises(ValueError, match=r"name the field in them: steps='s\.body'"):
        load([row], fields={"problem": "q", "steps": "s", "labels": "y"})


def test_a_format_knows_its_fields():
    with pytest.raises(ValueError, match="exclude each other"):
        load([{}], "rated", fields={"steps": "s", "labels": "y"})


def test_prmkit_convert_reads_by_fields(tmp_path):
    source, out = tmp_path / "mine.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"q": "5?", "r": {"s": ["a", "b"]}, "e": 2}))
    command = ["convert", str(source), str(out), "--to", "stepwise", "--fields", "problem=q,steps=r.s,first_error=e"]
    result = CliRunner().invoke(app, [*command, "--option", "base=1"])
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text()) == {"prompt": "5?", "completions": ["a", "b"], "labels": [True, False]}
    assert CliRunner().invoke(app, [*command, "--from", "flat", "--overwrite"]).exit_code != 0
    assert CliRunner().invoke(app, [*command[:-1], "problem", "--overwrite"]).exit_code != 0


class TestCandidates:
    @pytest.mark.parametrize(
        ("row", "correct", "answer"),
        [
            ({"problem": "5?", "completions": ["a\nb", "c\nd"], "answer": 5, "scores": [[1], [0]]}, (None, None), "5"),
            ({"question": "5?", "code": ["a\nb", "c\nd"], "gt": 5, "score": [True, False]}, (True, False), "5"),
            ({"problem": "5?", "generations": ["a\nb", "c\nd"], "correctness_math_verify": [0, 1]},
             (False, True), None),
            ({"question": "5?", "responses": ["a\nb", "c\nd"], "answer": "5"}, (None, None), "5"),
            ({"question": "5?", "pred": ["a\nb", "c\nd"], "answer": "5"}, (None, None), "5"),
            ({"question": "5?", "answers": ["a\nb", "c\nd"], "labels": [1, 0]}, (True, False), None),
        ],
    )  # fmt: skip
    def test_published_layouts(self, row, correct, answer):
        [one] = load_candidates([row])
        assert [solution.steps for solution in one.candidates] == [("a", "b"), ("c", "d")]
        assert (one.problem, one.is_correct, one.answer) == ("5?", correct, answer)

    def test_fields(self):
        row = {"task": {"text": "5?"}, "runs": [{"out": "a\nb", "ok": "correct"}, {"out": "c\nd", "ok": 0}], "gold": 5}
        fields = {"problem": "task.text", "candidates": "runs.out", "correct": "runs.ok", "answer": "gold"}
        [one] = load_candidates([row], fields=fields)
        assert (one.problem, one.is_correct, one.answer) == ("5?", (True, False), "5")
        with pytest.raises(ValueError, match=r"fields is .*candidates"):
            load_candidates([row], fields={"problem": "task.text"})
        with pytest.raises(ValueError, match="fields is "):
            load_candidates([row], fields={**fields, "texts": "runs.out"})

    def test_steps_stay_as_they_are(self):
        row = {"q": "5?", "c": [["a\nb", "The answer is 5."], ["c"]]}
        [one] = load_candidates([row], fields={"problem": "q", "candidates": "c"})
        assert [solution.steps for solution in one.candidates] == [("a\nb", "The answer is 5."), ("c",)]
        assert one.answers[0] == "5"

    def test_the_error_proposes_the_call(self):
        row = {"query": "5?", "outputs": [{"text": "a\nb", "is_correct": True}, {"text": "c\nd", "is_correct": False}]}
        fields = proposed(row, load_candidates)["fields"]
        assert load_candidates([row], fields=fields)[0].is_correct == (True, False)

    def test_labels_of_steps_are_no_candidates(self):
        for name in ("responses", "completions"):
            with pytest.raises(ValueError, match="fits no known format"):
                load([{"question": "5?", name: ["a", "b"], "labels": ["+", "-"]}])


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, -1.0, "+", "bad", "N/A", "1", "", "[", "{}"])
)
VALUES = st.recursive(
    PLAIN | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("tyse"), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    row=st.dictionaries(st.sampled_from(["q", "s", "y", "e"]), VALUES),
    steps=st.sampled_from(["s", "s.t", "s.s.t", "s.0", "y.t"]),
    verdict=st.sampled_from(["y", "s.y", "s.s.y", "e"]),
    kind=st.sampled_from(["labels", "first_error"]),
    base=st.sampled_from([0, 1]),
    labels=st.sampled_from([None, "binary", "rating", "soft"]),
)
def test_any_record_by_any_fields_is_read_or_refused_in_words(row, steps, verdict, kind, base, labels):
    fields = {"problem": "q", "steps": steps, kind: verdict}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        refused = None
        try:
            dataset = load([row], fields=fields, base=base, labels=labels)
        except ValueError as error:
            refused = str(error)
    if refused is not None:
        assert re.match(r"record 0: |no labelled step is left|.* holds 0, and nothing says", refused)
        return
    for y in dataset.y.tolist():
        assert y in (-1, 0, 1) or (labels in (None, "soft") and 0 <= y <= 1)
    if labels == "binary" and kind == "labels":
        assert set(dataset.y.tolist()) <= {-1, 1}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(row=st.dictionaries(st.sampled_from(["question", "steps", "labels", "error", "answers", "code"]), VALUES))
def test_proposals_never_fail(row):
    for function in (load, load_candidates):
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore", UserWarning)
            function([row])


SPELLINGS = {
    "booleans": ({True: True, False: False}, None),
    "numbers": ({True: 1, False: 0}, "binary"),
    "ratings": ({True: 1, False: -1}, "rating"),
    "signs": ({True: "+", False: "-"}, None),
    "words": ({True: "Correct", False: " wrong"}, None),
    "cells": ({True: "1", False: "0"}, "binary"),
}
LAYOUTS = {
    "lists": lambda q, s, y: ({"q": q, "s": s, "y": y}, "s", "y"),
    "objects": lambda q, s, y: ({"q": q, "s": [{"t": t, "y": v} for t, v in zip(s, y, strict=True)]}, "s.t", "s.y"),
    "inside": lambda q, s, y: ({"q": q, "r": {"out": {"s": s}, "y": y}}, "r.out.s", "r.y"),
    "several": lambda q, s, y: ({"q": q, "r": [{"s": s, "y": y}, {"s": s, "y": y}]}, "r.s", "r.y"),
    "numbered": lambda q, s, y: ({"q": q, "s": s, "y": {str(i): v for i, v in enumerate(y)}}, "s", "y"),
    "cells": lambda q, s, y: ({"q": q, "s": json.dumps(s), "y": json.dumps(y)}, "s", "y"),
    "arrays": lambda q, s, y: ({"q": q, "s": np.array(s), "y": tuple(y)}, "s", "y"),
}


NAMES = {
    "q": ("question", "problem_text", "prompt", "query"),
    "s": ("steps", "solution_steps", "response", "chain", "completions", "responses"),
    "t": ("text", "content", "step"),
    "y": ("labels", "step_scores", "is_correct", "ratings"),
    "r": ("out", "samples", "student"),
    "out": ("inner", "data"),
}


def renamed(value, names):
    """A record with other names of its fields."""
    if isinstance(value, dict):
        return {names.get(name, name): renamed(one, names) for name, one in value.items()}
    return [renamed(one, names) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "arrays"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    truth=st.lists(st.booleans(), min_size=2, max_size=4).filter(lambda labels: len(set(labels)) == 2),
    spelling=st.sampled_from(["booleans", "numbers", "ratings", "signs", "words"]),
    names=st.fixed_dictionaries({part: st.sampled_from(choices) for part, choices in NAMES.items()}),
    has_more=st.booleans(),
)
def test_what_is_proposed_reads_the_truth(layout, truth, spelling, names, has_more):
    """Fields of any names in any layout: the error proposes the call that reads them, or a known format does."""
    steps = [f"step {i} is said" for i in range(len(truth))]
    row, *_ = LAYOUTS[layout]("What is 5?", steps, [SPELLINGS[spelling][0][one] for one in truth])
    row = renamed(row, names)
    if has_more:
        row = {
            "question_id": "q 7",
            "generator": "a model",
            "n_steps": len(steps),
            **row,
            "final_answer": "5",
            "seed": 3,
        }
    expected = [(text, 1 if one else -1) for text, one in zip(steps, truth, strict=True)]
    said = ""
    try:
        dataset = load([row])
    except ValueError as error:
        said = str(error)
    if said and "fields=dict" not in said:  # a known format asks what its numbers mean, or knows no numbered labels
        assert "pass labels='" in said or "labels is no list" in said
        return
    if said:
        dataset = load([row], **proposed(row))
    read = [(step.text, y) for step, y in zip(dataset.X, dataset.y.tolist(), strict=True)]
    assert read == (expected * 2 if layout == "several" else expected)
    assert {step.problem for step in dataset.X} == {"What is 5?"}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    truth=st.lists(st.booleans() | st.none(), min_size=1, max_size=4).filter(lambda labels: set(labels) != {None}),
    spelling=st.sampled_from(sorted(SPELLINGS)),
)
def test_the_same_truth_in_every_layout_and_spelling(layout, truth, spelling):
    spelled, labels = SPELLINGS[spelling]
    steps = [f"step {i}" for i in range(len(truth))]
    row, at_steps, at_labels = LAYOUTS[layout]("5?", steps, [None if one is None else spelled[one] for one in truth])
    dataset = load([row], fields={"problem": "q", "steps": at_steps, "labels": at_labels}, labels=labels)
    expected = [(text, 1 if one else -1) for text, one in zip(steps, truth, strict=True) if one is not None]
    read = [(step.text, y) for step, y in zip(dataset.X, dataset.y.tolist(), strict=True)]
    assert read == expected * (2 if layout == "several" else 1)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 5),
    data=st.data(),
    base=st.sampled_from([0, 1]),
    spell=st.sampled_from([int, str, float, np.int64]),
)
def test_a_first_error_in_every_spelling(n, data, base, spell):
    first_error = data.draw(st.integers(-1, n - 1))
    value = spell(-1 if first_error < 0 else first_error + base) if spell is not str else str(first_error + base)
    value = "N/A" if first_error < 0 and spell is str else value
    row = {"q": "5?", "s": [f"step {i}" for i in range(n)], "e": value}
    dataset = load([row], fields={"problem": "q", "steps": "s", "first_error": "e"}, base=base)
    assert dataset.first_errors == [first_error]
    assert dataset.y.tolist() == ([1] * n if first_error < 0 else [1] * first_error + [-1])
