"""Scores on disk: nothing is scored twice, and half a line never counts."""

import json
import os
import signal
import time
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions, write
from prmkit.evaluation import read_benchmark
from prmkit.evaluation._inputs import _scoring
from prmkit.evaluation._inputs._models import JudgedModel, judged_model
from prmkit.evaluation._inputs._scoring import CHUNK, cached_scores, score_steps
from prmkit.features import StepStatistics
from prmkit.saving import save_model
from prmkit.uncertainty import CalibratedStepClassifier, LengthShift, StepEnsemble


class Counting(BaseEstimator):
    """A classifier that counts the steps it is asked about."""

    def __init__(self, classifier):
        self.inner, self.n_steps = classifier, 0
        self.classes_, self.label_order_ = classifier.classes_, classifier.label_order_

    def predict_proba(self, X):
        self.n_steps += len(X)
        return self.inner.predict_proba(X)

    def fit(self, X, y):
        return self

    def __sklearn_is_fitted__(self):
        return True


@pytest.fixture
def solutions(processbench):
    return read_benchmark(f"processbench:{processbench}").solutions


def model(counting, digest="a"):
    return JudgedModel("m", "prmkit", "", lambda: counting, lambda: digest)


def test_scores_are_kept_by_model_and_data(tmp_path, classifier, solutions):
    counting = Counting(classifier)
    n_steps = sum(one.n_steps for one in solutions)
    first = cached_scores(model(counting), "b", solutions, tmp_path)
    again = cached_scores(model(counting), "b", solutions, tmp_path)
    assert counting.n_steps == n_steps
    assert first.risks.tolist() == again.risks.tolist()
    assert first.neutral.tolist() == again.neutral.tolist()
    cached_scores(model(counting, "another"), "b", solutions, tmp_path)
    assert counting.n_steps == 2 * n_steps
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("part", [slice(1), slice(70), slice(3, 150), slice(None, None, 3)])
def test_a_longer_run_takes_over_the_scores_of_a_shorter_one(tmp_path, classifier, solutions, part):
    counting = Counting(classifier)
    some = cached_scores(model(counting), "some", solutions[part], tmp_path)
    n_steps = sum(one.n_steps for one in solutions)
    everything = cached_scores(model(counting), "all", solutions, tmp_path)
    assert counting.n_steps == n_steps
    fresh = cached_scores(model(classifier), "all", solutions, None)
    np.testing.assert_allclose(everything.risks, fresh.risks, rtol=1e-12)
    again = cached_scores(model(counting), "some", solutions[part], tmp_path)
    assert again.risks.tolist() == some.risks.tolist()
    assert counting.n_steps == n_steps


@pytest.mark.parametrize("kept", [0, 1, 100, "one line", "line and a half"])
def test_what_a_kill_left_is_completed(tmp_path, classifier, solutions, kept):
    counting = Counting(classifier)
    whole = cached_scores(model(counting), "b", solutions, tmp_path)
    [file] = tmp_path.iterdir()
    text = file.read_bytes()
    n_line = text.index(b"\n") + 1
    kept = {"one line": n_line, "line and a half": n_line + 50}.get(kept, kept)
    file.write_bytes(text[:kept])
    before = counting.n_steps
    again = cached_scores(model(counting), "b", solutions, tmp_path)
    done = CHUNK if kept >= n_line else 0
    assert counting.n_steps - before == sum(one.n_steps for one in solutions[done:])
    assert again.risks.tobytes() == whole.risks.tobytes()
    assert file.read_bytes() == text


def test_a_damaged_line_is_scored_again(tmp_path, classifier, solutions):
    whole = cached_scores(model(classifier), "b", solutions, tmp_path)
    [file] = tmp_path.iterdir()
    lines = file.read_text().splitlines()
    broken = json.loads(lines[1])
    broken["risks"] = broken["risks"][:-1]
    file.write_text("\n".join([lines[0], json.dumps(broken), *lines[2:]]) + "\n")
    assert cached_scores(model(classifier), "b", solutions, tmp_path).risks.tolist() == whole.risks.tolist()


def test_nothing_is_kept_without_a_folder(tmp_path, classifier, solutions, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cached_scores(model(classifier), "b", solutions, None)
    assert list(tmp_path.iterdir()) == []


def test_a_saved_model_has_one_digest_until_it_changes(classifier, tmp_path):
    classifier.save(tmp_path / "a")
    digest = judged_model(tmp_path / "a").digest()
    assert judged_model(tmp_path / "a").digest() == digest
    (tmp_path / "a" / "note.txt").write_text("x")
    assert judged_model(tmp_path / "a").digest() != digest


_RUN = """
import sys, time
from prmkit.evaluation import evaluate
from prmkit.evaluation._inputs import _scoring

if sys.argv[4] == "slow":
    score = _scoring.score_steps

    def slowly(*arguments):
        time.sleep(0.5)
        return score(*arguments)

    _scoring.score_steps = slowly
evaluate({"m": sys.argv[1]}, "processbench:" + sys.argv[2], out=sys.argv[3], n_resamples=20, show_progress=False)
"""


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_bytes(tmp_path, model_folder, processbench, start_python):
    def run(out, speed):
        return start_python(_RUN, str(model_folder), str(processbench), str(out), speed, folder=tmp_path)

    def ended(process):
        process.join()
        return process.exitcode

    assert ended(run(tmp_path / "whole", "fast")) == 0
    process = run(tmp_path / "killed", "slow")
    scores = tmp_path / "killed" / "scores"
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size for file in scores.glob("*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "results.json").exists()
    [half] = scores.iterdir()
    assert 0 < half.read_bytes().count(b"\n") < 4
    assert ended(run(tmp_path / "killed", "fast")) == 0
    for name in ("results.json", "results.md", "report.html"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_chunks_do_not_change_scores(classifier, solutions, monkeypatch):
    whole = cached_scores(model(classifier), "b", solutions, None).risks
    monkeypatch.setattr(_scoring, "CHUNK", 7)
    np.testing.assert_allclose(cached_scores(model(classifier), "b", solutions, None).risks, whole)


def test_warnings_of_all_chunks_are_one(classifier, solutions):
    class Complaining(Counting):
        def predict_proba(self, X):
            warnings.warn(f"{len(X)} steps are too long", UserWarning, stacklevel=2)
            return super().predict_proba(X)

    with pytest.warns(UserWarning, match="m on b: .* steps are too long .and 3 such warnings") as caught:
        cached_scores(model(Complaining(classifier)), "b", solutions, None)
    assert len(caught) == 1


def test_every_saved_model_that_scores_steps_is_evaluated_from_its_folder(classifier, solutions, tmp_path):
    """Calibrated classifiers and ensembles too, on the command line."""
    from typer.testing import CliRunner

    from prmkit.cli import app

    new = make_arithmetic_solutions(40, 2, random_state=11)
    calibrated = CalibratedStepClassifier(classifier).fit(new.X, new.y)
    ensemble = StepEnsemble(PRMClassifier(StepStatistics()), 2, random_state=0).fit(new.X, new.y)
    calibrated.save(tmp_path / "calibrated")
    save_model(ensemble, tmp_path / "ensemble")
    for name, model in {"calibrated": calibrated, "ensemble": ensemble}.items():
        judged = judged_model(tmp_path / name)
        assert judged.kind == "prmkit"
        np.testing.assert_array_equal(judged.training_problems, model.training_problems_)
        expected = score_steps(model, solutions[:5]).risks
        np.testing.assert_array_equal(score_steps(judged.classifier, solutions[:5]).risks, expected)
    write(make_arithmetic_solutions(30, random_state=12), tmp_path / "data.jsonl", format="stepwise")
    arguments = [tmp_path / "calibrated", tmp_path / "ensemble", "--on", f"stepwise:{tmp_path / 'data.jsonl'}"]
    arguments += ["--out", tmp_path / "report", "--resamples", 10]
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    assert "ensemble" in (tmp_path / "report" / "results.md").read_text()


def test_a_saved_model_without_step_scores_is_refused(tmp_path):
    LengthShift().fit(make_arithmetic_solutions(20, random_state=0).X).save(tmp_path / "detector")
    with pytest.raises(ValueError, match="holds a LengthShift, which gives no probabilities of steps"):
        judged_model(tmp_path / "detector")
