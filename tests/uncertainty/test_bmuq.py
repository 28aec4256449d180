"""PRMUncertainty answers as BMUq's methods do, with honest directions, and every error comes through."""

from dataclasses import FrozenInstanceError, dataclass, field

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from prmkit import PRMClassifier, Solution, Step
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.uncertainty import PRMUncertainty
from prmkit.uncertainty._bmuq import UncertaintyScore

QUESTION = "What is 2 + 3 * 4?"
PATH = ["First we multiply: 3 * 4 = 12.", "Then we add: 2 + 12 = 15.", "So the answer is 15."]


@dataclass
class ReasoningStep:
    """The shape of BMUq's step: compared by value, scores written into it."""

    step_id: int
    content: str
    uncertainty_scores: dict = field(default_factory=dict)


@dataclass
class ReasoningPath:
    """The shape of BMUq's path."""

    steps: list
    total_confidence: float = 0.0


class Stub:
    """A classifier that knows its answers by the text of the step, and counts its calls."""

    def __init__(self, answers, classes=(-1, 0, 1), members=None):
        self.answers, self.classes_, self.members = answers, np.array(classes), members
        self.calls = []
        if members is not None:
            self.member_proba = lambda X: np.stack([self.predict_proba(X) * 0 + row for row in members])

    def predict_proba(self, X):
        self.calls.append([(step.prefix, step.text) for step in X])
        return np.array([self.answers[step.text] for step in X])


@pytest.fixture(scope="module")
def classifier():
    data = make_arithmetic_solutions(80, 2, random_state=0)
    return PRMClassifier(StepStatistics(), None).fit(data.X, data.y)


@pytest.fixture
def stub():
    return Stub({"a": [0.1, 0.2, 0.7], "b": [0.5, 0.3, 0.2], "c": [0.0, 0.9, 0.1]})


@pytest.mark.parametrize(
    ("scoring_method", "values", "path", "higher_is"),
    [
        ("validity", [0.9, 0.5, 1.0], 0.5, "more confident"),
        ("redundancy", [0.2, 0.3, 0.9], 0.9, "more redundant"),
        ("positive_only", [0.7, 0.2, 0.1], 1 / 3, "more confident"),
    ],
)
def test_values_and_path_aggregates(stub, scoring_method, values, path, higher_is):
    method = PRMUncertainty(stub, scoring_method)
    scores = method.batch_evaluate_steps("q", ["a", "b", "c"])
    assert [score.value for score in scores] == pytest.approx(values, abs=1e-15)
    assert {score.metadata["higher_is"] for score in scores} == {higher_is} == {method.higher_is}
    assert method.evaluate_path("q", ["a", "b", "c"]) == pytest.approx(path, abs=1e-15)
    assert isinstance(method.evaluate_path("q", ["a"]), float)


def test_metadata_belongs_to_its_value(stub):
    """Each step gets its own index, probabilities, risk and entropy."""
    method = PRMUncertainty(stub, name="mine")
    in_place = method.batch_evaluate_steps("q", ["a", "b", "c"])
    assert [score.metadata["step_index"] for score in in_place] == [0, 1, 2]
    scores = method.batch_evaluate_steps("q", ["a", "b"], ["c", "a"])
    assert [score.metadata["step_index"] for score in scores] == [2, 2]
    assert [score.metadata["risk"] for score in in_place] == [0.1, 0.5, 0.0]
    assert scores[0].metadata["probabilities"] == {"negative": 0.0, "neutral": 0.9, "positive": 0.1}
    assert [score.metadata["risk"] for score in scores] == [0.0, 0.1]
    assert scores[1].metadata["entropy"] == pytest.approx(-sum(p * np.log(p) for p in (0.1, 0.2, 0.7)))
    assert [score.method for score in scores] == ["mine", "mine"]
    assert all(score.metadata["scoring_method"] == "validity" for score in scores)


def test_a_path_is_one_call(stub):
    method = PRMUncertainty(stub)
    method.batch_evaluate_steps("q", ["a", "b", "c"])
    method.evaluate_path("q", ["a", "b", "c"])
    assert [len(call) for call in stub.calls] == [3, 3]


def test_a_step_to_evaluate_is_the_next_one(stub):
    """Also where the path holds an equal step: a search may repeat one. BMUq passes the steps before it."""
    method = PRMUncertainty(stub)
    method.evaluate_step("q", ["a", "b"], "c")
    method.evaluate_step("q", ["a", "b"], "b")
    method.evaluate_step("q", [], "a")
    method.batch_evaluate_steps("q", ["a"], ["b", "c"])  # two candidates for the same place
    method.batch_evaluate_steps("q", ["a", "b", "a"])
    assert stub.calls == [
        [(("a", "b"), "c")],
        [(("a", "b"), "b")],
        [((), "a")],
        [(("a",), "b"), (("a",), "c")],
        [((), "a"), (("a",), "b"), (("a", "b"), "a")],
    ]


def test_objects_of_bmuq(stub):
    """Objects with ``content``, in a list or in an object with ``steps``."""
    steps = [ReasoningStep(i, text) for i, text in enumerate("ab")]
    method = PRMUncertainty(stub)
    assert method.evaluate_step("q", steps, ReasoningStep(2, "c")).metadata["step_index"] == 2
    assert method.evaluate_step("q", steps[:1], steps[1]).metadata["step_index"] == 1
    assert method.evaluate_step("q", steps, ReasoningStep(0, "a")).metadata["step_index"] == 2
    path = ReasoningPath(steps)
    assert method.evaluate_path("q", path) == 0.5
    assert [s.metadata["step_index"] for s in method.batch_evaluate_steps("q", path)] == [0, 1]
    assert [s.metadata["step_index"] for s in method.batch_evaluate_steps("q", path, path)] == [2, 2]
    assert steps[0].uncertainty_scores == {}
    assert path.total_confidence == 0.0


def test_objects_of_prmkit(stub):
    solution = Solution("q", ["a", "b"])
    method = PRMUncertainty(stub)
    assert method.evaluate_path("q", solution) == 0.5
    assert method.evaluate_step("q", solution, Step(Solution("q", ["a", "b", "c"]), 2)).value == 1.0


@pytest.mark.parametrize("scoring_method", ["validity", "redundancy", "positive_only"])
def test_batch_equals_single(classifier, scoring_method):
    method = PRMUncertainty(classifier, scoring_method)
    batch = method.batch_evaluate_steps(QUESTION, PATH)
    grown = [method.evaluate_step(QUESTION, PATH[:t], step) for t, step in enumerate(PATH)]
    np.testing.assert_allclose([s.value for s in batch], [s.value for s in grown], rtol=0, atol=1e-12)
    for one, other in zip(batch, grown, strict=True):
        assert one.metadata["step_index"] == other.metadata["step_index"]
        assert one.metadata["risk"] == pytest.approx(other.metadata["risk"], abs=1e-12)
    candidates = method.batch_evaluate_steps(QUESTION, PATH[:1], ["Add 2.", "2 + 12 = 14."])
    alone = [method.evaluate_step(QUESTION, PATH[:1], step).value for step in ("Add 2.", "2 + 12 = 14.")]
    np.testing.assert_allclose([s.value for s in candidates], alone, rtol=0, atol=1e-12)


def test_later_steps_change_nothing(classifier):
    method = PRMUncertainty(classifier)
    before = method.batch_evaluate_steps(QUESTION, PATH[:2])[1]
    after = method.batch_evaluate_steps(QUESTION, [*PATH, "Wait, 2 + 12 = 14.", "So it is 14."])[1]
    assert before.value == pytest.approx(after.value, abs=1e-12)


def test_agrees_with_the_classifier(classifier):
    scored = classifier.score_solutions([Solution(QUESTION, PATH)])[0]
    scores = PRMUncertainty(classifier).batch_evaluate_steps(QUESTION, PATH)
    np.testing.assert_allclose([s.value for s in scores], scored.rewards, rtol=0, atol=1e-15)
    np.testing.assert_allclose([s.metadata["entropy"] for s in scores], scored.entropy, rtol=0, atol=1e-12)
    assert PRMUncertainty(classifier, path_aggregate="product").evaluate_path(QUESTION, PATH) == pytest.approx(
        scored.aggregates["product"]
    )


def test_most_confident_steps_survive_float32():
    """Rows of float32 that sum to a little more than 1, or leave [0, 1] by rounding, are valid."""
    row = np.array([-1e-8, 1e-7, 1.0 + 1e-7], dtype=np.float32)
    score = PRMUncertainty(Stub({"a": row})).evaluate_step("q", [], "a")
    assert score.value == 1.0
    assert PRMUncertainty(Stub({"a": row}), "positive_only").evaluate_path("q", ["a"]) == 1.0


@pytest.mark.parametrize("row", [[np.nan] * 3, [0.5, 0.6, 0.3], [-0.1, 0.6, 0.5], [0.5, 0.5]])
def test_no_probabilities_raise(row):
    method = PRMUncertainty(Stub({"a": [0.1, 0.2, 0.7], "b": row}) if len(row) == 3 else Stub({"a": row, "b": row}))
    for call in (
        lambda: method.evaluate_step("q", ["a"], "b"),
        lambda: method.evaluate_path("q", ["a", "b"]),
        lambda: method.batch_evaluate_steps("q", ["a", "b"]),
    ):
        with pytest.raises(ValueError, match=r"NaN|proba|shape"):
            call()


def test_unscorable_step_is_named():
    method = PRMUncertainty(Stub({"a": [0.1, 0.2, 0.7], "b": [np.nan] * 3}))
    with pytest.raises(ValueError, match=r"1 of 2 steps .* index 1"):
        method.evaluate_path("q", ["a", "b"])


def test_errors_of_the_classifier_come_through(stub):
    class BrokenError(Exception):
        pass

    def fail(X):
        raise BrokenError("out of memory")

    stub.predict_proba = fail
    method = PRMUncertainty(stub)
    for call in (
        lambda: method.evaluate_step("q", ["a"], "b"),
        lambda: method.evaluate_path("q", ["a", "b"]),
        lambda: method.batch_evaluate_steps("q", [], ["a"]),
    ):
        with pytest.raises(BrokenError, match="out of memory"):
            call()


@pytest.mark.parametrize("empty", [[], (), ReasoningPath([])])
def test_empty_path(stub, empty):
    method = PRMUncertainty(stub)
    with pytest.raises(ValueError, match="empty"):
        method.evaluate_path("q", empty)
    assert method.batch_evaluate_steps("q", empty) == []
    assert method.batch_evaluate_steps("q", ["a"], []) == []


@pytest.mark.parametrize(
    ("path", "step", "error"),
    [
        ("a", "b", TypeError),
        (["a", 3.5], "b", TypeError),
        (["a"], 3.5, TypeError),
        (["a"], True, TypeError),
        (["a"], None, TypeError),
        (None, "a", TypeError),
        (["a"], 1, TypeError),
    ],
)
def test_wrong_arguments(stub, path, step, error):
    with pytest.raises(error):
        PRMUncertainty(stub).evaluate_step("q", path, step)


def test_question_and_list_of_steps_are_checked(stub):
    with pytest.raises(TypeError, match="problem"):
        PRMUncertainty(stub).evaluate_path(None, ["a"])
    with pytest.raises(TypeError, match="expected a list"):
        PRMUncertainty(stub).batch_evaluate_steps("q", ["a"], "b")


def test_members_give_an_interval():
    members = np.array([[p, 0.2, 0.8 - p] for p in (0.0, 0.1, 0.2, 0.3, 0.4)])
    stub = Stub({"a": [0.5, 0.2, 0.3], "b": [0.5, 0.2, 0.3]}, members=members)
    score = PRMUncertainty(stub).evaluate_step("q", ["a"], "b")
    assert score.value == pytest.approx(0.8)
    assert score.confidence_interval == pytest.approx(np.percentile(1 - members[:, 0], [5, 95]))
    assert PRMUncertainty(stub).evaluate_path("q", ["a", "b"]) == pytest.approx(0.8)
    fixed = PRMUncertainty(stub, "redundancy").evaluate_step("q", ["a"], "b")
    assert fixed.confidence_interval == pytest.approx((0.2, 0.2))


def test_without_members_no_interval(stub):
    assert PRMUncertainty(stub).evaluate_step("q", [], "a").confidence_interval is None


def test_classes_are_read_from_worst_to_best():
    stub = Stub({"a": [0.7, 0.1, 0.2]}, classes=("good", "bad", "fair"))
    with pytest.raises(ValueError, match="label_order"):
        PRMUncertainty(stub)
    stub.label_order_ = ("bad", "fair", "good")
    assert [PRMUncertainty(stub, s).evaluate_path("q", ["a"]) for s in ("validity", "redundancy", "positive_only")] == [
        0.9,
        0.2,
        0.7,
    ]


def test_two_classes_have_validity_alone():
    stub = Stub({"a": [0.3, 0.7]}, classes=(False, True))
    score = PRMUncertainty(stub).evaluate_step("q", [], "a")
    assert score.value == 0.7
    assert score.metadata["probabilities"] == {"negative": 0.3, "positive": 0.7}
    for scoring_method in ("redundancy", "positive_only"):
        with pytest.raises(ValueError, match='use "validity"'):
            PRMUncertainty(stub, scoring_method)


def test_wrong_settings(stub):
    with pytest.raises(ValueError, match="validity, redundancy, positive_only"):
        PRMUncertainty(stub, "confidence")
    for rule in ("median", "sum_log"):
        with pytest.raises(ValueError, match="path_aggregate"):
            PRMUncertainty(stub, path_aggregate=rule)
    with pytest.raises(NotFittedError, match="fit"):
        PRMUncertainty(PRMClassifier(StepStatistics()))


def test_it_is_usable_as_a_method_of_bmuq(stub):
    """What BMUq does with a method: register it, ask its name, call by its own names of arguments."""
    from abc import ABC, abstractmethod

    class UncertaintyMethod(ABC):
        @abstractmethod
        def evaluate_step(self, question, reasoning_path, step_to_evaluate): ...

    UncertaintyMethod.register(PRMUncertainty)
    method = PRMUncertainty(stub)
    assert isinstance(method, UncertaintyMethod)
    assert method.name == "prm_validity"
    steps = [ReasoningStep(0, "a")]
    assert method.evaluate_step(question="q", reasoning_path=steps, step_to_evaluate=ReasoningStep(1, "b")).value == 0.5
    scores = method.batch_evaluate_steps(question="q", reasoning_path=steps, steps_to_evaluate=[ReasoningStep(1, "b")])
    assert scores[0].value == 0.5
    # Its searches branch on these names, and call such methods otherwise.
    assert not any(hasattr(method, name) for name in ("semantic_entropy", "coherence_args", "total_coherence"))


def test_method_info(stub):
    info = PRMUncertainty(stub, "redundancy").get_method_info()
    assert info["name"] == "prm_redundancy"
    assert info["type"] == "PRMUncertainty"
    assert info["path_aggregate"] == "max"
    assert info["higher_is"] == "more redundant"
    assert info["classes"] == [-1, 0, 1]
    assert info["description"]


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_score_is_checked(value):
    with pytest.raises(ValueError, match="from 0 to 1"):
        UncertaintyScore(value, "m")


@pytest.mark.parametrize("interval", [(0.6, 0.5), (-0.1, 0.5), (0.1, float("nan"))])
def test_interval_is_checked(interval):
    with pytest.raises(ValueError, match="confidence_interval"):
        UncertaintyScore(0.5, "m", confidence_interval=interval)


def test_score_is_frozen():
    score = UncertaintyScore(0.5, "m")
    assert score.metadata == {}
    with pytest.raises(FrozenInstanceError):
        score.value = 0.7
