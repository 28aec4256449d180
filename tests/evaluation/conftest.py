"""A small made-up ProcessBench, a classifier that is fitted in no time, and candidates to choose from."""

import json

import numpy as np
import pytest

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.evaluation import Benchmark
from prmkit.features import StepStatistics


def as_processbench(data):
    return [
        {
            "id": f"made-{i}",
            "generator": "M",
            "problem": solution.problem,
            "steps": list(solution.steps),
            "final_answer_correct": first == -1,
            "label": int(first),
        }
        for i, (solution, first) in enumerate(zip(data.solutions, data.first_errors, strict=True))
    ]


@pytest.fixture(scope="session")
def classifier():
    data = make_arithmetic_solutions(60, 2, random_state=0)
    return PRMClassifier(StepStatistics(), random_state=0).fit(data.X, data.y)


@pytest.fixture(scope="session")
def model_folder(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "statistics"
    classifier.save(folder)
    return folder


@pytest.fixture(scope="session")
def processbench(tmp_path_factory):
    """A file of 200 solutions in ProcessBench's layout: four chunks of scores."""
    path = tmp_path_factory.mktemp("data") / "gsm8k.json"
    path.write_text(json.dumps(as_processbench(make_arithmetic_solutions(100, 2, random_state=1))))
    return path


@pytest.fixture(scope="session")
def candidates(tmp_path_factory):
    """Ten problems with three solutions each; the first of three is correct, and the longest."""
    path = tmp_path_factory.mktemp("data") / "samples.jsonl"
    rows = [
        {
            "prompt": f"{i} + 1?",
            "answers": [f"We add one to {i}.\nThe answer is {i + 1}", "The answer is 99", "The answer is 98"],
            "label": [1, 0, 0],
        }
        for i in range(10)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def benchmark(classifier):
    return Benchmark.from_dataset("new", make_arithmetic_solutions(40, 2, random_state=2))


@pytest.fixture
def value_of():
    """Return a number of a table of ``to_dict``."""

    def find(evaluation, title, system, column):
        row = next(row for row in evaluation.table(title).rows if row.system == system)
        cell = row.values[column]
        return getattr(cell, "value", cell)

    return find


@pytest.fixture(scope="session")
def published_trl(make_tokenizer, make_language_model, tmp_path_factory):
    """A small, random model of TRL's kind: a label for each token."""
    folder = tmp_path_factory.mktemp("published") / "trl"
    tokenizer = make_tokenizer()
    make_language_model(tokenizer, "AutoModelForTokenClassification", num_labels=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def random_risks():
    rng = np.random.default_rng(0)
    return lambda solution: rng.random(solution.n_steps)
