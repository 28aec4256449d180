"""Sampled solutions by named fields: one sample per line, nested and as tables are the same candidates."""

import contextlib
import json
import pickle
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.data import Candidates, CandidateSet, Solution, extract_answer, load_candidates, load_samples
from prmkit.evaluation import read_benchmark

pd = pytest.importorskip("pandas")

SAMPLES = [
    ("Add 2 and 5.", ["2 + 5 = 7.", "The answer is 7."], "7", True),
    ("Halve 9.", ["9 / 2 = 4.", "The answer is 4."], "4", False),
    ("Add 2 and 5.", ["2 + 5 = 8.", "The answer is 8."], "8", False),
    ("Halve 9.", ["Half of 9.", "That is 4.5.", "The answer is 4.5."], "4.5", True),
    ("Add 2 and 5.", ["Count up.", "The answer is 7."], "7", True),
]
REFERENCE = {"Add 2 and 5.": "7", "Halve 9.": "9/2"}
LINES = [
    {"q": problem, "s": steps, "t": "\n\n".join(steps), "a": answer, "ok": right, "gold": REFERENCE[problem]}
    for problem, steps, answer, right in SAMPLES
]
NESTED = [
    {
        "q": problem,
        "gold": gold,
        "runs": [{key: line[key] for key in ("s", "t", "a", "ok")} for line in LINES if line["q"] == problem],
    }
    for problem, gold in REFERENCE.items()
]
FLAT = [
    {"steps": "s", "correct": "ok"},
    {"text": "t", "correct": "ok"},
    {"steps": "s", "answer": "a", "reference": "gold"},
    {"text": "t", "reference": "gold"},
    {"text": "t", "answer": "a", "correct": "ok", "reference": "gold"},
]


def nested(names):
    return {name: path if path == "gold" else f"runs.{path}" for name, path in names.items()}


def tables():
    import datasets
    import pyarrow

    yield pd.DataFrame(LINES)
    yield pyarrow.Table.from_pylist(LINES)
    yield datasets.Dataset.from_list(LINES)
    with contextlib.suppress(ImportError):
        import polars

        yield polars.DataFrame(LINES)


@pytest.fixture(scope="module")
def expected():
    return load_samples(LINES, problem="q", steps="s", correct="ok")


def test_what_is_read(expected):
    assert [one.problem for one in expected] == ["Add 2 and 5.", "Halve 9."], "in the order of their first samples"
    assert [solution.steps for solution in expected.solutions] == [tuple(SAMPLES[i][1]) for i in (0, 2, 4, 1, 3)]
    assert expected.groups.tolist() == [0, 0, 0, 1, 1]
    assert expected.correct.dtype == bool
    assert expected.correct.tolist() == [True, False, True, False, True]
    assert expected.answers == ["7", "8", "7", "4", "4.5"]
    assert expected.answer_keys == ["7", "8", "7", "4", "9/2"]
    assert len({solution.id for solution in expected.solutions}) == 5


@pytest.mark.parametrize("names", FLAT, ids=lambda names: "+".join(names))
def test_every_layout_gives_the_same_candidates(names, expected, tmp_path):
    assert load_samples(LINES, problem="q", **names) == expected
    assert load_samples(NESTED, problem="q", **nested(names)) == expected
    for table in tables():
        assert load_samples(table, problem="q", **names) == expected
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, LINES)))
    assert load_samples(tmp_path / "lines.jsonl", problem="q", **names) == expected
    pd.DataFrame(LINES).to_parquet(tmp_path / "lines.parquet")
    assert load_samples(str(tmp_path / "*.parquet"), problem="q", **names) == expected
    cells = [{**line, "s": json.dumps(line["s"])} for line in LINES]
    pd.DataFrame(cells).to_csv(tmp_path / "lines.csv.gz", index=False)
    assert load_samples(tmp_path / "lines.csv.gz", problem="q", **names) == expected


def test_lists_beside_each_other_are_nested_too(expected):
    rows = [
        {"q": row["q"], "s": [run["s"] for run in row["runs"]], "ok": [run["ok"] for run in row["runs"]]}
        for row in NESTED
    ]
    assert load_samples(rows, problem="q", steps="s", correct="ok") == expected


def test_a_frame_and_back(expected):
    frame = expected.to_frame()
    assert load_samples(frame, steps="steps", correct="correct", answer="answer") == expected
    assert load_samples(frame, steps="steps", correct="correct", id="problem_id") == expected


def test_problems_are_told_by_their_text_or_by_their_id():
    rows = [{"problem": "Add $2$ and 3.", "text": "5"}, {"problem": "add 2  and 3.", "text": "6"}]
    rows = [{**row, "n": n} for n, row in enumerate(rows)]
    with pytest.warns(UserWarning, match="one step only"):
        assert len(load_samples(rows, text="text")) == 1
    with pytest.warns(UserWarning, match="one step only"):
        by_id = load_samples([*rows, {"problem": "Other words.", "text": "7", "n": 1}], text="text", id="n")
    assert [len(one.candidates) for one in by_id] == [1, 2]
    assert [one.id for one in by_id] == ["0", "1"]


@pytest.mark.parametrize(
    ("value", "right"),
    [(True, True), (0, False), (1.0, True), ("wrong", False), ("True", True), (None, None), (np.nan, None), ("", None),
     (np.bool_(False), False), (pd.NA, None)],
)  # fmt: skip
def test_spellings_of_right_and_wrong(value, right):
    rows = [{"problem": "p", "steps": ["a", "b"], "ok": value}, {"problem": "p", "steps": ["c", "d"], "ok": True}]
    assert load_samples(rows, steps="steps", correct="ok")[0].is_correct == (right, True)


def test_unknown_correctness_is_nan():
    frame = pd.DataFrame({"problem": ["p"] * 3, "steps": [["a"], ["b"], ["c"]], "ok": [True, None, False]})
    found = load_samples(frame, steps="steps", correct="ok")
    np.testing.assert_array_equal(found.correct, [1.0, np.nan, 0.0])
    assert "1 not known" in repr(found)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"problem": "p", "steps": ["a"], "ok": 2}, "unknown label"),
        ({"problem": "p", "steps": ["a"], "ok": "perhaps"}, "unknown label"),
        ({"problem": "p", "steps": "a\n\nb", "ok": True}, r"pass text='steps'"),
        ({"problem": "p", "steps": [{"text": "a"}], "ok": True}, r"steps='steps\.text'"),
        ({"problem": "p", "steps": [3], "ok": True}, "holds no strings"),
        ({"problem": "p", "steps": [["a"], ["b"]], "ok": [True]}, "unequal lengths"),
        ({"problem": "p", "steps": [["a"], ["b"]], "ok": True}, "expected one per sample"),
        ({"problem": "", "steps": ["a"], "ok": True}, "no problem"),
        ({"problem": 3, "steps": ["a"], "ok": True}, "problem is no string"),
        ({"question": "p", "steps": ["a"], "ok": True}, "without problem.*load_samples.*problem='question'"),
        ("no record", "no object"),
    ],
)
def test_one_bad_row_costs_one_row(row, told):
    good = {"problem": "p", "steps": ["a", "b"], "ok": True}
    with pytest.raises(ValueError, match=f"record 1: .*{told}"):
        load_samples([good, row, good], steps="steps", correct="ok")
    with pytest.warns(UserWarning, match="1 malformed"):
        found = load_samples([good, row, good], steps="steps", correct="ok", on_error="skip")
    assert len(found.solutions) == 2
    assert sum(n for what, n in found.counts.items() if what.startswith("malformed")) == 1


def test_a_misspelt_field_is_named():
    with pytest.raises(ValueError, match=r"no record has the field of correct='okay'; the fields are q, s"):
        load_samples(LINES, problem="q", steps="s", correct="okay")
    rows = [{"problem": "p", "steps": ["a"]}, {"problem": "p", "steps": ["b"], "ok": True}]
    assert load_samples(rows, steps="steps", correct="ok")[0].is_correct == (None, True), "some rows may lack it"


def test_one_answer_beside_several_samples_is_the_reference(expected):
    assert load_samples(NESTED, problem="q", text="runs.t", answer="gold") == expected
    with pytest.raises(ValueError, match=r"gold is .*expected one per sample: 3"):
        load_samples(NESTED, problem="q", text="runs.t", answer="gold", reference="gold")


def test_turns_of_a_chat_are_no_samples():
    chat = [{"role": "user", "content": "Halve 9."}, {"role": "assistant", "content": "9 / 2.\n\nSo 4.5."}]
    for path, advice in (("chat", "text='chat.content'"), ("chat.content", "'chat.1.content'")):
        with pytest.raises(ValueError, match=re.escape(advice)):
            load_samples([{"chat": chat}], problem="chat.0.content", text=path)
    [one] = load_samples([{"chat": chat}], problem="chat.0.content", text="chat.1.content")
    assert (one.problem, one.candidates[0].steps) == ("Halve 9.", ("9 / 2.", "So 4.5."))


@pytest.mark.parametrize(
    "options",
    [{"steps": "s", "text": "t"}, {"text": "t", "by": "word"}, {"text": "t", "contradictions": "x"},
     {"text": "t", "on_error": "x"}, {"text": "t", "limit": 0}, {"text": ""}],
)  # fmt: skip
def test_senseless_options(options):
    with pytest.raises(ValueError, match=f"{list(options)[-1]}"):
        load_samples(LINES, problem="q", **options)


def test_without_names_the_error_proposes_the_call_that_reads_it():
    for rows, n in ((LINES, 5), (NESTED, 5)):
        named = {"q": "question", "s": "steps", "t": "response", "a": "answer", "ok": "correct", "gold": "reference"}
        text = json.dumps(rows)
        for old, new in named.items():
            text = text.replace(f'"{old}":', f'"{new}":')
        renamed = json.loads(text)
        with pytest.raises(ValueError, match="no known layout") as caught:
            load_samples(renamed)
        call = re.search(r"load_samples\(…, ([^)]*)\)", str(caught.value))[1]
        found = load_samples(renamed, **eval(f"dict({call})"))
        assert len(found.solutions) == n
        assert found.correct.dtype == bool


def test_recorded_fields_need_the_solutions():
    with pytest.raises(
        ValueError, match=r"correct without steps or text.*load_samples\(…, problem='question', steps='steps'"
    ):
        load_samples([{"question": "p", "steps": ["a"], "ok": True}], problem="question", correct="ok")


PUBLISHED = {
    "search-and-learn": {"problem": "Halve 9.", "answer": "4.5", "completions": [], "scores": [[1], [0]], "pred": "4"},
    "Qwen2.5-Math": {"question": "Halve 9.", "gt": 4.5, "code": [], "score": [True, False], "idx": 3},
    "open-r1": {"problem": "Halve 9.", "generations": [], "correctness_math_verify": [True, False], "answer": "4.5"},
    "texts": {"question": "Halve 9.", "answer": "4.5", "responses": []},
    "ASPRM": {"question": "Halve 9.", "answer": "4.5", "pred": []},
    "RLHFlow, question": {"question": "Halve 9.", "answers": [], "label": [1, 0]},
}  # fmt: skip


@pytest.mark.parametrize("layout", PUBLISHED)
def test_published_layouts_through_every_door(layout, tmp_path):
    """Without names, by names in both loaders, from a file, and in what is evaluated."""
    texts = ["Half of 9.\n\nThe answer is 4.5", "It is odd.\n\nThe answer is 4"]
    row = {name: texts if value == [] else value for name, value in PUBLISHED[layout].items()}
    expected = load_samples([row])
    assert expected.correct.tolist() == [True, False]
    assert expected.answers == ["4.5", "4"]
    assert [solution.n_steps for solution in expected.solutions] == [2, 2]
    assert load_candidates([row], "paragraph").judged() == expected
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(row))
    assert load_samples(path) == expected
    benchmark = read_benchmark(str(path))
    assert (benchmark.kind, benchmark.candidates.correct.tolist()) == ("bon", [True, False])
    # The same record under names that nobody publishes.
    odd = {f"x_{name}": value for name, value in row.items()}
    texts_at = next(name for name, value in odd.items() if value is texts)
    names = {"problem": next(name for name in odd if name in ("x_problem", "x_question"))}
    right = next((name for name in odd if name in ("x_score", "x_label", "x_correctness_math_verify")), None)
    verdict = {"correct": right} if right else {"answer": "x_answer"}
    assert load_samples([odd], **names, text=texts_at, **verdict) == expected
    by_fields = load_candidates([odd], "paragraph", fields={**names, "candidates": texts_at, **verdict})
    assert by_fields.judged() == expected


def test_steps_may_be_objects_within_samples():
    runs = [{"steps": [{"text": "a"}, {"text": "b"}], "passed": True}, {"steps": [{"text": "c"}], "passed": False}]
    with pytest.raises(ValueError, match="no known layout") as caught:
        load_samples([{"question": "p", "outputs": runs}])
    call = re.search(r"load_samples\(…, ([^)]*)\)", str(caught.value))[1]
    found = load_samples([{"question": "p", "outputs": runs}], **eval(f"dict({call})"))
    assert [solution.steps for solution in found.solutions] == [("a", "b"), ("c",)]
    assert found.correct.tolist() == [True, False]
    with pytest.raises(ValueError, match=r"Put the field of problem and text in place of '…'"):
        load_samples([{"q": "p", "r": 3}])


def test_published_layouts_need_no_names():
    row = {
        "problem": "Halve 9.",
        "answer": "4.5",
        "completions": ["Half of 9.\n\nThat is \\boxed{\\frac{9}{2}}.", "9 / 2.\n\n\\boxed{4}"],
        "scores": [[0.9, 0.8], [0.1, 0.2]],
        "pred": "4.5",
    }
    found = load_samples([row])
    assert found.correct.tolist() == [True, False]
    assert [solution.n_steps for solution in found.solutions] == [2, 2]
    with pytest.warns(UserWarning, match="lines|one step|candidates"):
        assert load_candidates([{**row, "completions": ["a", "b"]}]).judged().correct.tolist() == [False, False]


class TestContradictions:
    ROWS = [
        {"problem": "p", "steps": ["60 * 40", "So it costs $2,400."], "a": "400", "ok": False, "gold": "2400"},
        {"problem": "p", "steps": ["60 * 40", "So it costs $2,400."], "a": "2400", "ok": True, "gold": "2400"},
        {
            "problem": "p",
            "steps": ["60 * 4", "In 3 days it costs 240 for 2 people."],
            "a": "240",
            "ok": False,
            "gold": "2400",
        },
        {"problem": "p", "steps": ["Guess", "\\boxed{17}"], "a": "71", "ok": False, "gold": "2400"},
        {"problem": "p", "steps": ["Guess", "\\boxed{18}"], "a": "18", "ok": True, "gold": "2400"},
    ]
    NAMES = {"steps": "steps", "answer": "a", "correct": "ok", "reference": "gold"}

    def read(self, how):
        with pytest.warns(UserWarning, match="contradict") as said:
            found = load_samples(self.ROWS, **self.NAMES, contradictions=how)
        return found, " ".join(str(one.message) for one in said)

    def test_only_what_was_found_is_named(self):
        rows = [{**row, "ok": None, "gold": None} for row in self.ROWS]
        with pytest.warns(UserWarning, match=r"^2 recorded answers .*separator\)\. The first is"):
            load_samples(rows, **self.NAMES)

    def test_are_counted_and_named(self):
        found, said = self.read("keep")
        assert "2 recorded answers that contradict the text (1 of these, cut at a thousands separator)" in said
        assert "2 records of right or wrong that contradict the answer" in said
        assert found.correct.tolist() == [False, True, False, False, True], "the record is kept"
        assert found.answers == ["400", "2400", "240", "71", "18"]
        assert sorted(found.contradictions) == [0, 3, 4]
        assert "'400'" in found.contradictions[0]
        assert "2,400" in found.contradictions[0]
        assert "thousands separator: 1" in found.description

    def test_are_mended(self):
        found, _ = self.read("text")
        assert found.correct.tolist() == [True, True, False, False, False]
        assert found.answers == ["2,400", "2400", "240", "17", "18"]
        rows = [{name: row[name] for name in ("problem", "steps", "a", "ok")} for row in self.ROWS]
        names = {name: path for name, path in self.NAMES.items() if name != "reference"}
        with pytest.warns(UserWarning, match="contradict"):
            found = load_samples(rows, **names, contradictions="text")
        assert found[0].is_correct == (None, True, False, None, True), "nothing tells it without a reference"

    def test_are_left_out(self):
        found, _ = self.read("drop")
        assert found.correct.tolist() == [True, False]

    def test_are_found_in_published_samples(self, data_folder):
        """The source cut numbers at a thousands separator, and calls the samples wrong."""
        path = data_folder / "gsm8k_samples" / "samples.jsonl.gz"
        names = {"steps": "steps", "answer": "answer", "correct": "correct", "reference": "reference"}
        with pytest.warns(UserWarning, match="106 of these, cut at a thousands separator"):
            found = load_samples(path, **names, id="problem_id")
        assert (len(found), len(found.solutions)) == (250, 2000)
        assert all(not found.correct[i] for i in list(found.contradictions)[:90])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            mended = load_samples(path, **names, contradictions="text", limit=160)
        assert mended.correct.sum() > found[:20].correct.sum()
        assert mended == load_samples(path, steps="steps", reference="reference", limit=160)


def test_gsm8k_solutions(data_folder):
    found = load_samples(data_folder / "gsm8k_solutions", by="line", limit=100)
    assert (len(found), len(found.solutions)) == (100, 400)
    assert found.correct.dtype == bool
    few = load_candidates(data_folder / "gsm8k_solutions", extract=lambda text: extract_answer(text).answer, limit=50)
    assert found[:50] == few


def test_blank_samples_are_counted():
    rows = [{"problem": "p", "text": text, "ok": False} for text in ("a\n\nb", "", None, " \n")]
    rows.append({"problem": "q", "text": "", "ok": True})
    with pytest.warns(UserWarning, match="4 of 5 samples are blank"):
        found = load_samples(rows, text="text", correct="ok")
    assert len(found.solutions) == 1
    assert found.counts["problems without a sample that is left, left out"] == 1
    with pytest.raises(ValueError, match="holds no sample that can be read"):
        load_samples(rows[1:], text="text", correct="ok")


def test_one_sample_without_an_answer_and_all_wrong():
    [one] = load_samples([{"problem": "p", "text": "No idea.\n\nReally.", "gold": 5}], text="text", reference="gold")
    assert (one.answers, one.answer_keys, one.is_correct, one.answer) == ((None,), (None,), (False,), "5")


def test_steps_stay_as_they_are_and_thoughts_may_go():
    steps = [" a ", "", "b\n\nc"]
    assert load_samples([{"problem": "p", "steps": steps}], steps="steps").solutions[0].steps == tuple(steps)
    text = "<think>Perhaps 3.</think>First.\n\nThen 4."
    [one] = load_samples([{"problem": "p", "text": text}], text="text", think="drop")
    assert one.candidates[0].steps == ("First.", "Then 4.")
    assert load_samples([{"problem": "p", "text": "[1, 2]; [3]"}], text="text", by=lambda t: t.split(";")).solutions[
        0
    ].steps == ("[1, 2]", "[3]")
    with pytest.warns(UserWarning, match="one step"):
        assert load_samples([{"problem": "p", "text": "[1, 2]"}], text="text").solutions[0].steps == ("[1, 2]",)


class TestCandidates:
    def test_sequence(self, expected):
        assert expected[0] == expected.sets[0]
        assert expected[-1].problem == "Halve 9."
        assert expected[:1].solutions == list(expected[0].candidates)
        assert expected[[1, 0]].sets == expected.sets[::-1]
        assert expected[np.array([False, True])] == expected[1:]
        assert len(expected[[]]) == 0
        assert pickle.loads(pickle.dumps(expected)) == expected
        assert expected != expected[:1]
        with pytest.raises(TypeError, match=r"candidates\['Halve 9\.'\] is not defined, expected a number"):
            expected["Halve 9."]

    def test_sum(self, expected):
        one, other = (load_samples(part, problem="q", steps="s", correct="ok") for part in (LINES[:3], LINES[3:]))
        assert one + other == expected
        assert (one + other).counts["samples"] == 5
        with pytest.raises(TypeError):
            one + list(other)

    def test_sum_of_problems_without_a_text(self):
        lines = [{"n": n, "problem": "", "text": f"So {n}.\n\nThe answer is {n}."} for n in (1, 2, 3)]
        one, other = (load_samples(part, text="text", id="n") for part in (lines[:2], lines[1:]))
        assert [len(problem.candidates) for problem in one + other] == [1, 2, 1]

    def test_rows_by_problem(self, expected):
        rows = expected.by_problem(range(5))
        np.testing.assert_array_equal(rows, [[0, 1, 2], [3, 4, np.nan]])
        with pytest.raises(ValueError, match=r"expected \(5,\)"):
            expected.by_problem([1.0])

    def test_judged(self):
        raw = load_candidates([{"question": "p", "answer": "5", "responses": ["a\nA: 5.0", "b\nA: 6", "c\nd"]}])
        assert np.isnan(raw.correct).all()
        assert raw.judged().correct.tolist() == [True, False, False]
        unknown = load_candidates([{"question": "p", "responses": ["a\nA: 5", "b\nA: 6"]}])
        assert unknown.judged() == unknown

    def test_says_what_it_holds(self, expected):
        assert repr(expected) == "<Candidates: 5 samples of 2 problems, 3 correct, 2 wrong>"
        assert repr(expected[1]) == "<CandidateSet: 'Halve 9.', 2 samples, 1 correct, 1 wrong>"
        odd = load_samples([{"problem": "<b>p</b>", "steps": ["a"]}], steps="steps")
        assert "&lt;b&gt;p" in odd._repr_html_()

    def test_holds_sets_alone(self):
        with pytest.raises(TypeError, match=r"sets\[0\] is Solution"):
            Candidates([Solution("p", ["a"])])
        one = CandidateSet("p", (Solution("p", ["a"]),), (None,), (None,), (None,), None, "0")
        assert Candidates([one])[0] is one


CELLS = (
    st.none() | st.booleans() | st.floats() | st.integers(-2, 3) | st.sampled_from(["", "a\n\nb", "[", "7", "wrong"])
)
VALUES = st.recursive(
    CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("sta"), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["q", "s", "t", "a", "ok", "runs"]), VALUES), max_size=3),
    content=st.sampled_from([{"steps": "s"}, {"text": "t"}, {"text": "runs.t"}, {"steps": "runs.s"}, {}]),
    others=st.fixed_dictionaries(
        {}, optional={"answer": st.sampled_from(["a", "runs.a"]), "correct": st.just("ok"), "reference": st.just("a")}
    ),
    on_error=st.sampled_from(["raise", "skip"]),
    contradictions=st.sampled_from(["keep", "text", "drop"]),
    as_frame=st.booleans(),
)
def test_any_rows_are_read_or_refused_in_words(rows, content, others, on_error, contradictions, as_frame):
    options = {"problem": "q", **content, **others, "on_error": on_error, "contradictions": contradictions}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            found = load_samples(pd.DataFrame(rows) if as_frame else rows, **options)
        except ValueError as error:
            assert re.match(r"record \d: |no record has the field|\w+ holds no sample", str(error))  # noqa: PT017
            return
    recorded = [row.get("ok") for row in rows]
    assert all(solution.n_steps for solution in found.solutions)
    if "correct" in others and "reference" not in others and len(found.solutions) == len(rows) == 1 and len(found) == 1:
        [right] = found[0].is_correct
        assert right in (None, str(recorded[0]).casefold() in ("true", "1", "1.0", "[true]", "[1]", "[1.0]"))


TEXTS = st.text("ab Ω7.,", min_size=1, max_size=8).filter(lambda text: text == text.strip())
TABLES = st.lists(
    st.tuples(st.sampled_from(["p", "q", "r"]), st.lists(TEXTS, min_size=1, max_size=3), st.none() | st.booleans()),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(table=TABLES)
def test_any_table_is_the_same_in_every_layout(table):
    lines = [{"problem": problem, "steps": steps, "ok": right} for problem, steps, right in table]
    problems = dict.fromkeys(line["problem"] for line in lines)
    nested = [{"problem": one, "runs": [line for line in lines if line["problem"] == one]} for one in problems]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = load_samples(lines, steps="steps", correct="ok", answer_key=str)
        assert load_samples(nested, steps="runs.steps", correct="runs.ok", answer_key=str) == expected
        assert load_samples(pd.DataFrame(lines), steps="steps", correct="ok", answer_key=str) == expected
        assert load_samples(expected.to_frame(), steps="steps", correct="correct", answer_key=str) == expected
        cut = [{**line, "text": "\x1f".join(line["steps"])} for line in lines]
        by_text = load_samples(
            cut, text="text", correct="ok", by=lambda text: text.split("\x1f"), extract=lambda _: "7"
        )
        assert [one.steps for one in by_text.solutions] == [one.steps for one in expected.solutions]
        parts = [expected[[i]] for i in range(len(expected))]
        assert sum(parts[1:], parts[0]) == expected
    assert expected.groups.tolist() == sorted(expected.groups.tolist())
    assert len(expected.solutions) == len(table)
    flat = [right for one in problems for problem, _, right in table if problem == one]
    np.testing.assert_array_equal(np.asarray(expected.correct, float), [np.nan if one is None else one for one in flat])


@pytest.mark.parametrize(
    ("name", "told"),
    [("correct", [True, False]), ("label", [1, 0]), ("is_correct", ["true", "false"]), ("passed", ["1", "0"])],
)
def test_a_field_that_seems_to_tell_right_from_wrong_is_named_if_it_is_not_read(name, told):
    rows = [{"problem": "2 + 3?", "text": f"Add.\n\nSo {5 + i}.", "gold": 5, name: told[i]} for i in range(2)]
    with pytest.warns(UserWarning, match=f"field '{name}' is not read.* pass correct='{name}'"):
        unread = load_samples(rows, text="text")
    assert f"'{name}' is not read" in unread.description
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "is not read" not in load_samples(rows, text="text", correct=name).description
        # The reference answer tells it here, and the description still names the field.
        assert f"'{name}' is not read" in load_samples(rows, text="text", reference="gold").description


def test_a_field_of_several_samples_in_a_record_is_named_too():
    runs = [{"out": "Add.\nSo 5.", "ok": True}, {"out": "Add.\nSo 6.", "ok": False}]
    nested = [{"problem": "2 + 3?", "runs": [{"out": run["out"], "correct": run["ok"]} for run in runs]}]
    with pytest.warns(UserWarning, match="pass correct='runs.correct'"):
        load_samples(nested, text="runs.out", by="line")
    row = {"problem": "2 + 3?", "completions": [run["out"] for run in runs], "correct": [run["ok"] for run in runs]}
    with pytest.warns(UserWarning, match=r"load_samples\(…, .*text='completions', correct='correct'"):
        load_samples([row], by="line")
    call = "fields=dict(problem='problem', candidates='completions', correct='correct')"
    with pytest.warns(UserWarning, match=re.escape(call)):
        load_candidates([row])


@pytest.mark.parametrize(
    "field", [{"labels": [1, 0]}, {"score": 0.4}, {"label": "algebra"}, {"correct": None}, {"correct_id": 1}]
)
def test_a_field_that_tells_something_else_is_not_named(field):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_samples([{"problem": "2 + 3?", "steps": ["Add.", "So 5."], **field}], steps="steps")
    assert "is not read" not in found.description
