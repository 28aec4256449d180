"""A forked process answers, on one thread, whatever its parent has computed before."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")

PRELUDE = """
import os, signal, warnings
import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from prmkit import PRMClassifier, PRMFeaturizer
from prmkit.data import make_arithmetic_solutions
from prmkit.models import StepMLP, TokenPRM

torch.set_num_threads(2)
data = make_arithmetic_solutions(8, 2, random_state=0)
X, y = data.X, data.y

def parallel_before():
    a = torch.ones(400, 400)
    (a @ a).exp().sum()

def in_child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)  # kills a child that hangs
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                work()
                work()
            told = sum("spawn" in str(warning.message) for warning in caught)
            os._exit(0 if told == 1 and torch.get_num_threads() == 2 else 3)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(4)
    assert os.waitpid(pid, 0)[1] == 0, "the child hung or failed"
"""
BODIES = {
    "default": """
        classifier = PRMClassifier(PRMFeaturizer(cache=False), random_state=0).fit(X, y)
        expected = classifier.predict_proba(X)
        in_child(lambda: np.testing.assert_allclose(classifier.predict_proba(X), expected, atol=0.02))
    """,
    "perceptron": """
        rows = np.random.default_rng(0).normal(size=(40_000, 8)).astype("float32")
        head = StepMLP(max_epochs=1, batch_size=None, random_state=0).fit(rows, rows[:, 0] > 0)
        expected = head.predict_proba(rows)
        in_child(lambda: np.testing.assert_allclose(head.predict_proba(rows), expected, atol=1e-5))
        in_child(lambda: StepMLP(max_epochs=1, batch_size=None, random_state=0).fit(rows, rows[:, 0] > 0))
    """,
    "trees": """
        rows = np.random.default_rng(0).normal(size=(20_000, 8))
        classifier = PRMClassifier("precomputed", HistGradientBoostingClassifier(max_iter=3)).fit(rows, rows[:, 0] > 0)
        expected = classifier.predict_proba(rows)
        in_child(lambda: np.testing.assert_array_equal(classifier.predict_proba(rows), expected))
    """,
    "tokens": """
        head = TokenPRM(num_train_epochs=1, initialization="random", random_state=0, show_progress=False).fit(X, y)
        expected = head.predict_proba(X)
        in_child(lambda: np.testing.assert_allclose(head.predict_proba(X), expected, atol=1e-4))
    """,
}


@pytest.mark.slow  # two threads on two busy cores wait for each other
def test_a_forked_process_answers():
    """All bodies have one parent, whose start costs more than they do."""
    works = [f"def {name}():" + body.replace("\n    ", "\n") for name, body in BODIES.items()]
    calls = [f"print('{name}', flush=True)\n{name}()" for name in BODIES]
    code = "\n".join([PRELUDE, *works, "parallel_before()", *calls])
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_module_leaves_its_device_after_the_last_thread():
    """Threads share a model: the first that is done must not take the weights from the others."""
    import torch

    from prmkit.utils.environment import on_device

    class Travels(torch.nn.Linear):
        def to(self, place):
            self.place = str(place)
            return self

    module = Travels(1, 1)
    with on_device(module, "gpu"):
        with on_device(module, "gpu"):
            pass
        assert module.place == "gpu"
    assert module.place == "cpu"
    with pytest.raises(KeyError), on_device(module, "gpu"):
        raise KeyError
    assert module.place == "cpu"
