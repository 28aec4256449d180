"""scikit-learn's own checks over the registry, on numeric input where an estimator takes it."""

import warnings

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks as checks
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from prmkit.utils._registry import REGISTRY

FAILURES = {entry.name: entry.expected_failures for entry in REGISTRY}
ESTIMATORS = [
    entry.make(params)
    for entry in REGISTRY
    if entry.numeric is not None or entry.steps
    for params in (entry.numeric or entry.steps[0],)
]
# What reads paths of several lengths cannot be given scikit-learn's tables; its manners can be checked all the same.
OF_PATHS = [entry.make(entry.a_setting) for entry in REGISTRY if entry.numeric is None and not entry.steps]
MANNERS = [
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_get_params_invariance,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_set_params,
]


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda est: FAILURES[type(est).__name__])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*lbfgs failed to converge.*")
        check(estimator)


@pytest.mark.parametrize("check", MANNERS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("estimator", OF_PATHS, ids=lambda estimator: type(estimator).__name__)
def test_manners_of_path_estimators(estimator, check):
    check(type(estimator).__name__, clone(estimator))


def test_numeric_estimators_run_the_whole_suite():
    """The suite is not silently empty for those that claim to pass it."""
    for entry in REGISTRY:
        if entry.numeric is not None:
            assert len(list(estimator_checks_generator(entry.make(entry.numeric)))) > 50, entry.name


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.name)
def test_expected_failures_have_reasons(entry):
    assert all(len(reason.split()) >= 5 for reason in entry.expected_failures.values())
