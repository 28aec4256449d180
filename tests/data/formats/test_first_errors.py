"""One rule for the first error, in every format and on every way from one format to another."""

from itertools import product

import pytest

from prmkit.data import Solution, load, write
from prmkit.data.formats.format import LabelledSolution, from_ratings
from prmkit.data.formats.reading import iter_labelled
from prmkit.data.formats.registry import FORMATS
from prmkit.data.labels import ratings_to_first_error

WRITTEN = [name for name, one in FORMATS.items() if one.write is not None]
RATINGS = [ratings for n in (1, 2, 3) for ratings in product((-1, 0, 1, None), repeat=n)]
RIGHT_BEFORE_THE_FIRST_ERROR = {"processbench", "mr_ben", "mr_gsm8k", "big_bench_mistake", "reasoneval"}
RIGHT_BEFORE_THE_FIRST_ERROR.add("verify_then_generate")


def rule(ratings):
    """The rule as plainly as can be: the first step that is wrong or not judged decides."""
    for index, rating in enumerate(ratings):
        if rating is None or rating == -1:
            return None if rating is None else index
    return -1


def solutions():
    """Each combination of ratings, with a problem of its own since some formats merge equal solutions."""
    for number, ratings in enumerate(RATINGS):
        steps = [f"Step {i}: text {i}." for i, _ in enumerate(ratings, start=1)]
        yield from_ratings(f"Problem {number}?", steps, ratings, f"s:{number}")


def by_problem(name, path):
    """What a file says, as ``load`` reads it."""
    read = {}
    dataset = load(path, name)
    for solution, first_error in zip(dataset.solutions, dataset.first_errors, strict=True):
        read[solution.problem, solution.steps] = ([None] * solution.n_steps, first_error)
    for step, label in zip(dataset.X, dataset.y.tolist(), strict=True):
        read[step.problem, step.solution.steps][0][step.index] = label
    return {key: (tuple(ratings), first_error) for key, (ratings, first_error) in read.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All combinations of ratings, as far as a format holds them, in a file of each format."""
    folder = tmp_path_factory.mktemp("files")
    for name in WRITTEN:
        write(solutions(), folder / name, name)
    return folder


@pytest.mark.parametrize("ratings", RATINGS, ids=str)
def test_the_rule_of_the_package_is_the_plain_one(ratings):
    assert ratings_to_first_error(ratings) == rule(ratings)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_says_whether_steps_before_its_first_error_are_right(name):
    assert (FORMATS[name].unlabelled == "right") == (name in RIGHT_BEFORE_THE_FIRST_ERROR)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_reads_first_errors_by_the_rule(name, files):
    read = by_problem(name, files / name)
    assert len(read) > 10
    for ratings, first_error in read.values():
        assert first_error == rule(ratings)
    # The stream that convert reads says the same as the loader.
    for labelled in iter_labelled(files / name, FORMATS[name]):
        assert labelled.first_error == rule(labelled.ratings)


def test_a_format_that_promises_right_steps_knows_the_first_error_behind_unlabelled_ones(monkeypatch):
    def parse(record, solution_id, counts):
        return [from_ratings("p", ["a", "b", "c"], record.array("ratings"), solution_id)]

    for unlabelled, expected in (("unknown", [None, None, 0]), ("right", [1, None, 0])):
        mine = type(FORMATS["flat"])("mine", "", lambda value: False, parse, unlabelled=unlabelled)
        monkeypatch.setitem(FORMATS, "mine", mine)
        records = [{"ratings": ratings} for ratings in ([None, -1, 1], [1, None, 1], [-1, None, 1])]
        assert load(records, "mine").first_errors == expected


@pytest.mark.parametrize("source", WRITTEN)
@pytest.mark.parametrize("target", WRITTEN)
def test_labels_and_first_errors_survive_every_conversion(source, target, files, tmp_path):
    """Whatever both formats can hold comes back, and a loss is counted by its name."""
    before = by_problem(source, files / source)
    report = write(load(files / source, source), tmp_path / "out", target)
    after = by_problem(target, tmp_path / "out")
    changes = {"neutral": 0, "first error": 0, "later labels": 0}
    # In the format flat, each rated step is a solution of its own, up to that step.
    rows = target == "flat" and source != "flat"
    for (problem, steps), (ratings, first_error) in before.items():
        for index, rating in enumerate(ratings):
            if rating is None:
                continue
            lengths = [index + 1] if rows else range(len(steps), index, -1)
            keys = [(problem, steps[:n]) for n in lengths if n == len(steps) or (problem, steps[:n]) not in before]
            key = next((key for key in keys if key in after), None)
            if key is None:
                assert report.left_out.total() > 0
                break
            read = after[key][0][index]
            assert read == rating or (rating == 0 and read == 1) or (rating is not None and read is None)
            changes["neutral"] += rating == 0 and read == 1
            changes["later labels"] += read is None
        else:
            if not rows and (problem, steps) in after:
                read_error = after[problem, steps][1]
                assert read_error in (first_error, None)
                changes["first error"] += read_error != first_error
    assert bool(changes["neutral"]) == bool(report.lost["neutral steps become right"])
    assert bool(changes["later labels"]) == bool(report.lost["labels after the first error"])
    assert changes["first error"] == report.lost["the first error, which the labels alone do not tell"]
    if source == target:
        assert not report.left_out
        assert rows or before == after


def test_a_stated_first_error_is_lost_by_name_where_labels_do_not_tell_it(tmp_path):
    """The source states it, so it is known; a format of labels alone cannot hold it."""
    stated = LabelledSolution(Solution("p", ("a", "b", "c")), (1, None, -1), 2)
    for name in ("stepwise", "prm800k"):
        report = write([stated], tmp_path / name, name)
        assert report.lost["the first error, which the labels alone do not tell"] == 1
        assert load(tmp_path / name, name).first_errors == [None]
    write([stated], tmp_path / "rated", "rated", on_loss="raise")
    assert load(tmp_path / "rated", "rated").first_errors == [2]
    # ProcessBench would say of the second step that it is right, which nobody said.
    with pytest.raises(ValueError, match="1 another label"):
        write([stated], tmp_path / "processbench", "processbench")
