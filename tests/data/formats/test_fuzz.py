"""Records as nobody should write them: a clear error with its place, or a counted skip, and never a wrong label."""

import contextlib
import copy
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.data import load, load_candidates
from prmkit.data.formats.registry import FORMATS

QUICK = settings(max_examples=50, deadline=None, derandomize=True)
CHAT = [("user", "2+3? 2+3 = 5."), ("assistant", "+"), ("user", "So 6."), ("assistant", "-")]
GOOD = {
    "stepwise": {"prompt": "2+3?", "completions": ["2+3 = 5.", "So 6."], "labels": [True, False]},
    "sdiehl": {"input": "2+3?", "value": ["2+3 = 5.", "So 6."], "label": ["+", "-"]},
    "math_shepherd": {
        "input": "2+3? Step 1: 2+3 = 5. ки\nStep 2: So 6. ки",
        "label": "2+3? Step 1: 2+3 = 5. +\nStep 2: So 6. -",
        "task": "GSM8K",
    },
    "openrlhf": {"input": "2+3? 2+3 = 5. [P] So 6. [P]", "value": ["+", "-"]},
    "rlhflow": {"conversations": [{"role": role, "content": text} for role, text in CHAT]},
    "flat": {"problem": "2+3?", "prefix": ["2+3 = 5."], "step": "So 6.", "label": "negative", "problem_id": "p"},
    "rated": {"problem": "2+3?", "steps": ["2+3 = 5.", "So 6."], "labels": [1, -1], "first_error": 1, "meta": {}},
    "prm800k": {
        "labeler": None,
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "2+3?", "ground_truth_answer": "5"},
        "label": {
            "steps": [
                {"completions": [{"text": "2+3 = 5.", "rating": 1, "flagged": False}], "chosen_completion": 0},
                {"completions": [{"text": "So 6.", "rating": -1, "flagged": False}], "chosen_completion": 0},
            ],
            "finish_reason": "found_error",
        },
    },
    "scan": {"question": "2+3?", "steps": ["2+3 = 5.", "So 6."], "scores": [1.0, 0.25]},
    "versaprm": {
        "question": "2+3?",
        "answer": "5",
        "chain_of_thoughts": [{"steps": ["2+3 = 5.", "So 6."], "labels": [1, -1]}, {"steps": ["5."], "labels": [1]}],
    },
    "math_aps": {
        "question": "2+3?",
        "final_answer": "5",
        "reasoning_steps": [
            {"solution_prefix": "2+3?\n\n\n2+3 = 5.", "mc_value": 0.5},
            {"solution_prefix": "2+3?\n\n\n2+3 = 5.\n\nSo 6.", "mc_value": 0.0},
        ],
    },
}  # fmt: skip
CANDIDATES = (
    {"question": "q", "answer": "14", "responses": [{"text": "a\nA: 14"}, {"text": "b"}]},
    {"prompt": "q", "answers": ["a", "b"], "label": [1, 0]},
    {"question": "q", "ground_truth": "A: 1", "6b": {"is_correct": True, "solution": "A: 1"}},
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -100, 0.0, 1.0, 0.5, -1.0, 1.5, float("nan"), float("inf")]),
    st.sampled_from(["", " ", "+", "-", "N/A", "1", "ки", "[P]", "Step 1:", "\0", "\ud800", "positive", "[", "user"]),
    st.sampled_from([[], {}, [[]], [{}], [None], ["+"], [True], [0.5], {"steps": []}, {"text": "a"}]),
    st.text(max_size=5),
)


def places(value, here=()):
    """Every place within a record."""
    yield here
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*here, key))


@st.composite
def mutated(draw, record):
    """A record with one to three places changed, taken out or doubled."""
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(places(record), key=repr)))
        if not path:
            return draw(ODD) if draw(st.booleans()) else record
        parent = record
        for key in path[:-1]:
            parent = parent[key]
        what = draw(st.sampled_from(["change", "remove", "double"]))
        if what == "change":
            parent[path[-1]] = copy.deepcopy(draw(ODD))
        elif what == "remove":
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[path[-1]]))
    return record


@pytest.mark.parametrize("layout", GOOD)
def test_exactly_one_layout_recognises_each_record(layout):
    assert [name for name, other in FORMATS.items() if other.recognises(GOOD[layout])] == [layout]


def said(layout, dataset):
    return [(step.problem, step.prefix, step.text, y) for step, y in zip(dataset.X, dataset.y.tolist(), strict=True)]


def test_every_layout_with_step_labels_is_tried():
    later = {"processbench", "prmbench", "reasoneval", "mr_gsm8k", "mr_ben", "big_bench_mistake"}
    later.add("verify_then_generate")
    assert set(GOOD) == set(FORMATS) - later, "those with a first error have a file of their own"


@pytest.mark.parametrize("layout", GOOD)
@QUICK
@given(data=st.data())
def test_mutated_records(tmp_path_factory, layout, data):
    good = GOOD[layout]
    records = [good, data.draw(mutated(good)), good]
    path = tmp_path_factory.mktemp("fuzz") / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    reference = said(layout, load(_file(path.parent, good), layout))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            raised = None
            dataset = load(path, layout)
        except ValueError as error:
            raised = str(error)
        if raised is not None and not _of_the_file(raised):
            assert re.match(rf"{re.escape(str(path))}, line 2: ", raised), raised
            dataset = load(path, layout, on_error="skip")
            assert sum(n for key, n in dataset.counts.items() if key.startswith("malformed")) == 1 or (
                "malformed: 1" in dataset.description
            )
        elif raised is not None:
            return
    rows = said(layout, dataset)
    if layout == "prm800k":  # merges equal solutions
        assert set(reference) <= set(rows)
    else:
        assert rows[: len(reference)] == reference
        assert rows[len(rows) - len(reference) :] == reference
    for *_, y in rows:
        assert y in (-1, 0, 1) or (isinstance(y, float) and 0 <= y <= 1)


def _file(folder, record):
    path = folder / "good.jsonl"
    path.write_text(json.dumps(record))
    return path


def _of_the_file(message):
    """Whether an error is about all rows together."""
    parts = ("mix probabilities", "labels='rating'", "nothing says what 0 means", "no labelled step")
    return any(part in message for part in parts)


RIGHT = ("+", "right", "correct", "good", "positive", "true", "yes", "1", "+1")
WRONG = ("-", "wrong", "incorrect", "bad", "negative", "false", "no", "-1")
WORDS = {**dict.fromkeys(RIGHT, 1), **dict.fromkeys(WRONG, -1), "neutral": 0}
LABELS = {
    "stepwise": ("labels", [(True, 1), (False, -1), (1, 1), (0, -1), ("+", 1), ("0", -1)]),
    "sdiehl": ("label", [("+", 1), ("-", -1), (" +", 1)]),
    "openrlhf": ("value", [("+", 1), ("-", -1), ("- ", -1)]),
    "rated": ("labels", [(1, 1), (0, 0), (-1, -1), (True, 1), (False, -1), ("+", 1), ("0", 0)]),
}


@pytest.mark.parametrize("layout", LABELS)
@QUICK
@given(data=st.data())
def test_labels_mean_what_they_say_or_nothing(layout, data):
    """Two labels of any kind: either both are known and read as declared, or the row is refused."""
    field, known = LABELS[layout]
    labels = [data.draw(st.sampled_from([label for label, _ in known]) | ODD) for _ in range(2)]
    record = {key: value for key, value in GOOD[layout].items() if key != "first_error"}
    record[field] = labels
    try:
        dataset = load([record], layout)
    except ValueError:
        return
    read = dict(zip((step.index for step in dataset.X), dataset.y.tolist(), strict=True))
    is_soft = any(isinstance(label, float) for label in labels)
    for i, label in enumerate(labels):
        if label is None:
            assert i not in read
        elif is_soft or (layout == "openrlhf" and not isinstance(label, str)):
            assert read[i] == label
            assert 0 <= label <= 1
        elif isinstance(label, str) and layout in ("stepwise", "rated") and label.strip() != "0":
            assert read[i] == WORDS[label.strip().casefold()]
        else:
            assert (type(label), label, read[i]) in [(type(one), one, rating) for one, rating in known]


@QUICK
@given(data=st.data())
def test_signs_of_math_shepherd_belong_to_their_step(data):
    """Steps full of signs, a stray tag, spaces or none: each label is that of its own step, or the row is rejected."""
    step = st.text("+- 1=к", max_size=6)
    steps = data.draw(st.lists(step, min_size=1, max_size=4))
    signs = data.draw(st.lists(st.sampled_from("+-"), min_size=len(steps), max_size=len(steps)))
    space = data.draw(st.sampled_from([" ", ""]))
    stray = data.draw(st.sampled_from(["", " ки"]))

    def joined(marks, before):
        lines = "\n".join(f"Step {i}: {s}{space}{m}" for i, (s, m) in enumerate(zip(steps, marks, strict=True), 1))
        return f"2+3?{before} {lines}"

    row = {"input": joined(["ки"] * len(steps), stray), "label": joined(signs, stray and " -")}
    dataset = load([row], "math_shepherd")
    assert [step.text for step in dataset.X] == [f"Step {i}: {s}".strip() for i, s in enumerate(steps, 1)]
    assert dataset.y.tolist() == [1 if sign == "+" else -1 for sign in signs]
    assert dataset.X[0].problem == "2+3?"


@pytest.mark.parametrize("good", CANDIDATES, ids=["pqm", "rlhflow", "gsm8k"])
@QUICK
@given(data=st.data())
def test_mutated_candidates(good, data):
    record = data.draw(mutated(good))
    raised = None
    try:
        sets = load_candidates([good, record])
    except ValueError as error:
        raised = str(error)
    if raised is not None:
        assert raised.startswith("record 1: ")
        with pytest.warns(UserWarning, match="1 malformed"):
            sets = load_candidates([good, record], on_error="skip")
        assert len(sets) == 1
    for one in sets:
        n = len(one.candidates)
        assert n == len(one.is_correct) == len(one.answers) == len(one.answer_keys) > 0
        assert set(one.is_correct) <= {True, False, None}


NOT_LABELS = {
    "stepwise": ("id", "source"),
    "sdiehl": ("id",),
    "math_shepherd": ("task", "id"),
    "openrlhf": ("id",),
    "rlhflow": ("id", "label"),
    "flat": ("problem_id", "id"),
    "rated": ("id", "final_answer", "source"),
    "prm800k": ("labeler", "generation", "timestamp"),
    "scan": ("id",),
    "versaprm": ("id", "domain", "category", "answer"),
    "math_aps": ("final_answer", "question_id"),
}


@QUICK
@given(layout=st.sampled_from(sorted(NOT_LABELS)), value=ODD, data=st.data())
def test_a_field_without_a_label_never_costs_a_row(layout, value, data):
    assert set(NOT_LABELS) == set(GOOD)
    record = {**GOOD[layout], data.draw(st.sampled_from(NOT_LABELS[layout])): value}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected, dataset = load([GOOD[layout]], layout), load([record])
    assert said(layout, dataset) == said(layout, expected)
    assert dataset.first_errors == expected.first_errors


@QUICK
@given(content=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(tmp_path_factory, content):
    for name in ("a.jsonl", "a.json", "a.csv"):
        path = tmp_path_factory.mktemp("bytes") / name
        path.write_bytes(content)
        with pytest.raises(ValueError):
            load(path)


OF_PYTHON = st.sampled_from(
    [np.array(["a", "b"]), np.array([1, 0]), np.array([[1, 2]]), np.float32(0.5), np.int64(1), np.str_("a"),
     np.array(None), pd.NA, pd.NaT, b"x", {1, 2}, (1, "a"), 1j, float, {2: "a"}, np.datetime64("2020")]
)  # fmt: skip


@pytest.mark.parametrize("layout", [None, *GOOD, "candidates"])
@QUICK
@given(data=st.data())
def test_values_of_python_numpy_and_pandas(layout, data):
    """Anything may stand in a record that is no file: it is read as JSON would be, or refused in words."""
    good = CANDIDATES[1] if layout == "candidates" else GOOD[layout or "stepwise"]
    record = copy.deepcopy(good)
    path = data.draw(st.sampled_from([one for one in sorted(places(record), key=repr) if one]))
    parent = record
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = data.draw(OF_PYTHON)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for on_error in ("raise", "skip"):
            with contextlib.suppress(ValueError):
                if layout == "candidates":
                    load_candidates([good, record], on_error=on_error)
                else:
                    dataset = load([good, record], layout, on_error=on_error)
                    assert all(-1 <= label <= 1 for label in dataset.y.tolist())
