"""Scores of a table stand beside its rows, whatever the kind of table and the order of its rows."""

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline

from prmkit import PRMClassifier, Solution, StepDataset, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features import LogProbFeatures, StepStatistics
from prmkit.scoring import score_frame
from prmkit.uncertainty import CalibratedStepClassifier

DATA = make_arithmetic_solutions(24, 2, random_state=0)
SOLUTIONS = [Solution("What is 2 + 3?", ["2 + 3 = 6.", "So it is 6."]), Solution("What is 2 + 3?", ["It is 5."])]
FRAME = pd.DataFrame(
    {
        "problem": "What is 2 + 3?",
        "number": [1, 2, 1],
        "sample": ["a", "a", "b"],
        "step": ["2 + 3 = 6.", "So it is 6.", "It is 5."],
    }
)


@pytest.fixture(scope="module")
def pipe():
    return make_pipeline(StepStatistics(), LogisticRegression(max_iter=5000)).fit(DATA.X, DATA.y)


@pytest.fixture(scope="module")
def clf():
    return PRMClassifier(StepStatistics(), LogisticRegression(max_iter=5000)).fit(DATA.X, DATA.y)


def test_columns_are_those_of_the_scored_solutions(clf):
    scored = clf.score_solutions(SOLUTIONS)
    found = clf.score_frame(FRAME, order="number")
    flat = scored.to_frame()
    assert found["step"].tolist() == flat["text"].tolist()
    assert found["step_index"].tolist() == flat["index"].tolist() == [0, 1, 0]
    assert found["solution_index"].tolist() == flat["solution"].tolist() == [0, 0, 1]
    assert found["predicted"].tolist() == clf.predict(flatten(SOLUTIONS)).tolist()
    for name in set(flat) - {"solution", "id", "problem", "index", "text"}:
        assert found[name].tolist() == flat[name].tolist()
    for row, (one, i) in enumerate([(scored[0], 0), (scored[0], 1), (scored[1], 0)]):
        assert (found["risk"][row], found["reward"][row]) == (one.risks[i], one.rewards[i])
        assert found["proba_-1"][row] == one.proba[i, 0]
        assert found["p_first_error"][row] == one.first_error_distribution[i]
        assert found["product"][row] == one.aggregates["product"]
        assert found["p_no_error"][row] == one.p_no_error
    assert scored[0].to_frame()["risk"].tolist() == scored[0].risks.tolist()


@pytest.mark.parametrize(
    "make",
    [
        pa.Table.from_pandas,
        datasets.Dataset.from_pandas,
        lambda frame: frame.to_dict("records"),
        lambda frame: pytest.importorskip("polars").from_dicts(frame.to_dict("records")),
    ],
)
def test_other_tables(clf, make):
    found = clf.score_frame(make(FRAME), order="number")
    assert list(found["risk"]) == clf.score_frame(FRAME, order="number")["risk"].tolist()
    assert list(found["sample"]) == ["a", "a", "b"]


def test_files(clf, tmp_path):
    FRAME.to_csv(tmp_path / "steps.csv", index=False)
    found = clf.score_frame(tmp_path / "steps.csv", order="number")
    assert found["risk"].tolist() == clf.score_frame(FRAME, order="number")["risk"].tolist()


def test_rows_keep_their_order_and_index(clf):
    mixed = FRAME.iloc[[1, 2, 0]].set_index(pd.Index(["x", "x", "y"], name="key"))
    found = clf.score_frame(mixed, order="number", solution="sample")
    assert found.index.equals(mixed.index)
    assert found["step"].tolist() == mixed["step"].tolist()
    assert found["risk"].tolist() == clf.score_frame(FRAME, order="number")["risk"].iloc[[1, 2, 0]].tolist()
    assert list(mixed) == list(FRAME), "the table itself is not changed"


def test_rows_without_a_place_have_no_scores(clf):
    broken = FRAME.assign(number=[1, 3, 1])
    with pytest.raises(ValueError, match="row 1: gap in the order"):
        clf.score_frame(broken, order="number")
    with pytest.warns(UserWarning, match="1 of 3 rows have no scores: row 1: gap in the order"):
        found = clf.score_frame(broken, order="number", on_error="skip")
    assert found["risk"].isna().tolist() == [False, True, False]
    assert found["predicted"].isna().tolist() == [False, True, False]


def test_any_fitted_classifier(clf, pipe):
    assert np.allclose(score_frame(pipe, FRAME, order="number")["risk"], clf.score_frame(FRAME, order="number")["risk"])
    binary = make_pipeline(StepStatistics(), LogisticRegression(max_iter=5000)).fit(DATA.X, np.where(DATA.y < 0, -1, 1))
    strict = FixedThresholdClassifier(binary, threshold=1.0, pos_label=1).fit(DATA.X, np.where(DATA.y < 0, -1, 1))
    assert score_frame(strict, FRAME, order="number")["predicted"].tolist() == [-1, -1, -1], "its own rule decides"
    calibrated = CalibratedStepClassifier(clf).fit(*make_arithmetic_solutions(40, random_state=7))
    risks = [risk for one in calibrated.score_solutions(SOLUTIONS) for risk in one.risks]
    assert calibrated.score_frame(FRAME, order="number")["risk"].tolist() == risks


def test_what_cannot_be_scored(clf):
    with pytest.raises(ValueError, match="named like scores, 'risk'"):
        clf.score_frame(FRAME.assign(risk=1.0), order="number")
    with pytest.raises(ValueError, match="no column 'text'"):
        clf.score_frame(FRAME, step="text")
    with pytest.raises(ValueError, match="holds no rows"):
        clf.score_frame(FRAME.iloc[:0])
    with pytest.raises(ValueError, match="no step is left to score"):
        clf.score_frame(FRAME.assign(step=None), on_error="skip")


def test_no_solutions_make_an_empty_frame(clf):
    assert len(clf.score_solutions([]).to_frame()) == 0


def test_log_probabilities_of_the_table_are_read():
    """A model is fitted and used on the same table of a generator."""
    rows = [
        {"problem": f"Is it {n}?", "step": "yes", "label": 1 - 2 * (n % 2), "token_logprobs": [-0.1 - n % 2]}
        for n in range(20)
    ]
    data = StepDataset.from_frame(rows)
    pipe = make_pipeline(LogProbFeatures(), LogisticRegression()).fit(data.X, data.y)
    scored = score_frame(pipe, rows)
    np.testing.assert_allclose(scored["proba_-1"], pipe.predict_proba(data.X)[:, 0])
