"""What a user's tools see: type checkers find wrong calls, editors complete names."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

jedi = pytest.importorskip("jedi", reason="jedi is in the extra [dev]")
pytest.importorskip("mypy", reason="mypy is in the extra [dev]")

ROOT = Path(__file__).resolve().parents[1]

RIGHT = """
from collections.abc import Sequence

from sklearn.linear_model import LogisticRegression
from prmkit import PRMClassifier, PRMFeaturizer, Solution, StepDataset, StratifiedProblemKFold, TokenPRM
from prmkit import flatten, load_prm800k, score_solutions
from prmkit.data import load, load_processbench, make_arithmetic_solutions
from prmkit.metrics import step_report
from prmkit.models import PRMTrainer, PRMTrainingConfig, StepTransformer
from prmkit.uncertainty import PrefixCertifier, path_uncertainty

solution = Solution("What is 2 + 2?", ["2 + 2 = 4", "The answer is 4."], id="a", meta={"answer": "4"})
steps: Sequence[str] = solution.steps
data: StepDataset = make_arithmetic_solutions(20, random_state=0)
X, y = data
first_five: StepDataset = data[:5]
classifier = PRMClassifier(PRMFeaturizer(), LogisticRegression(), random_state=0).fit(X, y)
PRMClassifier(head=StepTransformer()), PRMClassifier(head=TokenPRM())
scored = score_solutions(classifier, [solution])
risks = scored[0].risks
certifier = PrefixCertifier(classifier, alpha=0.1).fit(data.solutions, data.first_errors)
loaded: StepDataset = load_processbench("gsm8k.json")
"""

# Each line is one wrong call; a type checker must complain about every one of them.
WRONG = """
from prmkit import PRMClassifier, PRMFeaturizer, Solution, TokenPRM, load_prm800k
from prmkit.data import load, load_processbench, make_arithmetic_solutions
from prmkit.models import PRMTrainingConfig, StepTransformer
from prmkit.uncertainty import PrefixCertifier

PRMClassifier(no_such=3)
Solution(5, 6)
Solution("What is 2 + 2?")
PRMFeaturizer(kind=3)
TokenPRM(no_such=1)
StepTransformer(no_such=1)
PrefixCertifier(no_such=1)
PRMTrainingConfig(no_such=1)
load_prm800k(no_such=1)
load_processbench("a.json", no_such=1)
make_arithmetic_solutions("many")
"""

COMPLETIONS = {
    "from prmkit import PRMClassifier\nPRMClassifier().fi": "fit",
    "from prmkit import PRMClassifier\nPRMClassifier().fit([], []).score_s": "score_solutions",
    "from prmkit import PRMC": "PRMClassifier",
    "from prmkit.uncertainty import Pre": "PrefixCertifier",
    "from prmkit.data import load_pro": "load_processbench",
    "from prmkit.data.formats import load_pro": "load_processbench",
    "from prmkit.models import To": "TokenPRM",
    "import prmkit\nprmkit.unc": "uncertainty",
    "from prmkit.data import make_arithmetic_solutions\nmake_arithmetic_solutions(5).first_e": "first_errors",
    "from prmkit.uncertainty import PrefixCertifier\nPrefixCertifier().pred": "predict",
}


# mypy needs a minute. CI also runs it over the whole package.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Errors that mypy finds in two users' scripts: their files and lines."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    # From the project's folder and with its settings: what it has read of torch it need not read again.
    command = [sys.executable, "-m", "mypy", str(folder / "right.py"), str(folder / "wrong.py")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout + run.stderr
    return re.findall(r"\b((?:right|wrong)\.py:\d+: error: .*)", run.stdout)


def test_right_calls_pass(errors):
    assert [line for line in errors if line.startswith("right.py")] == []


def test_wrong_calls_fail(errors):
    reported = {int(line.split(":")[1]) for line in errors if line.startswith("wrong.py")}
    lines = WRONG.splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if line and not line.startswith("from")}
    assert {lines[number - 1] for number in wrong - reported} == set()


@pytest.mark.parametrize("code", COMPLETIONS, ids=lambda code: code.rsplit("\n", maxsplit=1)[-1])
def test_editors_complete(code):
    names = [completion.name for completion in jedi.Script(code, project=jedi.Project(str(ROOT))).complete()]
    assert COMPLETIONS[code] in names
