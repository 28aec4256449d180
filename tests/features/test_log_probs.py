"""LogProbFeatures: columns by hand, lists that are missing or malformed, and their way through readers and saving."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score
from sklearn.utils._param_validation import InvalidParameterError

from prmkit import PRMClassifier, Solution, Step, StepDataset, StratifiedProblemKFold, flatten
from prmkit.data import load, load_samples, make_arithmetic_solutions
from prmkit.data.formats.solutions import iter_solutions_of
from prmkit.features import LogProbFeatures
from prmkit.features.states.log_probs import LOG_PROB_COLUMNS, log_prob_statistics
from prmkit.utils.estimator_checks import check_no_lookahead, check_step_order_invariance, check_step_subset_invariance

LISTS = [[-1.0, -3.0], [-0.5], [-0.25] * 18 + [-2.0, -4.0]]


def solution(lists=LISTS, name=None, steps=("a", "b", "c")):
    return Solution("What is it?", steps, id=name, meta={"token_logprobs": lists})


def columns(X, **params):
    features = LogProbFeatures(**params)
    return dict(zip(features.get_feature_names_out(), features.fit_transform(X).T, strict=True))


def test_columns_are_what_their_names_say():
    found = columns(flatten([solution()]))
    assert list(found) == ["step_index", "step_tokens", *LOG_PROB_COLUMNS]
    expected = {
        "step_index": np.log([1, 2, 3]),
        "step_tokens": np.log([3, 2, 21]),
        "logprob_mean": [-2.0, -0.5, -10.5 / 20],
        "logprob_min": [-3.0, -0.5, -4.0],
        "logprob_lowest_tenth": [-3.0, -0.5, -3.0],  # two of twenty tokens
        "logprob_std": [1.0, 0.0, np.std(LISTS[2])],
        "logprob_sum": [-4.0, -0.5, -10.5],
        "logprob_mean_so_far": [-2.0, -1.5, -15.0 / 23],
        "logprob_min_so_far": [-3.0, -3.0, -4.0],
        "logprob_mean_change": [0.0, 1.5, -10.5 / 20 + 1.5],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


def test_a_step_without_tokens_says_nothing_and_hides_nothing():
    rows = log_prob_statistics([-1.0, -3.0, -2.0], [0, 2, 0, 1])
    assert (rows[0] == 0).all()
    assert (rows[2, :5] == 0).all()
    np.testing.assert_array_equal(rows[2, 5:], [-2.0, -3.0, 0.0])
    np.testing.assert_array_equal(rows[1], log_prob_statistics([-1.0, -3.0], [2])[0])
    assert rows[3, -1] == 0.0  # the mean before was -2 too


def test_the_order_of_tokens_in_a_step_does_not_matter_and_no_step_looks_ahead():
    rng = np.random.default_rng(0)
    lists = [-rng.exponential(size=n) for n in (7, 1, 30)]
    whole = log_prob_statistics(np.concatenate(lists), [7, 1, 30])
    for n in (1, 2):
        np.testing.assert_allclose(log_prob_statistics(np.concatenate(lists[:n]), [7, 1, 30][:n]), whole[:n])
    mixed = np.concatenate([rng.permutation(part) for part in lists])
    np.testing.assert_allclose(log_prob_statistics(mixed, [7, 1, 30]), whole)


def test_equal_texts_with_other_log_probabilities_are_told_apart():
    one, other = solution(), solution([[-9.0], [-9.0], [-9.0]])
    assert one == other
    np.testing.assert_array_equal(columns(flatten([one, other]))["logprob_min"], [-3.0, -0.5, -4.0, -9.0, -9.0, -9.0])


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        (None, "it is missing"),
        ({"token_logprobs": None}, "it is missing"),
        ({"token_logprobs": "-1 -2 -3"}, "found str"),
        ({"token_logprobs": 3.0}, "found float"),
        ({"token_logprobs": {"a": [-1.0]}}, "found dict"),
        ({"token_logprobs": LISTS[:2]}, "found 2 lists, the solution has 3 steps"),
        ({"token_logprobs": [-1.0, -2.0, -3.0]}, "step 0 holds float instead of a list"),
        ({"token_logprobs": [[-1.0], [None, -1.0], [-1.0]]}, "step 1 holds None instead of a number"),
        ({"token_logprobs": [[-1.0], ["-1"], [-1.0]]}, "step 1 holds '-1' instead of a number"),
        ({"token_logprobs": [[-1.0], [-1.0], [0.9]]}, "step 2 holds 0.9, which is no log-probability"),
        ({"token_logprobs": [[-1.0], [-1.0], [float("nan")]]}, "step 2 holds nan, which is no log-probability"),
        ({"token_logprobs": [[float("-inf")], [-1.0], [-1.0]]}, "step 0 holds -inf, which is no log-probability"),
    ],
)
def test_lists_that_cannot_be_read_are_named(meta, words):
    X = flatten([solution(), Solution("p", ["a", "b", "c"], id="mine", meta=meta)])
    with pytest.raises(ValueError, match=f"1 of 2 solutions \\('mine'\\): {words}.*Expected a list per step"):
        LogProbFeatures().fit_transform(X)
    with pytest.warns(UserWarning, match=words):
        rows = LogProbFeatures(missing="nan").fit_transform(X)
    assert not np.isnan(rows[:3]).any()
    assert np.isnan(rows[3:]).any(axis=1).any()


def test_one_bad_list_costs_its_step_and_what_would_have_counted_it():
    with pytest.warns(UserWarning, match="2 of 3 steps have NaN"):
        found = columns(flatten([solution([[-1.0], None, [-2.0]])]), missing="nan")
    np.testing.assert_array_equal(found["logprob_mean"], [-1.0, np.nan, -2.0])
    np.testing.assert_array_equal(found["logprob_min_so_far"], [-1.0, np.nan, np.nan])
    np.testing.assert_array_equal(found["step_tokens"], [np.log(2), np.nan, np.log(2)])


def test_arrays_and_rounding_above_zero_are_read():
    lists = [np.array([-1.0, 1e-4], dtype=np.float32), (-1,), [np.float64(-2.0)]]
    np.testing.assert_allclose(columns(flatten([solution(lists)]))["logprob_min"], [-1.0, -1.0, -2.0])


def test_lists_of_steps_that_were_cut_off_are_not_read():
    cut = Step(solution(steps=("a", "b")), 1)
    np.testing.assert_allclose(columns([cut])["logprob_mean_so_far"], [-1.5])


def test_a_text_has_no_lists():
    with pytest.raises(ValueError, match="it is missing"):
        LogProbFeatures().fit_transform(["3 * 4 = 12."])


def test_policy_is_checked():
    with pytest.raises(InvalidParameterError, match="missing"):
        LogProbFeatures(missing="zero").fit(["a"])


def with_lists(solutions):
    """The same solutions, whose lists hold a number per character. Every fourth has none."""
    return [
        Solution(
            one.problem,
            one.steps,
            meta={"token_logprobs": [[-(ord(letter) % 7) / 7 for letter in step] for step in one.steps]}
            if number % 4
            else None,
        )
        for number, one in enumerate(solutions)
    ]


@pytest.mark.filterwarnings("ignore:Solution.meta")
def test_guarantees_with_and_without_lists():
    data = make_arithmetic_solutions(6, 2, random_state=0)
    X = flatten(with_lists(data.solutions))
    for check in (check_no_lookahead, check_step_subset_invariance, check_step_order_invariance):
        check(LogProbFeatures(missing="nan"), X, [0] * len(X))


def test_the_checks_see_look_ahead_in_lists():
    class Ahead(LogProbFeatures):
        def transform(self, X):
            lists = [step.solution.meta["token_logprobs"] for step in X]
            return np.array([[min(map(min, of_steps))] for of_steps in lists])

    with pytest.raises(AssertionError, match="looks ahead"):
        check_no_lookahead(Ahead(), flatten([solution()]), [0, 0, 0])


def test_what_a_generator_doubted_is_found_by_any_classifier_and_saved(tmp_path):
    """Wrong steps have less likely tokens in this data."""
    data = make_arithmetic_solutions(30, 2, error_rate=0.5, random_state=0)
    wrong = {id(step.solution): set() for step in data.X}
    for step, label in zip(data.X, data.y, strict=True):
        wrong[id(step.solution)] |= {step.index} if label == -1 else set()
    rng, told = np.random.default_rng(0), {}
    for step in data.X:
        lists = [
            -rng.exponential(2.0 if t in wrong[id(step.solution)] else 1.0, 40) for t in range(step.solution.n_steps)
        ]
        told.setdefault(id(step.solution), Solution(step.problem, step.solution.steps, meta={"token_logprobs": lists}))
    X = [Step(told[id(step.solution)], step.index) for step in data.X]
    clf = PRMClassifier(LogProbFeatures(), HistGradientBoostingClassifier(max_iter=20, random_state=0))
    scores = cross_val_score(clf, X, data.y == -1, cv=StratifiedProblemKFold(3), scoring="roc_auc")
    assert scores.mean() > 0.9
    expected = clf.fit(X, data.y).predict_proba(X)
    clf.save(tmp_path / "model")
    np.testing.assert_allclose(PRMClassifier.load(tmp_path / "model").predict_proba(X), expected)


def read_back(solutions):
    return [[list(part) for part in one.meta["token_logprobs"]] for one in solutions]


def test_lists_travel_through_records_tables_and_hugging_face():
    records = [
        {"q": f"Is it {n}?", "s": ["a", "b"], "l": [1, -1], "token_logprobs": [[-1.0, -n], [-2.0]]} for n in (1.0, 2.0)
    ]
    expected = [record["token_logprobs"] for record in records]
    fields = {"problem": "q", "steps": "s", "labels": "l", "token_logprobs": "token_logprobs"}
    data = load(records, fields=fields, labels="rating")
    assert read_back(data.solutions) == expected
    assert read_back(StepDataset.from_hf(data.to_hf()).solutions) == expected
    rows = [
        {"problem": one["q"], "step": text, "label": rating, "token_logprobs": of_tokens}
        for one in records
        for text, rating, of_tokens in zip(one["s"], one["l"], one["token_logprobs"], strict=True)
    ]
    table = StepDataset.from_frame(rows)
    assert read_back(table.solutions) == expected
    np.testing.assert_array_equal(columns(table.X)["logprob_sum"], [-2.0, -2.0, -3.0, -2.0])
    assert StepDataset.from_frame([{**row, "token_logprobs": None} for row in rows]).solutions[0].meta is None


@pytest.mark.parametrize("in_meta", [False, True])
def test_lists_travel_to_what_scores_a_source(in_meta):
    told = {"token_logprobs": [[-1.0, -3.0], [-2.0, -1.0]]}
    records = [{"problem": f"Is it {n}?", "steps": ["a", "b"], **({"meta": told} if in_meta else told)} for n in (1, 2)]
    assert read_back(iter_solutions_of(records)) == [told["token_logprobs"]] * 2
    assert next(iter_solutions_of([{"problem": "p", "steps": ["a"]}])).meta is None


def test_lists_of_equal_length_make_a_table_too():
    rows = [{"problem": f"Is it {n}?", "step": "a", "label": 1, "token_logprobs": [-1.0, -n]} for n in (1.0, 2.0)]
    assert read_back(StepDataset.from_frame(rows).solutions) == [[[-1.0, -1.0]], [[-1.0, -2.0]]]


def test_lists_of_samples_are_named():
    rows = [
        {"problem": "What is 2 + 2?", "s": ["2 + 2 = 4.", answer], "ok": answer == "4", "lp": [[-1.0], [-n]]}
        for n, answer in enumerate("45", start=2)
    ]
    named = {"steps": "s", "correct": "ok", "token_logprobs": "lp"}
    assert read_back(load_samples(rows, **named).solutions) == [[[-1.0], [-2]], [[-1.0], [-3]]]
    several = [{"problem": "What is 2 + 2?"} | {name: [row[name] for row in rows] for name in ("s", "ok", "lp")}]
    assert read_back(load_samples(several, **named).solutions) == [[[-1.0], [-2]], [[-1.0], [-3]]]
    with pytest.raises(ValueError, match="unequal lengths"):
        load_samples([several[0] | {"lp": [[[-1.0]]]}], **named)
    with pytest.raises(ValueError, match="name the field of the steps"):
        load_samples(rows, text="s", token_logprobs="lp")
    with pytest.raises(ValueError, match="no record has the field of token_logprobs='lps'"):
        load_samples(rows, **named | {"token_logprobs": "lps"})
