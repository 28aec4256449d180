import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split

from prmkit import PRMClassifier
from prmkit.data import Solution, Step, StepDataset, flatten, load, write
from prmkit.data.jsonlines import iter_hub_records
from prmkit.features import StepStatistics
from prmkit.fitted import known_label_order
from prmkit.scoring import score_solutions

BUN = Solution("A bun costs 2. What do 3 cost?", ["3 * 2 = 6.", "It costs 6."], id="bun", meta={"final_answer": "6"})
PEN = Solution("A pen costs 5. What do 2 cost?", ["2 pens.", "2 * 5 = 7.", "It costs 7."])


def make_dataset(y=(1, 1, 0, -1), **changes):
    """Rows out of order, and the last step of PEN without a label."""
    X = [Step(BUN, 0), Step(PEN, 0), Step(BUN, 1), Step(PEN, 1)]
    fields = {
        "first_errors": [None, 1],
        "description": "made up",
        "rows": {"source": ["model", "human", "model", "model"], "count": [1, 1, 2, 1], "chosen": [True] * 4},
    }
    return StepDataset(X, y, **{**fields, **changes})


def assert_equal(a, b):
    assert a.X == b.X
    assert [step.solution.id for step in a.X] == [step.solution.id for step in b.X]
    assert [step.solution.meta for step in a.X] == [step.solution.meta for step in b.X]
    assert a.y.dtype.kind == b.y.dtype.kind
    assert a.y.tolist() == b.y.tolist()
    assert a.groups.tolist() == b.groups.tolist()
    assert a.solutions == b.solutions
    assert a.first_errors == b.first_errors
    assert a.description == b.description
    assert {name: column.tolist() for name, column in a.rows.items()} == {
        name: column.tolist() for name, column in b.rows.items()
    }


def test_unpacks_as_steps_and_labels():
    X, y = make_dataset()
    assert [step.text for step in X] == ["3 * 2 = 6.", "2 pens.", "It costs 6.", "2 * 5 = 7."]
    assert isinstance(y, np.ndarray)
    assert y.tolist() == [1, 1, 0, -1]


def test_groups_and_solutions_follow_from_the_steps():
    dataset = make_dataset()
    assert dataset.groups.tolist() == [0, 1, 0, 1]
    assert dataset.solutions == [BUN, PEN]
    assert repr(dataset) == "StepDataset(n_steps=4, n_solutions=2, n_problems=2, labels={-1: 1, 0: 1, 1: 2})"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": [1, 0]}, r"y has shape \(2,\), expected \(4,\)"),
        ({"groups": [1]}, r"groups has shape \(1,\), expected \(4,\)"),
        ({"rows": {"count": [1]}}, r"count has shape \(1,\), expected \(4,\)"),
        ({"first_errors": [0]}, "1 first_errors for 2 solutions"),
    ],
)
def test_lengths_must_agree(changes, message):
    with pytest.raises(ValueError, match=message):
        make_dataset(**changes)


@pytest.mark.parametrize(
    ("rows", "numbers"),
    [
        (slice(1, None), [1, 2, 3]),
        (slice(None, None, -2), [3, 1]),
        ([2, 0, 2], [2, 0, 2]),
        (np.array([-1]), [3]),
        (range(2), [0, 1]),
        ([False, True, False, True], [1, 3]),
        (np.array([1, 1, 0, -1]) == 1, [0, 1]),
    ],
)
def test_a_part_keeps_what_belongs_to_its_rows(rows, numbers):
    dataset = make_dataset()
    part = dataset[rows]
    assert [dataset.X[i] for i in numbers] == part.X
    assert part.y.tolist() == dataset.y[numbers].tolist()
    assert part.groups.tolist() == dataset.groups[numbers].tolist()
    assert part.rows["source"].tolist() == dataset.rows["source"][numbers].tolist()
    assert part.description == dataset.description
    assert part.solutions == list(dict.fromkeys(step.solution for step in part.X))
    error_of = dict(zip(dataset.solutions, dataset.first_errors, strict=True))
    assert part.first_errors == [error_of[solution] for solution in part.solutions]
    if not isinstance(rows, slice):
        assert_equal(dataset.take(rows), part)


def test_a_part_of_what_knows_no_first_errors_knows_none():
    assert make_dataset(y=[0.2, 0.5, 1.0, 0.1], first_errors=None, vocabulary="soft")[:2].first_errors is None


class TestFirstErrorsOfTheLabels:
    """They are derived by the package's one rule, where nobody gives them."""

    @pytest.mark.parametrize(
        ("y", "vocabulary", "expected"),
        [
            ([1, 1, 0, -1], None, [-1, 1]),
            ([1, 1, 0, 0], "rating", [-1, None]),  # the last step of PEN has no label
            ([1, 1, 0, 0], "binary", [1, 1]),
            ([True, True, True, False], None, [-1, 1]),
            (["bad", "good", "good", "fair"], ("bad", "fair", "good"), [0, None]),
            (["negative", "positive", "neutral", "negative"], None, [0, 1]),
            (["bad", "good", "good", "fair"], None, None),  # nothing tells which is worst
            ([1, 1, 1, 1], None, None),
            ([0.1, 1.0, 0.9, 0.3], "soft", None),
        ],
    )
    def test_the_worst_label_is_wrong(self, y, vocabulary, expected):
        assert make_dataset(y, first_errors=None, vocabulary=vocabulary).first_errors == expected

    def test_two_labels_of_a_step_tell_nothing(self):
        X = [Step(BUN, 0), Step(BUN, 0), Step(BUN, 1), Step(PEN, 0)]
        assert StepDataset(X, [1, -1, -1, -1]).first_errors == [None, 0]
        assert StepDataset(X, [1, 1, -1, -1]).first_errors == [1, 0]

    def test_a_part_keeps_what_is_known_of_whole_solutions(self):
        assert make_dataset(first_errors=None)[[0]].first_errors == [-1]


class TestSum:
    def test_rows_solutions_and_counts_of_both(self):
        a = make_dataset(counts={"records": 2}, vocabulary="rating")
        other = Solution(" a BUN costs 2.  What do 3 cost?", ["It costs 5."])
        b = StepDataset(
            [Step(other, 0)], [-1], rows={"count": [3]}, counts={"records": 1}, description="b", vocabulary="rating"
        )
        joined = a + b
        assert [*a.X, *b.X] == joined.X
        assert joined.y.tolist() == [1, 1, 0, -1, -1]
        assert joined.vocabulary == "rating"
        assert joined.solutions == [BUN, PEN, other]
        assert joined.first_errors == [None, 1, 0]
        assert joined.groups.tolist() == [0, 1, 0, 1, 0], "one problem, written in another way"
        assert joined.rows["count"].tolist() == [1, 1, 2, 1, 3]
        assert joined.rows["source"].tolist() == ["model", "human", "model", "model", None]
        assert joined.counts == {"records": 3}
        assert joined.description == "made up\n\nb"
        assert_equal(sum([a, b]), joined)

    def test_parts_become_the_whole_again(self):
        dataset = make_dataset(first_errors=None, vocabulary="rating")
        assert_equal(dataset[:1] + dataset[1:], dataset)
        halves = sum(dataset.split_by_problem(0.5, 0.5, random_state=0))
        assert {(step, label) for step, label in zip(halves.X, halves.y.tolist(), strict=True)} == set(
            zip(dataset.X, dataset.y.tolist(), strict=True)
        )

    def test_groups_of_either_side_hold_together(self):
        worded = StepDataset(flatten([Solution("Add 1 and 1.", ["2."]), Solution("1 + 1?", ["2"])]), [1, -1], [7, 7])
        other = StepDataset(flatten([Solution("1 + 1?", ["3"]), Solution("2 + 2?", ["4"])]), [-1, 1])
        assert (worded + other).groups.tolist() == [0, 0, 0, 1]

    @pytest.mark.parametrize(
        ("a", "b", "message"),
        [
            (([1, 1, 0, -1], "rating"), ([1, 1, 0, 0], "binary"), "vocabularies 'rating' and 'binary'"),
            (([1, 1, 0, -1], "rating"), ([1, 1, 0, 0], None), "vocabularies 'rating' and None"),
            (([1, 1, 0, -1], None), ([1, 1, 0, 0], None), "nothing says that they mean the same"),
            (([1, 1, 0, -1], None), (["+", "-", "+", "-"], None), "nothing says that they mean the same"),
        ],
    )
    def test_labels_of_other_meaning_are_refused(self, a, b, message):
        a, b = (make_dataset(y, vocabulary=vocabulary) for y, vocabulary in (a, b))
        with pytest.raises(ValueError, match=message):
            a + b

    def test_only_data_sets_add_up(self):
        for other in (1, [BUN], None):
            with pytest.raises(TypeError, match="unsupported operand"):
                make_dataset() + other
            with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate"):
                other + make_dataset()


def test_equal_solutions_stay_apart_where_their_rows_do():
    twins = [Solution("p", ["a"], id=name) for name in "ab"]
    dataset = StepDataset(flatten(twins), [1, -1], solutions=twins, first_errors=[-1, 0])
    assert [part.solutions[0].id for part in (dataset[:1], dataset[1:])] == ["a", "b"]
    assert [part.first_errors for part in (dataset[:1], dataset[1:])] == [[-1], [0]]
    assert_equal(StepDataset.from_hf(dataset.to_hf()), dataset)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (0, TypeError, r"dataset\[0\] is not defined.*dataset\.X\[0\] is the first step"),
        ("y", TypeError, r"dataset\['y'\] is not defined, expected a slice, a mask or a list of rows"),
        ((0, 1), TypeError, "is not defined"),
        ([0.5], TypeError, r"rows is \[0\.5\], expected a list of row numbers"),
        ([[0]], TypeError, "expected a list of row numbers"),
        ([4], IndexError, "row 4 of a data set with 4 rows"),
        ([True], IndexError, "the mask has 1 entries for 4 rows"),
        (slice(4, None), ValueError, "no row is left"),
        ([False] * 4, ValueError, "no row is left"),
    ],
)
def test_rows_that_make_no_sense(rows, error, message):
    with pytest.raises(error, match=message):
        make_dataset()[rows]


@pytest.mark.parametrize("y", [(0.25, 0.5, 0.75, 1.0), (True, False, True, True)])
def test_labels_of_other_types_survive_the_round_trip(y):
    dataset = make_dataset(y)
    assert_equal(StepDataset.from_hf(dataset.to_hf()), dataset)


def test_solutions_in_place_of_steps_are_refused():
    with pytest.raises(TypeError, match=r"flatten\(solutions\)"):
        StepDataset([BUN, PEN], [1, 0])


def test_frame_has_a_line_per_row_and_the_metadata():
    frame = make_dataset().to_frame()
    assert list(frame.columns) == [
        "problem", "solution", "id", "index", "text", "y", "group", "source", "count", "chosen",
    ]  # fmt: skip
    assert frame["solution"].tolist() == [0, 1, 0, 1]
    assert frame["index"].tolist() == [0, 0, 1, 1]
    assert frame.loc[3, "text"] == "2 * 5 = 7."
    assert frame.loc[3, "y"] == -1
    assert frame.loc[1, "source"] == "human"


def test_pickle_keeps_everything_and_shared_solutions():
    dataset = make_dataset()
    back = pickle.loads(pickle.dumps(dataset))
    assert_equal(back, dataset)
    assert back.X[0].solution is back.X[2].solution is back.solutions[0]


@pytest.mark.parametrize("y", [(1, 1, 0, -1), ("positive", "positive", "neutral", "negative")])
@pytest.mark.parametrize("first_errors", [[None, 1], [-1, None], None])
def test_round_trip_through_hugging_face_loses_nothing(y, first_errors):
    dataset = make_dataset(y, first_errors=first_errors)
    hf = dataset.to_hf()
    assert hf.num_rows == 2
    assert hf[1]["labels"] == [y[1], y[3], None]
    assert hf[1]["steps"] == list(PEN.steps)
    assert_equal(StepDataset.from_hf(hf), dataset)


def test_round_trip_through_a_folder(tmp_path):
    import datasets

    dataset = make_dataset()
    dataset.to_hf().save_to_disk(tmp_path / "saved")
    assert_equal(StepDataset.from_hf(datasets.load_from_disk(tmp_path / "saved")), dataset)


def test_a_step_with_two_labels_survives_the_round_trip():
    X = [Step(BUN, 0), Step(BUN, 0), Step(BUN, 1)]
    dataset = StepDataset(X, [1, -1, 0], first_errors=[None])
    assert dataset.to_hf().num_rows == 2
    assert_equal(StepDataset.from_hf(dataset.to_hf()), dataset)


def test_problem_steps_and_labels_are_enough_to_read():
    import datasets

    hf = datasets.Dataset.from_dict({"problem": ["p", "q"], "steps": [["a", "b"], ["c"]], "labels": [[None, 1], [-1]]})
    dataset = StepDataset.from_hf(hf)
    assert flatten([Solution("p", ["a", "b"]), Solution("q", ["c"])])[1:] == dataset.X
    assert dataset.y.tolist() == [1, -1]
    assert dataset.first_errors == [None, 0], "as far as the labels tell"


def test_unreadable_layouts_say_what_is_expected():
    import datasets

    with pytest.raises(ValueError, match="columns prompt, completions lack problem, steps, labels"):
        StepDataset.from_hf(datasets.Dataset.from_dict({"prompt": ["p"], "completions": [["a"]]}))
    with pytest.raises(ValueError, match="line 0 has 1 labels for 2 steps"):
        StepDataset.from_hf(datasets.Dataset.from_dict({"problem": ["p"], "steps": [["a", "b"]], "labels": [[1]]}))
    with pytest.raises(TypeError, match=r"splits train.*pass dataset\['train'\]"):
        StepDataset.from_hf(datasets.DatasetDict(train=make_dataset().to_hf()))


def test_metadata_that_is_not_json_is_named():
    solution = Solution("p", ["a"], meta={"when": object()})
    with pytest.raises(TypeError, match=r"metadata cannot be written as JSON.*'when'"):
        StepDataset([Step(solution, 0)], [1]).to_hf()


def test_an_unreachable_data_set_names_both_ways_out(monkeypatch):
    import datasets

    def load_dataset(name, **_):
        raise OSError(f"Couldn't reach {name}")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConnectionError, match=r"'owner/name' is no local file.*phase1_train\.jsonl.*huggingface\.co"):
        next(iter_hub_records("owner/name", "train"))


class TestVocabulary:
    """What labels mean is declared once, and travels with them."""

    RATINGS = StepDataset(flatten([BUN, PEN]), [1, -1, 0, 1, 1], vocabulary="rating")

    @pytest.mark.parametrize(
        "part",
        [
            lambda data: data[2:],
            lambda data: data.take([2, 3]),
            lambda data: data[data.y >= 0],
            lambda data: data.split_by_problem(0.5, 0.5, random_state=0)[1],
            lambda data: pickle.loads(pickle.dumps(data)),
            lambda data: StepDataset.from_hf(data.to_hf()),
            lambda data: StepDataset(data.X, data.y),
            lambda data: StepDataset(*train_test_split(data.X, data.y, random_state=0)[::2]),
            lambda data: StepDataset(data.X, np.asarray(data.y)),
            lambda data: StepDataset([*data.X, *data.X], np.concatenate([data.y, data.y])),
            lambda data: StepDataset(data.X, np.append(data.y[:2], data.y[2:])),
            lambda data: StepDataset(data.X[1:], np.delete(data.y, 0)),
            lambda data: StepDataset(data.X, pd.Series(data.y).to_numpy()),
        ],
    )
    def test_every_part_and_copy_keeps_it(self, part):
        found = part(self.RATINGS)
        assert found.vocabulary == "rating"
        assert found.y.dtype == np.int64

    def test_a_part_without_a_wrong_step_does_not_turn_neutral_into_wrong(self):
        X, y = self.RATINGS[2:]
        clf = PRMClassifier(StepStatistics(), LogisticRegression()).fit(X, y)
        with pytest.raises(ValueError, match="worst label of the data"):
            clf.score_solutions([PEN])
        # Somebody else's array of 0 and 1 is wrong and right.
        assert PRMClassifier(StepStatistics(), LogisticRegression()).fit(X, y.tolist()).label_order_ == (0, 1)

    def test_it_survives_saving(self, tmp_path):
        clf = PRMClassifier(StepStatistics(), LogisticRegression()).fit(*self.RATINGS[2:])
        clf.save(tmp_path / "m")
        with pytest.raises(ValueError, match="worst label of the data"):
            PRMClassifier.load(tmp_path / "m").score_solutions([PEN])

    def test_a_worst_label_that_is_absent_is_no_risk_either_if_the_user_names_it(self):
        order = [-1, 0, 1]
        clf = PRMClassifier(StepStatistics(), LogisticRegression(), label_order=order).fit(
            self.RATINGS.X[2:], [0, 1, 1]
        )
        with pytest.raises(ValueError, match="worst label of the data"):
            clf.score_solutions([PEN])

    def test_calculations_are_no_labels(self):
        y = self.RATINGS.y
        assert {type(y == 1), type(y + 1), type(np.abs(y)), type(y.astype(float) * 2)} == {np.ndarray}
        assert StepDataset(self.RATINGS.X, y.astype(str)).vocabulary is None
        assert StepDataset(self.RATINGS.X, 1 - y).vocabulary is None

    def test_other_types_of_numbers_are_the_same_labels(self):
        for kind in (float, object, "int8"):
            assert StepDataset(self.RATINGS.X, self.RATINGS.y.astype(kind)).vocabulary == "rating"

    def test_labels_of_two_meanings_are_not_joined(self):
        with pytest.raises(ValueError, match="'binary', 'rating' are joined"):
            np.concatenate([self.RATINGS.y, StepDataset(flatten([BUN]), [0, 1], vocabulary="binary").y])

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda clf: VotingClassifier([("a", clf)], voting="soft"),
            lambda clf: StackingClassifier([("a", clf)], final_estimator=LogisticRegression(), cv=2),
            lambda clf: CalibratedClassifierCV(clf, cv=2, ensemble=False),
            lambda clf: GridSearchCV(clf, {"head__C": [1.0]}, cv=2),
        ],
    )
    def test_it_survives_wrappers_that_number_the_labels(self, wrap):
        X = flatten([Solution(f"p{i}", ["2 + 3 = 5.", "2 + 3 = 6.", "So 6."]) for i in range(8)])
        clf = PRMClassifier(StepStatistics(), LogisticRegression())
        own = StepDataset(X, [0, 1, 1] * 8, vocabulary=(1, 0))
        assert known_label_order(wrap(clf).fit(own.X, own.y)) == (1, 0)
        assert known_label_order(wrap(clf).fit(own.X, np.asarray(own.y).tolist())) == (0, 1)
        ratings = StepDataset(X, [0, 1, 1] * 8, vocabulary="rating")
        with pytest.raises(ValueError, match="worst label of the data"):
            score_solutions(wrap(clf).fit(ratings.X, ratings.y), [BUN])

    @pytest.mark.parametrize(
        ("y", "vocabulary", "message"),
        [
            ([1, 2], "rating", r"y holds \[2\], expected labels among -1, 0, 1"),
            ([True, False], "rating", "expected labels among -1"),
            ([-1, 1], "binary", "expected labels among 0, 1"),
            ([0.5, 1.5], "soft", "expected numbers from 0 to 1"),
            (["bad", "fine"], ("bad", "good"), "'fine'"),
            ([0, 1], "stars", "vocabulary is 'stars', expected 'rating'"),
            ([0, 0], (0, 0), "tuple of distinct labels"),
        ],
    )
    def test_labels_outside_of_it(self, y, vocabulary, message):
        with pytest.raises(ValueError, match=message):
            StepDataset(flatten([BUN]), y, vocabulary=vocabulary)

    def test_probabilities_are_no_classes(self):
        soft = StepDataset(flatten([BUN]), [0, 1], vocabulary="soft")
        assert soft.y.dtype.kind == "f"
        with pytest.raises(ValueError, match="choose a threshold"):
            PRMClassifier(StepStatistics(), LogisticRegression()).fit(*soft)

    @pytest.mark.parametrize(
        ("y", "vocabulary", "written"),
        [
            ([0, 1], "binary", [-1, 1]),
            ([0, 1], "rating", [0, 1]),
            ([False, True], "binary", [-1, 1]),
            (["bad", "good"], ("bad", "good"), [-1, 1]),
            (["good", "bad"], ("bad", "so-so", "good"), [1, -1]),
            ([0, 1], "soft", [0.0, 1.0]),
        ],
    )
    def test_writing_goes_by_it(self, tmp_path, y, vocabulary, written):
        write(StepDataset(flatten([BUN]), y, vocabulary=vocabulary), tmp_path / "rows.jsonl", "rated")
        back = load(tmp_path / "rows.jsonl")
        assert back.y.tolist() == written
        assert back.vocabulary == ("soft" if vocabulary == "soft" else "rating")

    def test_writing_guesses_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="nothing says what 0 means"):
            write(StepDataset(flatten([BUN]), [0, 1]), tmp_path / "rows.jsonl", "rated")
