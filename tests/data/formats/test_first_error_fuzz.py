"""Damaged records of the first-error layouts: named or skipped, never another error, never a label of our own."""

import ast
import copy
import re
import warnings

import pytest
from hypothesis import assume, given, settings, strategies as st

from prmkit.data.formats.reading import iter_labelled, read
from prmkit.data.formats.registry import FORMATS

STEPS = ["3 * 4 = 12.", "2 + 12 = 15.", "So 15."]
VERDICT = {
    "model_output_solution_correctness": "wrong",
    "model_output_solution_first_error_step": "2",
    "model_output_answer_correctness": "wrong",
}
MR_BEN_RECORD = {
    "Question_UUID": "q1",
    "Subject": "math",
    "Question": "2 + 3 * 4?",
    "Options": "A: 14",
    "Ground_Truth_Answer": "A",
    "Sampled_Model": "M",
    "Model_Solution_Steps": ["3 * 4 = 12.", "", "2 + 12 = 15."],
    "Model_Solution_Correctness": "incorrect",
    "Model_Solution_First_Error_Step": "2",
}
RECORDS = {
    "processbench": {
        "id": "a",
        "generator": "M",
        "problem": "2 + 3 * 4?",
        "steps": STEPS,
        "final_answer_correct": False,
        "label": 1,
    },
    "prmbench": {
        "idx": "demo_3",
        "classification": "circular",
        "question": "2 + 3 * 4?",
        "original_question": "2 + 3 * 4?",
        "modified_question": "2 + 3 * 4?",
        "original_process": STEPS[:2],
        "modified_process": STEPS,
        "modified_steps": [1, 2],
        "error_steps": [1, 3],
    },
    "invalid": {
        "id": 4,
        "question": "2 + 3 * 4?",
        "ground_truth_answer": "14",
        "generator": "X",
        "model_output_step_format": [[step] for step in STEPS],
        **VERDICT,
    },
    "redundant": {
        "id": 5,
        "question": "2 + 3 * 4?",
        "model_output_step_format": [["We begin."], STEPS],
        "rating": [0, 1],
    },
    "perturbation": {
        "id": 6,
        "rid": 9,
        "question": "2 + 3 * 4?",
        "reference_steps": ["3 * 4 = 17.", *STEPS[1:]],
        "hypothesis_steps": STEPS,
        "error_type": "random number",
        "tags": 0,
    },
    "mr_gsm8k": {
        "uuid": "u1",
        "question": "2 + 3 * 4?",
        "ground_truth_answer": 14,
        "question_type": "POT",
        "model_output_steps": STEPS,
        **VERDICT,
    },
    "mr_gsm8k text": {"question": "2 + 3 * 4?", "model_output_steps": "\n".join(STEPS), **VERDICT},
    "mr_ben": MR_BEN_RECORD,
    "mr_ben code": {
        **MR_BEN_RECORD,
        "Model_Solution_Steps": "a = 3\n\nb = 4\nprint(a)",
        "Model_Solution_First_Error_Step": "b = 4",
    },
    "big_bench_mistake": {"input": "2 + 3 * 4?", "steps": STEPS, "answer": "15", "target": "14", "mistake_index": 1},
    "verify_then_generate": {
        "problem": "2 + 3 * 4?",
        "topic": "Word problems",
        "student_incorrect_solution": STEPS,
        "incorrect_index": 1,
        "incorrect_step": STEPS[1],
        "error_category": "Calculation",
    },
}
LAYOUTS = {
    "processbench": FORMATS["processbench"],
    "prmbench": FORMATS["prmbench"],
    "invalid": FORMATS["reasoneval"],
    "redundant": FORMATS["reasoneval"],
    "perturbation": FORMATS["reasoneval"],
    "mr_gsm8k": FORMATS["mr_gsm8k"],
    "mr_gsm8k text": FORMATS["mr_gsm8k"],
    "mr_ben": FORMATS["mr_ben"],
    "mr_ben code": FORMATS["mr_ben"],
    "big_bench_mistake": FORMATS["big_bench_mistake"],
    "verify_then_generate": FORMATS["verify_then_generate"],
}
DISTINCT = {layout.name: layout for layout in LAYOUTS.values()}
OTHERS = [
    {"input": "2 + 3?", "value": ["2 + 3 = 5."], "label": ["+"]},
    {"prompt": "2 + 3?", "completions": ["2 + 3 = 5."], "labels": [True]},
    {"prompt": "2 + 3?", "answers": ["2 + 3 = 5."], "label": [1]},
    {"input": "2 + 3? Step 1: 5 ки", "label": "2 + 3? Step 1: 5 +", "task": "GSM8K"},
    {"input": "2 + 3? 5 [P]", "value": ["+"]},
    {"conversations": [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "+"}]},
    {"question": {"problem": "2 + 3?"}, "label": {"steps": []}},
    {"question": "2 + 3?", "answer": "5", "responses": [{"text": "5"}]},
    {"question": "2 + 3?", "ground_truth": "#### 5", "m": {"is_correct": True, "solution": "5"}},
    {"text": "2 + 3 = 5.", "label": 1},
    {"problem": "2 + 3?", "prefix": [], "step": "5", "label": -1, "problem_id": "p1"},
    {"id": "a", "problem": "2 + 3?", "steps": ["5"], "labels": [1], "first_error": -1, "meta": {}},
    {"question": "2 + 3?", "steps": ["5"], "scores": [1.0]},
    {"question": "2 + 3?", "answer": "5", "chain_of_thoughts": [{"steps": ["5"], "labels": [1]}]},
    {"question": "2 + 3?", "reasoning_steps": {"text": "2 + 3?", "mc_value": 1.0, "children": []}},
]
"""One record of each other layout."""

_nonsense = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 5)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["", " ", "N/A", "1", "2", "3 ", "9", "correct", "wrong", "circular", "random number", "ки"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@st.composite
def _damaged(draw, record):
    """A record after up to three accidents: a field lost, gained, retyped, or altered deep inside."""
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["drop", "retype", "shift", "inside", "inside", "add", "swap", "whole"]))
        if kind == "whole":
            return draw(_nonsense)
        if not record:
            return record
        name = draw(st.sampled_from(sorted(record)))
        value = record[name]
        if kind == "drop":
            del record[name]
        elif kind == "retype":
            record[name] = draw(st.sampled_from([str(value), [value], {"text": value}]) | _nonsense)
        elif kind == "shift" and isinstance(value, (int, str)) and str(value).isdigit():
            record[name] = type(value)(int(value) + draw(st.integers(-3, 3)))
        elif kind == "inside" and isinstance(value, list):
            i = draw(st.integers(0, len(value)))
            value[i : i + draw(st.integers(0, 1))] = draw(st.lists(_nonsense, max_size=1))
        elif kind == "add":
            record[draw(st.text(max_size=3) | st.sampled_from(["labels", "rating", "step"]))] = draw(_nonsense)
        elif kind == "swap":
            other = draw(st.sampled_from(sorted(record)))
            record[name], record[other] = record[other], record[name]
    return record


def _first(first_error, steps):
    return [1 if first_error < 0 or i < first_error else -1 if i == first_error else None for i in range(len(steps))]


def _number(value):
    return -1 if str(value).strip() == "N/A" else int(value) - 1


LISTS = ("steps", "original_process", "modified_process", "error_steps", "student_incorrect_solution", "rating")
LISTS += ("reference_steps", "hypothesis_steps")


def _meant(layout, record):
    """What an accepted record says, read as plainly as can be: steps and labels of each solution."""
    # A cell of a table writes a list as text.
    cells = {name: record[name] for name in LISTS if isinstance(record.get(name), str)}
    record = {**record, **{name: ast.literal_eval(text) for name, text in cells.items()}}
    if layout is FORMATS["processbench"]:
        return [(record["steps"], _first(record["label"], record["steps"]))]
    if layout is FORMATS["verify_then_generate"]:
        steps, index = record["student_incorrect_solution"], record["incorrect_index"]
        if isinstance(quoted := record.get("incorrect_step"), str):
            assert steps[index].strip() == quoted.strip()
        return [(steps, _first(index, steps))]
    if layout is FORMATS["big_bench_mistake"]:
        index = record["mistake_index"]
        return [(record["steps"], _first(-1 if index is None else index, record["steps"]))]
    if layout is FORMATS["prmbench"]:
        steps, wrong = record["modified_process"], record["error_steps"]
        modified = [(steps, [-1 if i + 1 in wrong else 1 for i in range(len(steps))])]
        has_error = any(i <= len(steps) for i in wrong) or record["classification"].strip() == "multi_solutions"
        return modified * has_error + [(record["original_process"], [1] * len(record["original_process"]))]
    if layout is FORMATS["mr_gsm8k"]:
        given, error = record["model_output_steps"], _number(record["model_output_solution_first_error_step"])
        assert record["model_output_solution_correctness"].strip() == ("wrong" if error >= 0 else "correct")
        steps = [s for s in given.split("\n") if s.strip()] if isinstance(given, str) else given
        return [([s.rstrip() if isinstance(given, str) else s for s in steps], _first(error, steps))]
    if layout is FORMATS["mr_ben"]:
        given, error = record["Model_Solution_Steps"], record["Model_Solution_First_Error_Step"]
        steps = [s for s in (given.split("\n") if isinstance(given, str) else given) if s.strip()]
        if isinstance(given, str) and error.strip() != "N/A":
            index = [s.strip() for s in steps].index(error.strip())
        else:
            index = _number(error)
        assert record["Model_Solution_Correctness"].strip() == ("incorrect" if index >= 0 else "correct")
        return [(steps, _first(index, steps))]
    if "hypothesis_steps" in record and "tags" in record:
        steps, tags = record["hypothesis_steps"], record["tags"]
        if not record["error_type"].strip().startswith("random"):
            return [(steps, [None] * len(steps))]
        return [(steps, _first(tags[0] if isinstance(tags, list) else tags, steps))]
    steps = ["\n".join(block) for block in record["model_output_step_format"]]
    if "rating" in record:
        return [(steps, record["rating"])]
    error = _number(record["model_output_solution_first_error_step"])
    assert record["model_output_solution_correctness"].strip() == ("wrong" if error >= 0 else "correct")
    return [(steps, _first(error, steps))]


@pytest.mark.parametrize("name", RECORDS)
@settings(deadline=None, max_examples=150, derandomize=True)
@given(data=st.data())
def test_damage_is_named_or_skipped_and_never_becomes_a_label(name, data):
    layout, whole = LAYOUTS[name], RECORDS[name]
    damaged = data.draw(_damaged(whole))
    assume(not (isinstance(damaged, str) and "/" in damaged))  # it may be the name of a data set on the hub
    before = copy.deepcopy(damaged)
    error = None
    try:
        found = list(iter_labelled([damaged], layout))
    except ValueError as caught:
        error = str(caught)
    assert repr(damaged) == repr(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        dataset = read([damaged, whole], layout, on_error="skip")
    skipped = sum(n for key, n in dataset.counts.items() if key.startswith("malformed: "))
    assert dataset.counts["records"] == 2
    assert skipped == (error is not None)
    if error is not None:
        assert re.match(r"record 0: .+: (.|\n)+ Pass on_error='skip'", error)
        return
    meant = [(tuple(steps), tuple(ratings)) for steps, ratings in _meant(layout, damaged)]
    assert [(one.solution.steps, one.ratings) for one in found] == meant
    for one in found:
        rated = [i for i, rating in enumerate(one.ratings) if rating == -1]
        nothing_known = all(rating is None for rating in one.ratings)
        assert one.first_error == (None if nothing_known else rated[0] if rated else -1)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(data=st.data(), name=st.sampled_from(["invalid", "redundant"]))
def test_split_blocks_agree_with_joined_ones(data, name):
    damaged = data.draw(_damaged(RECORDS[name]))
    try:
        [joined] = iter_labelled([damaged], FORMATS["reasoneval"])
    except ValueError:
        with pytest.raises(ValueError, match="record 0: "):
            list(iter_labelled([damaged], FORMATS["reasoneval"], blocks="split"))
        return
    [split] = iter_labelled([damaged], FORMATS["reasoneval"], blocks="split")
    of_block, of_step = split.solution.meta["block_ratings"], split.solution.meta["block_of_step"]
    assert tuple(of_block) == joined.ratings
    assert "\n".join(split.solution.steps) == "\n".join(joined.solution.steps)
    for rating, block in zip(split.ratings, of_step, strict=True):
        assert rating in (None, of_block[block])
        assert rating == of_block[block] or of_step.count(block) > 1


@pytest.mark.parametrize("layout", DISTINCT.values(), ids=DISTINCT)
def test_only_its_own_records_are_recognised(layout):
    for name, record in RECORDS.items():
        assert layout.recognises(record) is (LAYOUTS[name] is layout), name
    for record in [*OTHERS, None, 3, "text", [], {}]:
        assert not layout.recognises(record)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(data=st.data(), name=st.sampled_from(sorted(RECORDS)))
def test_recognising_never_fails_and_reads_no_damage_as_two_layouts(data, name):
    damaged = data.draw(_damaged(RECORDS[name]))
    fitting = {layout.name for layout in LAYOUTS.values() if layout.recognises(damaged)}
    assert fitting <= {LAYOUTS[name].name}
