"""Ray scores blocks in actors: the rows and values of one process, whatever happens to an actor."""

import os
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.scoring import score_file
from prmkit.scoring.parts import Parts


class Fails:
    """A classifier that, from some solution on, raises an error or kills its process, as often as it is told to."""

    def __init__(self, classifier, problem, *, kills=None):
        self.classifier, self.problem, self.kills, self.classes_ = classifier, problem, kills, classifier.classes_

    def predict_proba(self, X):
        if any(step.problem == self.problem for step in X):
            if self.kills is None:
                raise ValueError("the model cannot read this")
            folder, most = self.kills
            n = len(list(Path(folder).iterdir()))
            if n < most:
                Path(folder, str(n)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return self.classifier.predict_proba(X)


@pytest.fixture(scope="module")
def data():
    return make_arithmetic_solutions(30, 2, random_state=0)


@pytest.fixture(scope="module")
def classifier(data):
    """A model without torch, since every actor loads it."""
    return make_pipeline(StepStatistics(), LogisticRegression(max_iter=1000)).fit(data.X, data.y)


def test_a_missing_ray_is_named(classifier, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"engine='ray' \(the extra ray\) needs 'ray\[data\]': pip install"):
        score_file(classifier, data, tmp_path / "scores.parquet", engine="ray")


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_two_actors_give_the_rows_of_one_process(ray, classifier, data, tmp_path, monkeypatch):
    from prmkit import PRMClassifier  # with torch, and so not above: the actors import this module

    PRMClassifier(StepStatistics(), random_state=0).fit(data.X, data.y).save(tmp_path / "model")
    score_file(tmp_path / "model", data, tmp_path / "one.parquet", block_steps=30)
    expected = pq.read_table(tmp_path / "one.parquet")
    kept = ray.data.DataContext.get_current().enable_progress_bars

    # The disk is full after three parts: what is there is kept, and the next run goes on.
    write, written = Parts.write, []

    def until_full(self, number, table):
        if len(written) == 3:
            raise OSError("the disk is full")
        written.append(number)
        write(self, number, table)

    out = tmp_path / "ray.parquet"
    options = {"block_steps": 30, "engine": "ray", "n_workers": 2}
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "write", until_full)
        with pytest.raises(OSError, match="the disk is full"):
            score_file(tmp_path / "model", data, out, **options)
    done = {part.name for part in (tmp_path / "ray.parquet.parts").glob("*.parquet")}
    assert len(done) == 3
    assert pq.read_table(score_file(tmp_path / "model", data, out, **options)).equals(expected)
    assert ray.data.DataContext.get_current().enable_progress_bars == kept

    # An actor dies: its block is scored by the next one.
    (tmp_path / "kills").mkdir()
    expected = pq.read_table(score_file(classifier, data, tmp_path / "alone.parquet", block_steps=30))
    dying = Fails(classifier, data.solutions[20].problem, kills=(tmp_path / "kills", 1))
    assert pq.read_table(score_file(dying, data, tmp_path / "died.parquet", **options)).equals(expected)
    assert len(list((tmp_path / "kills").iterdir())) == 1


@pytest.mark.slow
def test_errors_in_actors_reach_the_caller(ray, classifier, data, tmp_path):
    options = {"block_steps": 30, "engine": "ray", "n_workers": 1}
    failing = Fails(classifier, data.solutions[20].problem)
    with pytest.raises(ValueError, match="the model cannot read this"):
        score_file(failing, data, tmp_path / "scores.parquet", **options)

    def solutions():
        yield from data.solutions[:10]
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="the source is gone"):
        score_file(classifier, solutions(), tmp_path / "gone.parquet", **options)
    (tmp_path / "kills").mkdir()
    deadly = Fails(classifier, data.solutions[20].problem, kills=(tmp_path / "kills", 99))
    with pytest.raises(ChildProcessError, match=r"from solution arithmetic-\d+.* has ended 3 actors"):
        score_file(deadly, data, tmp_path / "other.parquet", **options)
    assert len(list((tmp_path / "kills").iterdir())) == 3
