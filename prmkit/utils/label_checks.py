"""Check of the meaning of labels, for any classifier of steps: every spelling of a label keeps its polarity.

It stands apart from ``estimator_checks``, whose checks fit featurizers too.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from sklearn.base import clone

from prmkit.data.dataset import StepDataset
from prmkit.utils.estimator_checks import TOLERANCE

__all__ = ["check_label_polarity"]

# How the same two labels are spelled, wrong first, and the options that declare them.
_SPELLINGS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "booleans": (False, True, {}),
    "0 and 1": (0, 1, {}),
    "0 and 1, declared": (0, 1, {"labels": "binary"}),
    "ratings": (-1, 1, {"labels": "rating"}),
    "signs": ("-", "+", {}),
    "names": ("negative", "positive", {}),
    "other names": ("Incorrect", "Correct", {}),
    "probabilities": (0.25, 0.75, {"threshold": 0.5}),
    "classes, wrong first": (0, 1, {"names": ["wrong", "right"]}),
    "classes, right first": (1, 0, {"names": ["right", "wrong"]}),
}


def check_label_polarity(classifier: Any) -> None:
    """Check that the same labels give the same risks in every spelling, from a file to a fitted classifier and back.

    Small solutions with known errors are spelled in ten ways: booleans, numbers, signs, names, probabilities and
    numbered classes of a Hugging Face data set. Each is loaded, fitted on and scored, then written and loaded again.
    AssertionError names a spelling whose risks differ, whose wrong steps have no larger risk than the right ones, or
    that comes back from a file with other labels.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from prmkit import PRMClassifier
    >>> from prmkit.features import StepStatistics
    >>> check_label_polarity(PRMClassifier(StepStatistics(), LogisticRegression()))
    """
    from prmkit.data import load, make_arithmetic_solutions, write
    from prmkit.scoring import score_solutions

    data = make_arithmetic_solutions(12, 2, error_rate=0.7, random_state=0)
    is_wrong, expected = np.asarray(data.y) == -1, None
    for spelling, (wrong, right, options) in _SPELLINGS.items():
        records = _spelled(data, wrong, right, options)
        dataset = load(records, **{name: value for name, value in options.items() if name != "names"})
        model = clone(classifier).fit(dataset.X, dataset.y)
        scored = score_solutions(model, data.solutions)
        risks = np.concatenate([solution.risks for solution in scored])
        assert risks[is_wrong].mean() > risks[~is_wrong].mean(), f"{spelling}: wrong steps have the smaller risk"
        expected = risks if expected is None else expected
        difference = np.abs(risks - expected).max()
        assert difference <= TOLERANCE, f"{spelling}: risks differ by {difference:.2g} from those of other spellings"
        with tempfile.TemporaryDirectory() as folder:
            for name in ("rated", "stepwise", "sdiehl", "flat"):
                write(dataset, f"{folder}/{name}.jsonl", name)
                back = load(f"{folder}/{name}.jsonl", name)
                same = (np.asarray(back.y) == -1).tolist() == is_wrong.tolist()
                assert same, f"{spelling}: the format {name} gives other labels back"


def _spelled(data: StepDataset, wrong: Any, right: Any, options: dict[str, Any]) -> Any:
    """Return stepwise records of a data set, with its labels in another spelling."""
    labels = iter([wrong if rating == -1 else right for rating in data.y.tolist()])
    records = [
        {"prompt": s.problem, "completions": list(s.steps), "labels": [next(labels) for _ in s.steps]}
        for s in data.solutions
    ]
    if "names" not in options:
        return records
    import datasets

    text = datasets.Value("string")
    kinds = datasets.List(datasets.ClassLabel(names=options["names"]))
    types = datasets.Features({"prompt": text, "completions": datasets.List(text), "labels": kinds})
    return datasets.Dataset.from_list(records, features=types)
