"""Answers are found where the marks are, also in real solutions."""

import json
import time

import pytest
from hypothesis import given, settings, strategies as st

from prmkit.data.answers.extraction import extract_answer, normal_answer

few = settings(deadline=None, max_examples=50, derandomize=True)


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        (r"so \boxed{\frac{\sqrt{2}}{2}}.", r"\frac{\sqrt{2}}{2}", "boxed"),
        (r"\boxed{3}, no: \boxed{4}", "4", "boxed"),
        (r"\boxed{\boxed{5}}", "5", "boxed"),
        (r"\boxed{3} and then \boxed{4", "3", "boxed"),
        (r"\fbox{7}", "7", "boxed"),
        (r"$\boxed 8$", "8", "boxed"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        ("The answer is 5.\n#### 1,234", "1,234", "hashes"),
        ("So\n#### 12 nuts\n\nQuestion: and now?", "12 nuts", "hashes"),
        ("#### Step 2: add\n4 + 5\n\n#### In all\nThe answer is 9.", "9", "sentence"),
        ("#### For June:\n4 + 5 = 9", "9", "last_number"),
        ("We think.\n#### blue", "blue", "hashes"),
        ("<think>Is it \\boxed{3}? No.</think>So it is 4.", "4", "last_number"),
        ("<think>It is \\boxed{3}.</think>That is all.", "3", "boxed"),
        ("Done.\n\n# Answer\n\n\\frac{3}{4}", r"\frac{3}{4}", "heading"),
        ("The answer is: 12", "12", "sentence"),
        ("First the answer is 3. Thus the answer is 3.14. Done", "3.14", "sentence"),
        ("The answer is $5.00 per day.", "$5.00 per day", "sentence"),
        ("**Answer:** 42", "42", "line"),
        ("2 + 2 = <<2+2=4>>4\nA: 4\n", "4", "line"),
        ("A: 1\nB: 2\nI choose 2", "2", "last_number"),
        ("-7 degrees", "-7", "last_number"),
        ("from 3-5", "5", "last_number"),
        ("it costs 1,234.50 dollars", "1,234.50", "last_number"),
        ("one in 3/4 of cases.", "3/4", "last_number"),
        ("it costs $48{,}250$ dollars", "48{,}250", "last_number"),
        (r"it costs \(48\,250\) dollars", r"48\,250", "last_number"),
        (r"it costs $1,\!048,\!250.75$", r"1,\!048,\!250.75", "last_number"),
        ("it costs 48\u202f250 Euro", "48\u202f250", "last_number"),
        (r"for 12\,5000 of them", "5000", "last_number"),
        (r"from 1234\,567 on", "567", "last_number"),
        ("so 1.5/3 of it", "3", "last_number"),
        ("nothing here", None, None),
        ("", None, None),
    ],
)
def test_rules(text, answer, rule):
    assert extract_answer(text) == (answer, rule)


def test_the_last_number_can_be_refused():
    assert extract_answer("we get 5", last_number=False) == (None, None)


def test_only_text():
    with pytest.raises(TypeError, match="join the steps"):
        extract_answer(["a", "b"])


@few
@given(st.text(alphabet="\\boxed{}#Anwris :\n*5,.A"))
def test_any_text_is_fine(text):
    answer, rule = extract_answer(text)
    assert (answer is None) == (rule is None)
    assert answer is None or answer.strip() == answer != ""


@pytest.mark.parametrize(
    "text",
    ["\\boxed{" * 20_000, "# Answer" + " " * 50_000, "answer is" + ": *" * 20_000, "1," * 50_000 + "x", "{" * 50_000],
)
def test_long_text_takes_no_time(text):
    start = time.perf_counter()
    extract_answer(text)
    assert time.perf_counter() - start < 2


def test_gsm8k_solutions(data_folder):
    """Correctness recomputed from answers is the published one, for all 2,800 candidates."""
    agree = total = 0
    for line in (data_folder / "gsm8k_solutions" / "example_model_solutions.jsonl").read_text().splitlines():
        record = json.loads(line)
        gold = normal_answer(extract_answer(record["ground_truth"]).answer)
        for candidate in record.values():
            if isinstance(candidate, dict):
                answer = extract_answer(candidate["solution"]).answer
                agree += (answer is not None and normal_answer(answer) == gold) == candidate["is_correct"]
                total += 1
    assert total == 2800
    assert agree == total


@pytest.mark.parametrize(
    "same",
    [
        ("0.5", r"\frac{1}{2}", r"\dfrac12", "1/2", "$.50", "2/4", "x = 0.5", r"\(\frac{1}{2}\)"),
        ("3/2", r"1\frac{1}{2}", "1 1/2", "1.5 cups"),
        ("1234", "1,234", r"1{,}234", r"1,\!234", r"\$1,234.00", "1234 apples", r"1234\text{ cm}^2", "1234."),
        ("-3/4", r"\frac{-3}{4}", r"-\frac{3}{4}", "−0.75"),
        ("300000", r"3\times 10^{5}", "3e5"),
        ("45", r"45^\circ", "45°", r"45\%"),
        ("(3,4)", r"\left(3, 4\right)", "(3, 4)"),
        ("Evelyn", r"\text{Evelyn}", "evelyn."),
        ("B", "(B)", "B."),
    ],
)
def test_one_spelling(same):
    assert len({normal_answer(text) for text in same}) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("5 million", "5"), ("12 and 13", "12"), ("1, 234", "1234"), ("(1,234)", "1234"), ("10 am", "10 pm"),
        ("2x", "2"), ("3/0", "3"), ("x", "X"), (r"2\pi", "2"), ("2^{10}", "210"), ("5 or 6", "5"),
    ],
)  # fmt: skip
def test_different_spellings(a, b):
    assert normal_answer(a) != normal_answer(b)
