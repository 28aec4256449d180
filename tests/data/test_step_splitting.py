"""Texts are cut into steps: nothing lost, no blank step, formulas and code whole, also of real solutions."""

import gzip
import json
import time

import pytest
from hypothesis import given, settings, strategies as st

from prmkit import Solution
from prmkit.data import split_steps, step_offsets

BY = ("paragraph", "line", "enumeration", "sentence")
PIECES = (
    "\n", "\r\n", "\r", "\n\n", "\x85", "\u2028", "\u2029", "\v", "\x1c", " ", "\t", "\xa0", "\u3000", "a", "B", "1",
    "3.14", ".", ". ", "!", "?", "…", "。", "e.g. ", "1. ", "2) ", "Step 1: ", "## STEP 2\n", "**", "|", "|-|\n",
    "| a |\n", "$", "$$", "$$\n", "\\[", "\\]", "\\(", "\\)", "\\\\", "\\begin{x}", "\\end{x}", "```\n", "~~~\n", "`",
    "> ", "<think>", "</think>", "e\u0301", "👩‍🔬", "\ud800", "\U0001d465",
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=30).map("".join)


@pytest.mark.parametrize("by", BY)
@settings(max_examples=50, deadline=None)
@given(text=TEXTS)
def test_offsets_hold_all_that_is_not_white_space(by, text):
    for think in ("keep", "drop", "only"):
        offsets = step_offsets(text, by, think=think)
        steps = [text[start:end] for start, end in offsets]
        assert steps == split_steps(text, by, think=think)
        assert Solution.from_text("p", text, by=by, think=think).steps == tuple(steps)
        assert all(step == step.strip() and step for step in steps)
        edges = [0, *(edge for offset in offsets for edge in offset), len(text)]
        assert edges == sorted(edges)
        if think == "keep":
            assert "".join("".join(steps).split()) == "".join(text.split())


@settings(max_examples=50, deadline=None)
@given(text=TEXTS)
def test_thoughts_and_the_rest_are_the_whole_text(text):
    parts = [char for think in ("only", "drop") for step in split_steps(text, think=think) for char in step]
    tags = "<think>" * text.count("<think>") + "</think>" * text.count("</think>")
    kept, left = sorted("".join("".join(parts).split())), sorted("".join(text.split()))
    # An opening tag inside a thought is text of it.
    assert sorted(left) == sorted([*kept, *tags]) or text.count("<think>") > 1


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\u2028", "\x85"])
def test_lines_and_paragraphs_of_every_system(newline):
    text = f"a{newline}b{newline} {newline}{newline}c"
    assert split_steps(text) == [f"a{newline}b", "c"]
    assert split_steps(text, "line") == ["a", "b", "c"]
    assert split_steps(f"Step 1: a{newline}b{newline}Step 2: c", "enumeration") == [f"Step 1: a{newline}b", "Step 2: c"]
    assert split_steps("a\u2029b") == ["a", "b"], "a paragraph separator"
    assert split_steps("so \x0crac{1}{2}", "line") == ["so \x0crac{1}{2}"], "a broken \\frac is no end of a line"


@pytest.mark.parametrize(
    "block",
    [
        "$$\nx = 1\n\n+ 2\n$$",
        "$$ x\n\n= 1 $$",
        "\\[\na \\\\[2pt]\n\nb\n\\]",
        "\\begin{align*}\na &= b\n\nc\n\\end{align*}",
        "\\begin{cases}\n\\begin{array}{c}\n1\n\n\\end{array}\n\n2\n\\end{cases}",
        "```python\nx = 1\n\n# Step 2: print\nprint(x)\n```",
        "~~~~\na\n\n~~~\n```\n\nb\n~~~~",
        "   ```\n   a\n\n   b\n   ```",
        "- ```\n  a\n\n  b\n  ```",
        "| x | y |\n|---|:-:|\n| 1 | 2. Then 3 |",
        "x | y\n- | -\n1 | 2",
    ],
)
def test_formulas_code_and_tables_stay_whole(block):
    for by in BY:
        steps = split_steps(f"First.\n\n{block}\n\nStep 2: Last.", by)
        assert sum(block.strip() in step for step in steps) == 1, (by, steps)
    assert split_steps(f"First.\n{block}\nLast.", "line") == ["First.", block.strip(), "Last."]


@pytest.mark.parametrize(
    "text",
    [
        "costs $$5 here\n\nand $$6",
        "\\[ x\n\nb",
        "\\begin{align} x\n\n\\end{array}",
        "x \\] y\n\n\\[",
        "\\\\[2pt]\n\n\\]",
        "```x``` is code\n\nb",
        "a | b\n\n|-|",
        "$$\n\n$$x = 1$$",
    ],
)
def test_what_is_never_closed_joins_nothing(text):
    assert len(split_steps(text)) == 2


def test_formulas_that_follow_each_other():
    text = "We have $$\na\n\nb\n$$ and $$\nc\n\nd\n$$ so.\n\nNext"
    assert split_steps(text) == [text[: text.index("\n\nNext")], "Next"]


def test_code_that_is_never_closed_goes_to_the_end():
    assert split_steps("a\n\n```py\nb\n\nc\n\n") == ["a", "```py\nb\n\nc"]
    assert split_steps("<think>a\n\n```py\nb\n\nc</think>d\n\ne", think="drop") == ["d", "e"], (
        "but not out of a thought"
    )


@pytest.mark.parametrize(
    ("text", "keep", "drop", "only"),
    [
        ("<think>\n\na\n\nb\n</think>\n\nc\n\nd", ["<think>\n\na", "b\n</think>", "c", "d"], ["c", "d"], ["a", "b"]),
        ("<think>a</think>b", ["<think>a</think>", "b"], ["b"], ["a"]),
        ("<think>\n\n</think>\n\na", ["<think>\n\n</think>", "a"], ["a"], []),
        (" a\n\nb</think>c", ["a", "b</think>", "c"], ["c"], ["a", "b"]),
        ("<think>a\n\nb", ["<think>a", "b"], [], ["a", "b"]),
        ("a<think>", ["a", "<think>"], ["a"], []),
        ("</think>a", ["</think>", "a"], ["a"], []),
        ("a<think>b</think> <think>d</think>", ["a", "<think>b</think>", "<think>d</think>"], ["a"], ["b", "d"]),
        ("a\n\nb", ["a", "b"], ["a", "b"], []),
    ],
)  # fmt: skip
def test_thoughts(text, keep, drop, only):
    assert split_steps(text) == keep
    assert split_steps(text, think="drop") == drop
    assert split_steps(text, think="only") == only


@pytest.mark.parametrize(
    "head",
    ["# STEP {}", "### Step {} -", "**step {}**", "__Step {}:__", "- Step {}) so", "> Step {}: so", "**Step {}.** so",
     "[Step {}] so", "Step #{}: so", "Step {} — so", "{}. so", "{}) so", "({}) so", "**{}.** so", "### {}. so"],
)  # fmt: skip
def test_headings_and_numbers(head):
    parts = ["Let us begin.", *(f"{head.format(i)}\nx = {i}\n\nand {i + 1}" for i in (9, 10, 11))]
    assert split_steps("\n".join(parts), "enumeration") == parts


def test_enumerations_inside_a_step():
    text = "1. a\n   1. b\n   2. c\n2. d\n\nSo 5."
    assert split_steps(text, "enumeration") == ["1. a\n   1. b\n   2. c", "2. d\n\nSo 5."]
    text = "Step 1: a\n1. b\n2. c\nas Step 1 says.\nStep 2 says more.\nStep 2: d"
    assert split_steps(text, "enumeration") == [text[: text.index("\nStep 2:")], "Step 2: d"]
    assert split_steps("3.5 is x\n2024. y\n12.\n-1) z", "enumeration") == ["3.5 is x\n2024. y\n12.\n-1) z"]


@pytest.mark.parametrize(
    "sentences",
    [
        ["It is 3.14 m, e.g. in Fig. 2 of J. R. Smith et al. [3].", "Then x = 5.", "x is odd!", "Really?", "Yes."],
        ["He said \"Stop.\"", "(She did.)", "**So it ended.**", "Then…", "But wait... no, 1, 2, ... 9."],
        ["So $a. B$ and \\(x. Y\\) and `c. D` are 5.", "It costs $5.", "Then $6 more."],
        ["Thus $x = 5.$", "Then \\(y = 2.\\)", "$z$ is 3."],
        ["Take the point A.", "Then No. 5 is odd.", "No.", "Dr. Li etc. say so.", "By Eq. (3) it is."],
        ["On Jan. 5 he ran 3 ft. 2 in.", "By May he sat."],
        ["1. Add them.", "Then go."],
        ["Step 3. Do it.", "Now."],
        ["**Step 4.** Now.", "Then go."],
        ["3 * 4 = 12", "so 14"],
    ],
)  # fmt: skip
def test_sentences(sentences):
    joint = "\n" if not sentences[0].endswith((".", "!", '"')) else " "
    assert split_steps(joint.join(sentences), "sentence") == sentences


def test_sentences_of_chinese_and_japanese():
    assert split_steps("我们相加。得到3.5！对吗？“是。”所以", "sentence") == [
        "我们相加。",
        "得到3.5！",
        "对吗？",
        "“是。”",
        "所以",
    ]


def test_a_function_returns_parts_of_the_text():
    text = "a; b ; a; "
    assert step_offsets(text, lambda text: text.split(";")) == [(0, 1), (3, 4), (7, 8)]
    assert split_steps("<think>a; b</think>c; d", lambda text: text.split("; "), think="drop") == ["c", "d"]
    assert split_steps("<think>a; b</think>c", lambda text: text.split("; ")) == ["<think>a", "b</think>c"]
    assert split_steps(" <think>a</think> ", lambda text: [text[0]], think="drop") == [], "no call for a blank text"


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (["b", "a"], ValueError, "step 1 of the function of by does not stand in the text behind .*: 'a'"),
        (["A"], ValueError, "Return parts of the text, in order and unchanged"),
        ("ab", TypeError, "returned str, expected a list of strings"),
        (None, TypeError, "returned NoneType"),
        ([1], TypeError, "returned int as step 0"),
    ],
)  # fmt: skip
def test_a_function_that_returns_something_else(returned, error, message):
    with pytest.raises(error, match=message):
        split_steps("a b", lambda _: returned)


def test_wrong_arguments_are_named():
    with pytest.raises(
        ValueError, match="by is 'step', expected one of 'paragraph', 'line', 'enumeration', 'sentence'"
    ):
        split_steps("a", "step")
    with pytest.raises(ValueError, match="think is 'yes', expected one of 'keep', 'drop', 'only'"):
        split_steps("a", think="yes")
    with pytest.raises(TypeError, match="text is list, expected a string"):
        split_steps(["a"])


def test_a_solution_of_a_text():
    solution = Solution.from_text("p", "a\nb", by="line", id="7", meta={"k": 1})
    assert (solution.steps, solution.id, solution.meta) == (("a", "b"), "7", {"k": 1})
    assert Solution.from_text("p", " \n").steps == ()


@pytest.mark.slow
@pytest.mark.parametrize("piece", [*PIECES, "Step 1 ", "a|\n|-|\n", "A.B", "a.", ".)", "$a ", "!? X", "- ", "#"])
def test_no_text_takes_long(piece):
    """Anything quadratic in the text would take minutes here."""
    cut_long_texts(piece, 200_000)


def cut_long_texts(piece, n):
    text = (piece * n)[:n]
    start = time.process_time()
    for by in BY:
        step_offsets(f"Step 1{text}x", by)
        step_offsets(text, by, think="only")
    assert time.process_time() - start < 20


@pytest.mark.parametrize("piece", [" ", ".", ".)", "\\[", "$$\n", "<think>", "1. a\n", "a|\n|-|\n"])
def test_no_text_takes_long_for_its_length(piece):
    cut_long_texts(piece, 50_000)


def real_solutions(folder):
    """300 solutions with the separator that their authors wrote between the steps."""
    with gzip.open(folder / "steps_train.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    for part in ("processbench_gsm8k", "processbench_math", "prm800k_train"):
        named = [record["steps"] for record in records if record["dataset"] == part]
        # PRM800K's models wrote a step per line. Some of its steps are joined lines: they have no separator.
        is_lines = part.startswith("prm800k")
        yield from [
            ("line" if is_lines else "paragraph", "\n" if is_lines else "\n\n", steps)
            for steps in named
            if all(step.strip() for step in steps) and not (is_lines and any("\n" in step.strip() for step in steps))
        ][:100]


def test_real_solutions_come_back(data_folder):
    solutions = list(real_solutions(data_folder))
    same = [split_steps(joint.join(steps), by) == [step.strip() for step in steps] for by, joint, steps in solutions]
    assert len(same) == 300
    assert sum(same) >= 0.98 * 300
