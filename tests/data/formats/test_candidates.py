"""Best-of-N files: order kept, correctness as stated, steps cut as declared."""

import warnings
from collections import Counter

import pytest

from prmkit.data import load_candidates
from prmkit.data.answers.extraction import normal_answer

PQM = {"question": "What is 2+3*4?", "answer": "14", "responses": [{"text": "3*4 = 12.\n2+12 = 14."}, {"text": "x"}]}
RLHFLOW = {"prompt": "What is 2+3*4?", "answers": ["3*4 = 12.\n\nSo 14.\nA: 14.0", "A: 20"], "label": [1, 0]}
GSM8K = {
    "question": "What is 1,000+2?",
    "ground_truth": "1000+2 = <<1000+2=1002>>1002\nA: 1002",
    "6b_finetuning": {"is_correct": True, "solution": "1000+2 = <<1000+2=1002>>1002\n#### 1,002"},
    "175b_verification": {"is_correct": False, "solution": "Let us see.\n\n1+2 = 3"},
}


def test_pqm():
    [one] = load_candidates([PQM])
    assert (one.problem, one.answer, one.is_correct) == ("What is 2+3*4?", "14", (None, None))
    assert [solution.steps for solution in one.candidates] == [("3*4 = 12.", "2+12 = 14."), ("x",)]
    assert one.answer_keys == (None, None)


@pytest.mark.parametrize("name", ["label", "labels"])
def test_rlhflow(name):
    row = {("labels" if key == "label" else key): value for key, value in RLHFLOW.items()}
    [one] = load_candidates([RLHFLOW if name == "label" else row])
    assert one.is_correct == (True, False)
    assert (one.answers, one.answer_keys) == (("14.0", "20"), ("14", "20"))


def test_gsm8k():
    counts = Counter()
    [one] = load_candidates([GSM8K], counts=counts)
    assert [solution.meta["generator"] for solution in one.candidates] == ["6b_finetuning", "175b_verification"]
    assert one.is_correct == (True, False)
    assert (one.answer, one.answers, one.answer_keys) == ("1002", ("1,002", None), ("1002", None))
    assert one.candidates[0].steps[0] == "1000+2 = <<1000+2=1002>>1002", "marks stay unless asked"
    assert one.candidates[1].steps == ("Let us see.", "1+2 = 3")
    assert counts["candidates without an answer"] == 1
    assert counts["blank steps dropped"] == 0, "a blank line is no step"


def test_blank_steps_are_dropped_and_counted():
    counts = Counter()
    lists = {"prompt": "p", "answers": [["a", " ", "b"]]}
    assert load_candidates([lists], counts=counts)[0].candidates[0].steps == ("a", "b")
    mark = {"prompt": "p", "answers": ["a\n<<1+1=2>>\nb"]}
    assert load_candidates([mark], keep_calculator_marks=False, counts=counts)[0].candidates[0].steps == ("a", "b")
    assert counts["blank steps dropped"] == 2


def test_calculator_marks_go_on_request():
    [one] = load_candidates([GSM8K], keep_calculator_marks=False)
    assert one.candidates[0].steps == ("1000+2 = 1002", "#### 1,002")
    text = "if 1 << 2 and 3 >> 1 then <<1<2>>"
    [one] = load_candidates([{"prompt": "p", "answers": [text]}], keep_calculator_marks=False)
    assert one.candidates[0].steps == (text,), "a shift is no mark"


@pytest.mark.parametrize(
    ("by", "steps"),
    [
        ("line", ("Step 1: a", "b", "Step 2: c", "see Step 3: d")),
        ("paragraph", ("Step 1: a\nb", "Step 2: c\nsee Step 3: d")),
        ("enumeration", ("Step 1: a\nb", "Step 2: c\nsee Step 3: d")),
        ("sentence", ("Step 1: a", "b", "Step 2: c", "see Step 3: d")),
    ],
)
def test_units_of_steps(by, steps):
    row = {"prompt": "p", "answers": ["Step 1: a\nb\n \nStep 2: c\nsee Step 3: d\n"]}
    assert load_candidates([row], by=by)[0].candidates[0].steps == steps


def test_own_rules_for_answers():
    [one] = load_candidates([PQM], extract=lambda text: text.split()[-1], answer_key=str.upper)
    assert (one.answers, one.answer_keys) == (("14.", "x"), ("14.", "X"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({**PQM, "responses": []}, "no candidates"),
        ({**PQM, "responses": [7]}, "responses holds no strings"),
        ({**PQM, "responses": [{"text": " \n"}]}, "blank candidate"),
        ({**PQM, "answer": ["14"]}, "answer is no text"),
        ({**RLHFLOW, "label": [1]}, "unequal lengths"),
        ({**RLHFLOW, "label": [1, 2]}, "unknown label"),
        ({**RLHFLOW, "answers": []}, "no candidates"),
        ({**GSM8K, "6b_finetuning": {"is_correct": True}}, "without solution"),
        ({"question": "p", "ground_truth": "A: 1"}, "no candidates"),
        ([], "no object"),
    ],
)
def test_bad_rows(row, reason):
    with pytest.raises(ValueError, match=f"record 1: {reason}"):
        load_candidates([PQM, row])
    with pytest.warns(UserWarning, match="1 malformed"):
        assert len(load_candidates([PQM, row], on_error="skip")) == 1


@pytest.mark.parametrize("options", [{"by": "word"}, {"on_error": "x"}, {"limit": 0}])
def test_unknown_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        load_candidates([PQM], **options)


def test_gsm8k_solutions(data_folder):
    sets = load_candidates(data_folder / "gsm8k_solutions" / "example_model_solutions.jsonl")
    assert len(sets) == 700
    assert {len(one.candidates) for one in sets} == {4}
    assert sum(None in one.is_correct or one.answer is None for one in sets) == 0
    # What is stated to be correct is what has the reference's key.
    pairs = [
        (key == normal_answer(one.answer), correct)
        for one in sets
        for key, correct in zip(one.answer_keys, one.is_correct, strict=True)
    ]
    assert sum(same == correct for same, correct in pairs) == len(pairs)
    assert load_candidates(data_folder / "gsm8k_solutions", limit=3) == sets[:3]


@pytest.mark.parametrize(
    "head",
    ["# STEP {}", "#### Step {} -", "**step {}**", "__Step {}:__", "- Step {}) then", "  Step {}. then", "> Step {}:"],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_headings_of_steps_in_markdown_and_capitals(head, newline):
    text = "\n\n".join(f"{head.format(i)}\n{i} + 2 = {i + 2}." for i in (1, 2, 3)).replace("\n", newline)
    [one] = load_candidates([{"prompt": "p", "answers": [text]}], by="enumeration")
    assert one == load_candidates([{"prompt": "p", "answers": [text]}], "step")[0]
    assert len(one.candidates[0].steps) == 3


def test_words_about_a_step_are_no_heading():
    text = "Step 1: a\nStep 2 says so.\nsteps 3: b\nStep two: c"
    with pytest.warns(UserWarning, match="1 of 1 candidates have one step only with by='enumeration'"):
        [one] = load_candidates([{"prompt": "p", "answers": [text]}], by="enumeration")
    assert one.candidates[0].steps == (text,)


def test_paragraphs_and_lines_of_windows():
    row = {"prompt": "p", "answers": ["a\r\nb\r\n \r\nc"]}
    assert load_candidates([row], "paragraph")[0].candidates[0].steps == ("a\r\nb", "c")
    assert load_candidates([row], "line")[0].candidates[0].steps == ("a", "b", "c")


def test_a_warning_says_that_most_candidates_have_one_step():
    few, many = {"prompt": "p", "answers": ["a", "b", "c\nd"]}, {"prompt": "p", "answers": ["a\nb", "b", "c\nd"]}
    with pytest.warns(
        UserWarning,
        match="2 of 3 candidates have one step only with by='line'. .* in none with another unit. Pass a function",
    ):
        load_candidates([few])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_candidates([many])


def test_the_warning_says_what_would_cut_the_texts():
    rows = [{"prompt": "p", "answers": ["a is 1.\nb is 2.", "First a. Then b.", "Step 1: c\nd", "e"]}]
    with pytest.warns(
        UserWarning,
        match="4 of 4 candidates have one step only with by='paragraph'. Of 4 such texts, "
        "several steps are found in 2 with by='line', 3 with by='sentence'. Pass by='line'",
    ):
        load_candidates(rows, by="paragraph")
    with pytest.warns(UserWarning, match="1 of 1 candidates have one step only: they are lists of one step"):
        load_candidates([{"prompt": "p", "answers": [["a"]]}])


def test_a_function_splits_a_text():
    [one] = load_candidates([{"prompt": "p", "answers": ["a; b;"]}], lambda text: text.split(";"))
    assert one.candidates[0].steps == ("a", "b")


def test_thoughts_are_kept_left_out_or_taken_alone():
    rows = [{"prompt": "p", "answers": ["<think>a\nb</think>c\nA: 1", "<think>d\ne"], "label": [1, 0]}]
    steps = [one.steps for one in load_candidates(rows)[0].candidates]
    assert steps == [("<think>a", "b</think>", "c", "A: 1"), ("<think>d", "e")]
    assert [one.steps for one in load_candidates(rows, think="only")[0].candidates] == [("a", "b"), ("d", "e")]
    with pytest.warns(UserWarning, match="1 of 2 candidates are blank"):
        [one] = load_candidates(rows, think="drop")
    assert ([each.steps for each in one.candidates], one.answers) == ([("c", "A: 1")], ("1",))


def test_a_blank_candidate_costs_itself():
    counts = Counter()
    rows = [{"prompt": "p", "answers": ["a\nb\nA: 1", " \n", "c\nd"], "label": [1, 0, 0]}, RLHFLOW]
    with pytest.warns(UserWarning, match="1 of 5 candidates are blank and were left out: record 0, candidate 1"):
        sets = load_candidates(rows, counts=counts)
    assert [solution.id for solution in sets[0].candidates] == ["0/0", "0/2"]
    assert (sets[0].is_correct, sets[0].answers) == ((True, False), ("1", None))
    assert (counts["blank candidates left out"], counts["candidates"]) == (1, 4)


@pytest.mark.parametrize("text", ["<<" + "=" * 100_000, "<<1=" * 50_000, "step " * 50_000, "\n \t" * 50_000 + "a"])
def test_no_text_takes_long_to_cut(text):
    """Each of these would take hours if some expression read it again and again."""
    for by in ("line", "paragraph", "enumeration", "sentence"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            load_candidates([{"prompt": "p", "answers": [text]}], by=by, keep_calculator_marks=False)
