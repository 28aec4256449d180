"""Engines of joblib: a cross-validation has the numbers of one process, wherever its folds are fitted."""

from contextlib import contextmanager

import joblib
import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

from prmkit import PRMClassifier, StratifiedProblemKFold
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics


@contextmanager
def loky():
    with joblib.parallel_config("loky", n_jobs=2):
        yield


@contextmanager
def dask():
    distributed = pytest.importorskip("distributed")
    options = {"dashboard_address": None, "silence_logs": "ERROR"}
    with (
        distributed.Client(n_workers=2, threads_per_worker=1, processes=True, **options),
        joblib.parallel_config("dask"),
    ):
        yield


@contextmanager
def ray():
    ray = pytest.importorskip("ray")
    register = pytest.importorskip("ray.util.joblib").register_ray
    ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    try:
        register()
        with joblib.parallel_config("ray", n_jobs=2):
            yield
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("engine", [loky, dask, ray], ids=lambda engine: engine.__name__)
def test_the_numbers_are_those_of_one_process(engine):
    X, y = make_arithmetic_solutions(12, 2, random_state=0)
    clf, settings = PRMClassifier(StepStatistics(), random_state=0), {"scoring": "neg_log_loss"}
    settings["cv"] = StratifiedProblemKFold(2)
    expected = cross_val_score(clf, X, y, **settings)
    with engine():
        found = cross_val_score(clf, X, y, **settings)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.ptp(expected) > 0  # each fold has a number of its own, which could be mistaken
