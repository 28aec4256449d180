"""Writing: what a layout can hold comes back exactly, what it cannot is named, and no label changes its meaning."""

import gzip
import json
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.data import Solution, Step, StepDataset, load, load_candidates, load_prm800k, write
from prmkit.data.formats.format import LabelledSolution, first_error_of
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS
from prmkit.data.formats.writing import losses_of
from prmkit.data.jsonlines import MalformedRecordError

WRITTEN = ("stepwise", "sdiehl", "math_shepherd", "prm800k", "flat", "rated")
QUICK = settings(max_examples=50, deadline=None, derandomize=True)


def solved(ratings, problem="What is 2+3?", steps=None, first_error=..., **more):
    steps = steps or [f"Step {i + 1}: text {i}." for i in range(len(ratings))]
    known = first_error_of(ratings) if first_error is ... else first_error
    return LabelledSolution(Solution(problem, steps, **more), tuple(ratings), known)


def back(path, layout):
    return list(iter_labelled(path, FORMATS[layout]))


def judgements(labelled):
    """What is said of which step of which text."""
    return [
        (one.solution.problem, one.solution.steps[: i + 1], rating)
        for one in labelled
        for i, rating in enumerate(one.ratings)
        if rating is not None
    ]


@pytest.mark.parametrize("layout", WRITTEN)
def test_right_and_wrong_steps_come_back_everywhere(tmp_path, layout):
    given_ = [solved([1, -1, 1]), solved([1, 1], "What is 7?"), solved([-1], "3?")]
    report = write(given_, tmp_path / "out.jsonl", layout, on_loss="raise" if layout != "flat" else "count")
    assert judgements(back(tmp_path / "out.jsonl", layout)) == judgements(given_)
    assert (report.solutions, report.left_out) == (3, Counter())
    if layout != "flat":
        assert back(tmp_path / "out.jsonl", layout) == given_
        assert not report.lost


LOSSES = {
    "neutral steps become right": ([1, 0, -1], {"stepwise", "sdiehl", "math_shepherd"}),
    "steps after the last labelled one": ([1, -1, None], {"sdiehl", "math_shepherd", "flat"}),
    "the solution as one: its steps become rows": ([1, 1], {"flat"}),
}


@pytest.mark.parametrize("layout", WRITTEN)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_named(tmp_path, layout, loss):
    ratings, where = LOSSES[loss]
    report = write([solved(ratings)], tmp_path / "a.jsonl", layout)
    assert (report.lost[loss] == 1) == (layout in where)
    if layout in where:
        with pytest.raises(ValueError, match=f"solution 0 loses something as {layout}: .*{re.escape(loss)}"):
            write([solved(ratings)], tmp_path / "b.jsonl", layout, on_loss="raise")
        assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


LEFT_OUT = {
    "soft labels": ([0.5, 1.0], {"sdiehl", "math_shepherd", "prm800k", "flat"}),
    "steps without a label": ([None, 1], {"sdiehl", "math_shepherd"}),
    "no rated step": ([None, None], set(WRITTEN) - {"rated"}),
}


@pytest.mark.parametrize("layout", WRITTEN)
@pytest.mark.parametrize("reason", LEFT_OUT)
def test_what_a_layout_cannot_hold_is_left_out(tmp_path, layout, reason):
    ratings, where = LEFT_OUT[reason]
    path = tmp_path / "out.jsonl"
    report = write([solved(ratings), solved([1, -1], "kept")], path, layout)
    assert report.left_out == ({reason: 1} if layout in where else {})
    kept = back(path, layout)
    assert {one.solution.problem for one in kept} == ({"kept"} if layout in where else {"What is 2+3?", "kept"})
    if layout in where:
        with pytest.raises(ValueError, match=f"cannot be written as {layout}: {reason}"):
            write([solved(ratings)], tmp_path / "b.jsonl", layout, on_loss="raise")
        with pytest.raises(ValueError, match=f"1 {reason}.*nothing was written"):
            write([solved(ratings)], tmp_path / "b.jsonl", layout)
        assert not (tmp_path / "b.jsonl").exists()


def test_texts_that_a_layout_takes_for_marks_are_left_out(tmp_path):
    shepherd = [
        solved([1, -1], steps=["3*4 ки 12", "b"]),
        solved([1, -1], "Step 1: is first?"),
        solved([1, -1], "good"),
    ]
    report = write(shepherd, tmp_path / "a.jsonl", "math_shepherd")
    assert report.left_out == {"step tag within a text": 1, "another text": 1}
    assert [one.solution.problem for one in back(tmp_path / "a.jsonl", "math_shepherd")] == ["good"]
    report = write([solved([1], steps=[" "]), solved([1])], tmp_path / "b.jsonl", "prm800k")
    assert report.left_out == {"blank text": 1}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (solved([1, -1], "What is 2+4?"), "another text"),
        (solved([1, -1], steps=["Step 1: text 0.", "else"]), "another text"),
        (solved([1, 1]), "another label"),
        (solved([1.0, 0.0]), "another label"),
        (solved([1, -1], first_error=0), "another first error"),
    ],
)
def test_no_layout_may_say_something_else(other, reason):
    with pytest.raises(MalformedRecordError, match=reason):
        losses_of(solved([1, -1]), [other])
    assert losses_of(solved([1, -1]), [solved([1, -1])]) == []


def test_math_shepherd_numbers_steps_and_says_so(tmp_path):
    path = tmp_path / "a.jsonl"
    report = write([solved([1, -1], steps=["a", "b "])], path, "math_shepherd")
    assert set(report.lost) == {"texts as they are: steps get a number, 'Step 1: '", "white space around texts"}
    assert load(path).X[1].text == "Step 2: b"
    assert load(path, "math_shepherd", numbering="strip").X[0].text == "a"


def test_ids_and_metadata_are_counted_and_never_stop(tmp_path):
    one = solved([1], id="x:1", meta={"generator": "M", "empty": None})
    report = write([one], tmp_path / "a.jsonl", "stepwise", on_loss="raise")
    assert report.lost == {"id": 1, "meta: generator": 1}
    assert "lost beside the labels: generator (1), id (1)" in str(report)
    assert not write([one], tmp_path / "a.jsonl", "rated").lost
    assert back(tmp_path / "a.jsonl", "rated")[0].solution.meta["generator"] == "M"


def test_first_error_that_labels_do_not_tell(tmp_path):
    one = solved([1, None, -1], first_error=2)
    assert write([one], tmp_path / "a.jsonl", "stepwise").lost == {
        "the first error, which the labels alone do not tell": 1
    }
    assert not write([one], tmp_path / "a.jsonl", "rated").lost
    assert back(tmp_path / "a.jsonl", "rated") == [one]


def test_several_labellings_become_solutions_of_their_own(tmp_path):
    steps = [Step(Solution("p", ("a", "b")), i) for i in (0, 1, 1)]
    report = write(StepDataset(steps, [1, 1, -1]), tmp_path / "a.jsonl", "rated")
    assert report.lost == {"further labels of a step, as a solution of their own": 1}
    assert [one.ratings for one in back(tmp_path / "a.jsonl", "rated")] == [(1, 1), (None, -1)]


def test_equal_solutions_stay_apart(tmp_path):
    """As read from a file: two objects, equal in text, each with labels of its own."""
    solutions = [Solution("p", ("a",)), Solution("p", ("a",))]
    dataset = StepDataset([Step(one, 0) for one in solutions], [1, -1], solutions=solutions)
    assert not write(dataset, tmp_path / "a.jsonl", "stepwise").lost
    assert load(tmp_path / "a.jsonl").y.tolist() == [1, -1]
    assert list(write(dataset, tmp_path / "a.jsonl", "prm800k").lost) == ["equal solutions, which load_prm800k merges"]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1, 0, -1], [1, 0, -1]),
        (["positive", "neutral", "negative"], [1, 0, -1]),
        ([True, True, False], [1, 1, -1]),
        ([0.0, 1.0, 0.5], [0.0, 1.0, 0.5]),
        (np.array([1, 0, -1], dtype=object), [1, 0, -1]),
    ],
)
def test_kinds_of_labels(tmp_path, y, expected):
    solution = Solution("p", ("a", "b", "c"))
    write(StepDataset([Step(solution, i) for i in range(3)], y), tmp_path / "a.jsonl", "rated")
    read = back(tmp_path / "a.jsonl", "rated")[0].ratings
    assert (list(read), [type(r) for r in read]) == (expected, [type(r) for r in expected])


@pytest.mark.parametrize("y", [[0, 1, 2], [1.0, -1.0, 0.0], ["good", "bad", "good"], [float("nan"), 0.5, 0.5]])
def test_labels_without_a_meaning_are_refused(tmp_path, y):
    solution = Solution("p", ("a", "b", "c"))
    with pytest.raises(ValueError, match="expected"):
        write(StepDataset([Step(solution, i) for i in range(3)], y), tmp_path / "a.jsonl", "rated")
    assert not list(tmp_path.iterdir())


def test_whole_file_or_none(tmp_path):
    def stream():
        yield solved([1])
        raise RuntimeError("the source broke off")

    path = tmp_path / "a.jsonl"
    path.write_text("precious")
    with pytest.raises(RuntimeError):
        write(stream(), path, "rated")
    assert path.read_text() == "precious"
    assert [one.name for one in tmp_path.iterdir()] == ["a.jsonl"]
    with pytest.raises(ValueError, match="JSON cannot hold"):
        write([solved([1], meta={"x": object()})], path, "rated")
    assert path.read_text() == "precious"


def test_gzip_by_name_and_equal_bytes(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write([solved([1, -1])], tmp_path / name, "stepwise")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert json.loads(gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()))["labels"] == [True, False]


@pytest.mark.parametrize(
    ("name", "error"),
    [("no/a.jsonl", FileNotFoundError), (".", IsADirectoryError), ("a.csv", ValueError), ("a.parquet", ValueError)],
)
def test_where_nothing_can_be_written(tmp_path, name, error):
    with pytest.raises(error):
        write([solved([1])], tmp_path / name, "rated")


def test_unknown_options(tmp_path):
    with pytest.raises(ValueError, match="on_loss is 'stop'"):
        write([solved([1])], tmp_path / "a.jsonl", "rated", on_loss="stop")
    with pytest.raises(ValueError, match="does not write"):
        write([solved([1])], tmp_path / "a.jsonl", "rlhflow")


TEXT = st.text(st.characters(codec=None), max_size=12) | st.sampled_from(
    ["", " ", "Step 1: ки", "ки", "?", "\0", "\ud800", "a\nb", "\u2028", "# Answer\n\n3", "+", " - "]
)


@st.composite
def solutions(draw):
    n = draw(st.integers(1, 5))
    soft = draw(st.booleans())
    rating = st.floats(0, 1) if soft else st.sampled_from([-1, 0, 1])
    ratings = draw(st.lists(rating | st.none(), min_size=n, max_size=n))
    steps = draw(st.lists(TEXT, min_size=n, max_size=n))
    return solved(ratings, draw(TEXT), steps)


@pytest.mark.parametrize("layout", WRITTEN)
@QUICK
@given(data=st.lists(solutions(), min_size=1, max_size=4))
def test_no_label_changes_its_meaning(tmp_path_factory, layout, data):
    """Whatever comes back was said of that very text; only a neutral step may have become right, and it is counted."""
    path = tmp_path_factory.mktemp("made") / "out.jsonl"
    try:
        report = write(data, path, layout)
    except ValueError as error:
        report = str(error)
    if isinstance(report, str):
        assert "nothing was written" in report
        return
    read = back(path, layout)
    texts_differ = any("texts" in what for what in report.lost)
    said = Counter(_plain(judgements(data), layout, texts_differ))
    heard = Counter(_plain(judgements(read), layout, texts_differ))
    assert not heard - said
    if not report.left_out:
        assert heard == said
    if not report.lost and not report.left_out:
        assert read == data
    if layout == "rated":
        assert read == data


@QUICK
@given(data=st.lists(solutions(), min_size=1, max_size=4))
def test_a_first_error_is_never_made_up(tmp_path_factory, data):
    """ProcessBench keeps the first error alone: what it cannot tell is left out, what it cannot hold is counted."""
    path = tmp_path_factory.mktemp("made") / "out.json"
    try:
        report = write(data, path, "processbench")
    except ValueError:
        return
    read = back(path, "processbench")
    said = [one for one in data if one.first_error is not None]
    assert [(one.solution, one.first_error) for one in read] == [(one.solution, one.first_error) for one in said]
    assert report.left_out.total() == len(data) - len(said)
    cut = sum(None not in one.ratings and 0 <= one.first_error < len(one.ratings) - 1 for one in said)
    assert report.lost["labels after the first error"] >= cut


def _plain(said, layout, texts_differ):
    for problem, steps, rating in said:
        if layout in ("stepwise", "sdiehl", "math_shepherd") and rating == 0 and not isinstance(rating, float):
            rating = 1
        if texts_differ:
            problem = problem.strip()
            steps = tuple(re.sub(rf"^Step {i}:( |$)", "", step.strip()).strip() for i, step in enumerate(steps, 1))
        yield problem, steps, (type(rating).__name__, rating)


@pytest.mark.parametrize(
    "layout",
    [layout if layout in ("flat", "rated") else pytest.param(layout, marks=pytest.mark.slow) for layout in WRITTEN],
)
def test_the_table_of_the_data_folder(tmp_path, data_folder, layout):
    given_ = list(iter_labelled(data_folder / "steps_train.jsonl.gz", FORMATS["rated"]))[::7]
    report = write(given_, tmp_path / "a.jsonl.gz", layout)
    assert report.solutions + report.left_out.total() == len(given_)
    assert report.left_out.total() <= 2
    read = back(tmp_path / "a.jsonl.gz", layout)
    if layout in ("stepwise", "sdiehl", "prm800k", "flat", "rated"):
        neutral_lost = layout in ("stepwise", "sdiehl")
        expected = [(p, s, 1 if neutral_lost and r == 0 else r) for p, s, r in judgements(given_)]
        heard = judgements(read)
        assert heard == expected or (report.left_out and not Counter(heard) - Counter(expected))
    if layout == "rated":
        assert [(one, one.solution.id, one.solution.meta) for one in read] == [
            (one, one.solution.id, one.solution.meta) for one in given_
        ]
    assert sum(rating == -1 for one in read for rating in one.ratings) == sum(
        rating == -1 for one in given_ for rating in one.ratings
    ) - sum(rating == -1 for one in given_ if _is_blank(one) and report.left_out for rating in one.ratings)


def _is_blank(one):
    return not all(text.strip() for text in (one.solution.problem, *one.solution.steps))


@pytest.mark.parametrize("name", ["train_sample", "test_sample", "repeated_labels", "raw_examples"])
def test_prm800k_round_trip(tmp_path, data_folder, name):
    dataset = load(data_folder / "prm800k" / f"{name}.jsonl")
    write(dataset, tmp_path / "a.jsonl", "prm800k", on_loss="raise")
    again = load_prm800k(tmp_path / "a.jsonl", view="trajectories")
    assert again.solutions == dataset.solutions
    assert (again.X, again.y.tolist()) == (dataset.X, dataset.y.tolist())
    assert again.first_errors == dataset.first_errors
    kept = ("final_answer", "finish_reason", "labeler", "generation")
    for one, other in zip(dataset.solutions, again.solutions, strict=True):
        assert all(other.meta[key] == one.meta[key] for key in kept if one.meta[key] is not None)


def test_prefix_view_of_prm800k_into_rows(tmp_path, data_folder):
    dataset = load_prm800k(data_folder / "prm800k" / "raw_examples.jsonl")
    report = write(dataset, tmp_path / "a.jsonl", "flat")
    assert report.records == len(dataset.X)
    read = load(tmp_path / "a.jsonl")
    said = [(step.problem, step.prefix, step.text, y) for step, y in zip(dataset.X, dataset.y.tolist(), strict=True)]
    heard = [(step.problem, step.prefix, step.text, y) for step, y in zip(read.X, read.y.tolist(), strict=True)]
    assert Counter(said) == Counter(heard)


def test_candidates_with_labels_of_their_own(tmp_path, data_folder):
    sets = load_candidates(data_folder / "gsm8k_solutions", limit=50)
    given_ = [
        LabelledSolution(solution, (1,) * (solution.n_steps - 1) + (1 if correct else -1,), None)
        for one in sets
        for solution, correct in zip(one.candidates, one.is_correct, strict=True)
    ]
    write(given_, tmp_path / "a.jsonl", "sdiehl", on_loss="raise")
    assert judgements(back(tmp_path / "a.jsonl", "sdiehl")) == judgements(given_)


def test_a_file_is_replaced_aloud_or_not_at_all(tmp_path):
    path = tmp_path / "a.jsonl"
    assert "in place of" not in str(write([solved([1])], path, "rated", overwrite=False))
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write([solved([-1])], path, "rated", overwrite=False)
    assert path.read_bytes() == before
    assert "in place of the file that was there" in str(write([solved([-1])], path, "rated"))
    assert path.read_bytes() != before
