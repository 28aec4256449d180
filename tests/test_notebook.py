"""What a notebook or a console shows of the objects that people leave at the end of a cell."""

import ast
import pickle
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import prmkit
from prmkit import PRMClassifier, Solution, StepDataset, flatten
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.scoring import ScoredSolution, score_solutions
from prmkit.scoring.scored_solution import ScoredList
from prmkit.uncertainty import PathTriage, PrefixCertifier, StepPredictionSets, path_uncertainty

HOSTILE = "<script>alert(1)</script> & $x$"


class Tags(HTMLParser):
    """The tags of a text, which must all be closed in their order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(html)
        assert self.open == [], html

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(30, 2, random_state=0)


@pytest.fixture(scope="module")
def classifier(data):
    return PRMClassifier(StepStatistics(), random_state=0).fit(data.X, data.y)


def test_a_list_of_steps_can_be_read():
    """The whole solution stood in each of its steps: 362,616 characters for 485 of them."""
    solution = Solution("A long problem. " * 100, ["A long step. " * 50] * 40, id="x" * 500, meta={"a": "b" * 1000})
    steps = flatten([solution])
    assert len(repr(steps)) < 120 * len(steps)
    assert len(repr([solution])) < 400
    assert repr(steps[3]).startswith("<Step 3 of 40: 'A long step.")
    assert repr(Solution("1 + 1?", ["2."], id="mine")) == "<Solution of 1 steps: '1 + 1?', ('2.',), id='mine'>"


def test_a_data_set_shows_numbers_rows_and_source():
    solutions = [Solution(HOSTILE, [HOSTILE * 20, "b"])] * 2
    data = StepDataset(flatten(solutions), [1, -1, 1, 1], description=HOSTILE)
    page = Tags(data._repr_html_())
    assert "script" not in page.seen
    assert HOSTILE in page.text
    assert "4 steps of 1 solutions, 1 problems" in page.text
    assert "75.0%" in page.text
    big = make_arithmetic_solutions(200, random_state=0)
    assert len(big._repr_html_()) < 5_000


def test_a_list_of_scored_solutions_shows_a_line_for_each(classifier, data):
    scored = score_solutions(classifier, [Solution(HOSTILE, [HOSTILE, "3 + 4 = 7."]), *data.solutions[:2]])
    page = Tags(scored._repr_html_())
    assert page.seen.count("details") == 3
    assert "script" not in page.seen
    assert "3 scored solutions" in page.text
    assert "2 steps, P(no error)" in page.text
    assert isinstance(scored, list)
    assert Tags(scored[1:]._repr_html_()).seen.count("details") == 2
    assert isinstance(scored[0], ScoredSolution)
    assert [one.p_no_error for one in pickle.loads(pickle.dumps(scored))] == [one.p_no_error for one in scored]
    assert "0 scored" in classifier.score_solutions([])._repr_html_()


def test_a_long_list_is_cut_and_steps_without_a_score_are_shown(data):
    solution = data.solutions[0]
    proba = np.full((solution.n_steps, 2), 0.5)
    proba[-1] = np.nan
    scored = ScoredSolution(solution, proba, classes=[0, 1])
    page = Tags(ScoredList([scored] * 130)._repr_html_())
    assert page.seen.count("details") == 100
    assert "and 30 more" in page.text
    assert "without a score" in page.text


def test_paths_with_uncertainty_are_shown_alike(classifier):
    new = make_arithmetic_solutions(3, random_state=1)
    page = Tags(path_uncertainty(classifier, new.solutions)._repr_html_())
    assert "verdict entropy" in page.text
    assert "credible first errors" in page.text


@pytest.mark.parametrize("guarantee", [PrefixCertifier, PathTriage])
def test_a_guarantee_shows_what_it_promises(guarantee):
    risks = [[0.1, 0.2, 0.9], [0.1, 0.6], [0.3, 0.2], [0.05, 0.1, 0.4]] * 10
    unfitted = guarantee()._repr_mimebundle_()
    assert guarantee.__name__ in unfitted["text/plain"]
    fitted = guarantee().fit(risks, [2, 1, -1, 2] * 10)
    shown = fitted._repr_mimebundle_()
    page = Tags(shown["text/html"])
    assert guarantee.__doc__.splitlines()[0].replace("``", "") in page.text
    assert all(name in page.text for name in fitted.get_params() if name != "classifier")
    assert "calibration paths40" in page.text
    assert f"{fitted.threshold_ if guarantee is PrefixCertifier else fitted.accept_threshold_:.4g}" in page.text


def test_a_level_that_few_problems_cannot_give_is_said():
    with pytest.warns(UserWarning, match="attain"):
        certifier = PrefixCertifier(alpha=0.01).fit([[0.1, 0.2]], [1])
    assert "not attainable" in certifier._repr_mimebundle_()["text/html"]


def test_sets_of_labels_show_themselves(classifier):
    new = make_arithmetic_solutions(40, random_state=1)
    sets = StepPredictionSets(classifier).fit(new.X, new.y)
    assert "StepPredictionSets" in sets._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "agg"])
def test_a_display_shows_its_plot_once(classifier, data, backend, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    from prmkit.metrics import ReliabilityDisplay, StepReportDisplay
    from prmkit.scoring import PathDisplay

    plt.close("all")
    displays = [
        PathDisplay.from_scored(score_solutions(classifier, data.solutions[:1])),
        StepReportDisplay.from_estimator(classifier, data.X, data.y),
        ReliabilityDisplay.from_predictions(data.y == -1, classifier.predict_proba(data.X)[:, 0]),
    ]
    assert len(plt.get_fignums()) == 3
    monkeypatch.setattr(plt, "get_backend", lambda: backend)
    for display in displays:
        assert display._repr_png_().startswith(b"\x89PNG")
    # The backend of notebooks shows every figure that is open at the end of a cell.
    assert len(plt.get_fignums()) == (0 if "inline" in backend else 3)
    plt.close("all")
    assert PathDisplay([])._repr_png_() is None


def test_every_display_shows_its_plot():
    rooms = (prmkit.metrics, prmkit.scoring, prmkit.uncertainty)
    displays = [getattr(room, name) for room in rooms for name in room.__all__ if name.endswith("Display")]
    assert len(displays) >= 6
    assert [display for display in displays if not hasattr(display, "_repr_png_")] == []


def test_bars_are_those_of_the_place():
    """tqdm.auto draws a bar of a notebook in a notebook."""
    for file in Path(prmkit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tqdm"):
                assert node.module == "tqdm.auto", file
