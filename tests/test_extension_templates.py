"""The templates of extensions work as they stand."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

from prmkit import PRMClassifier
from prmkit.data import load, make_arithmetic_solutions, write
from prmkit.data.formats.registry import FORMATS
from prmkit.features import StepStatistics
from prmkit.models import TokenPRM
from prmkit.models.losses import get_loss
from prmkit.utils.estimator_checks import check_no_lookahead, check_step_order_invariance

TEMPLATES = Path(__file__).resolve().parents[1] / "extension_templates"


@pytest.fixture(scope="module")
def template():
    """Import templates by name, as a user's modules would be. Afterwards the format is taken out again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TEMPLATES)
        yield importlib.import_module
        for path in TEMPLATES.glob("*.py"):
            sys.modules.pop(path.stem, None)
    FORMATS.pop("my_format", None)


def test_every_template_has_a_test():
    tested = set(re.findall(r'template\("(\w+)"\)', Path(__file__).read_text()))
    assert {path.stem for path in TEMPLATES.glob("*.py")} == tested


def test_format(template, tmp_path):
    template("my_format")
    record = {"task": "2 + 3?", "lines": ["2 + 3 = 5.", "So 6."], "marks": ["ok", "bad"]}
    data = load([record])
    assert data.y.tolist() == [1, -1]
    assert data.first_errors == [1]
    write(data, tmp_path / "mine.jsonl", "my_format")
    assert load(tmp_path / "mine.jsonl", format="my_format").y.tolist() == [1, -1]
    assert "recognised by its first records as my_format" in data.description


def test_format_counts_what_it_leaves_out(template):
    template("my_format")
    record = {"task": "2 + 3?", "lines": ["2 + 3 = 5.", "So 6."], "marks": ["ok", "maybe"]}
    assert len(load([record], format="my_format", strict=False).X) == 1
    with pytest.raises(ValueError, match="strict=False"):
        load([record], format="my_format")


def test_head(template):
    head = template("my_head").NearestMean()
    check_estimator(head)
    data = make_arithmetic_solutions(15, 2, random_state=0)
    classifier = PRMClassifier(StepStatistics(), head).fit(data.X, data.y)
    assert classifier.predict_proba(data.X).shape == (len(data.X), 3)
    check_no_lookahead(PRMClassifier(StepStatistics(), head), data.X[:40], data.y[:40])
    check_step_order_invariance(PRMClassifier(StepStatistics(), head), data.X[:40], data.y[:40])


def test_loss(template):
    torch = pytest.importorskip("torch")
    template("my_loss")
    loss = get_loss("hinge", margin=2.0)
    rewards, labels = torch.tensor([[3.0, 1.0, 9.0]]), torch.tensor([[1, 0, -100]])
    assert loss(rewards, labels).item() == pytest.approx((0 + 3) / 2)
    tiny = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    data = make_arithmetic_solutions(12, 1, random_state=0)
    head = TokenPRM(loss="hinge", initialization="random", model_kwargs=tiny, num_train_epochs=1, random_state=0)
    proba = PRMClassifier("tokens", head).fit(data.X, data.y >= 0).predict_proba(data.X[:3])
    assert proba.sum(axis=1) == pytest.approx(np.ones(3))


def test_guarantee(template):
    """Over random splits, accepted solutions with an error stay below the level."""
    acceptor = template("my_guarantee").SolutionAcceptor
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(60):
        risks = rng.uniform(size=(120, 3))
        wrong = rng.uniform(size=120) < risks.max(axis=1) ** 2
        first_errors = np.where(wrong, risks.argmax(axis=1), -1)
        fitted = acceptor(alpha=0.2).fit(list(risks[:60]), first_errors[:60])
        rates.append(fitted.evaluate(list(risks[60:]), first_errors[60:])["failure_rate"])
    assert np.mean(rates) < 0.2 + 2 * np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) > 0.1


def test_guarantee_says_what_is_not_attainable(template):
    acceptor = template("my_guarantee").SolutionAcceptor(alpha=0.01)
    with pytest.warns(UserWarning, match="not attainable"):
        fitted = acceptor.fit([[0.1], [0.2]], [-1, 0])
    assert not fitted.predict([[0.0]]).any()
