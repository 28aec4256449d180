"""Rules that choose one sample, and their report, against counting by hand; when a vote is decided."""

import gzip
import itertools
import json
import math

import numpy as np
import pytest

from prmkit.data import Candidates, CandidateSet, Solution, load_samples
from prmkit.metrics import SelectionDisplay, select, selection_report, vote, vote_accuracy, vote_is_decided

PUBLISHED = ["samples", "qwen_prm_scores", "skywork_prm_scores", "math_shepherd_scores"]
RULES = ["best", "weighted", "combine", "tie_break", "filter", "pessimistic"]


def groups_of(answers, missing, among):
    """Return the candidates of each answer, in the order of their first ones."""
    groups = {}
    for i in among:
        if answers[i] is None and missing == "drop":
            continue
        groups.setdefault(("alone", i) if answers[i] is None else answers[i], []).append(i)
    return list(groups.values())


def best_groups(answers, scores, rule, *, missing="alone", drop=0.5, penalty=0.5):
    """Return the best-scored candidate of each of the best answers, by hand."""
    n = len(answers)
    known = [-math.inf if math.isnan(score) else score for score in scores]
    if rule == "best":
        return [i for i in range(n) if known[i] == max(known)]
    among = range(n)
    if rule == "filter":
        lowest = sorted(known)[math.floor(drop * n)]
        among = [i for i in range(n) if known[i] >= lowest]
    groups = groups_of(answers, missing, among)
    value = {
        "majority": len,
        **dict.fromkeys(["tie_break", "filter"], lambda group: (len(group), max(known[i] for i in group))),
        "weighted": lambda group: round(sum(known[i] for i in group if known[i] > -math.inf), 9),
        "combine": lambda group: round(sum(1 / (1 + math.exp(-known[i])) for i in group if known[i] > -math.inf), 9),
        "pessimistic": lambda group: round(
            sum(known[i] for i in group if known[i] > -math.inf) / len(group)
            - penalty * math.log(n) / (len(group) + 1),
            9,
        ),
    }[rule]
    top = max(map(value, groups), default=None)
    return [max(group, key=lambda i: (known[i], -i)) for group in groups if value(group) == top] or [0]


@pytest.mark.parametrize("missing", ["alone", "drop"])
@pytest.mark.parametrize("rule", [*RULES, "majority"])
def test_rules_by_hand(rule, missing):
    rng = np.random.default_rng(0)
    for n in range(1, 8):
        for _ in range(20):
            answers = [["a", "b", "c", None][i] for i in rng.integers(0, 4, n)]
            scores = np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 5, n) / 4)
            drop, penalty = rng.choice([0, 0.25, 0.5, 0.9]), rng.choice([0, 0.5, 2])
            options = {"missing": missing, "drop": drop, "penalty": penalty}
            found = select(answers, scores, rule=rule, **options)
            assert found == best_groups(answers, scores.tolist(), rule, **options)[0]


def test_what_the_rules_are_for():
    answers, scores = ["12", "14", "14", "16", "16"], [0.9, 0.2, 0.3, 0.4, 0.3]
    chosen = {rule: answers[select(answers, scores, rule=rule)] for rule in [*RULES, "majority", "first"]}
    assert chosen == {
        "first": "12",
        "majority": "14",
        "best": "12",
        "weighted": "12",
        "combine": "16",
        "tie_break": "16",
        "filter": "16",  # of 0.9, 0.4 and both 0.3
        "pessimistic": "12",
    }
    assert answers[select(answers, scores, rule="filter", drop=0.7)] == "12"
    assert answers[select(answers, scores, rule="pessimistic", penalty=3)] == "16", "one vote is not believed"


def test_random_is_seeded_and_reaches_all():
    chosen = [select(list("abc"), rule="random", random_state=seed) for seed in range(30)]
    assert chosen == [select(list("abc"), rule="random", random_state=seed) for seed in range(30)]
    assert set(chosen) == {0, 1, 2}


@pytest.mark.parametrize("rule", RULES)
def test_without_scores_nothing_is_preferred(rule):
    assert select(["a", "b", "b"], [np.nan] * 3, rule=rule) in ({0} if rule == "best" else {0, 1})
    assert select([None], [0.5], rule=rule) == 0
    with pytest.raises(ValueError, match=f'rule "{rule}" needs scores'):
        select(["a"], rule=rule)
    with pytest.raises(ValueError, match="none of them inf"):
        select(["a"], [np.inf], rule=rule)
    # A candidate without a score votes, and is behind all others.
    assert select(["a", "b"], [np.nan, 0.1], rule=rule) == 1


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (([], []), {"rule": "best"}, "answers is empty"),
        ((["a"], [0.1, 0.2]), {"rule": "best"}, r"expected \(1,\)"),
        ((["a"], [0.1]), {"rule": "mean"}, "expected one of first, random"),
        ((["a"], [0.1]), {"rule": "filter", "drop": 1}, "drop is 1"),
        ((["a"], [0.1]), {"rule": "pessimistic", "penalty": -1}, "penalty is -1"),
        ((["a"], [-3.0]), {"rule": "pessimistic"}, "outside"),
        ((["a"], [0.1]), {"rule": "best", "missing": "?"}, "expected one of alone, drop"),
    ],
)
def test_bad_input_is_named(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        select(*arguments, **options)


def test_one_text_is_no_list_of_answers():
    with pytest.raises(TypeError, match=r"one text, '556', expected one answer per candidate: \['556'\]"):
        select("556", rule="majority")


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([[0.9, 0.2], [0.5]], r"\[0\] is a list of length 2, .*aggregate\("),
        ([0.9, np.array([0.5, 0.1])], r"\[1\] is a list of length 2, .*aggregate\("),
        (np.ones((2, 3)), r"\[0\] is a list of length 3, .*aggregate\("),
        (["0.9", "0.5"], r"\[0\] is the text '0.9'"),
        ([0.9, "high"], r"\[1\] is the text 'high'"),
    ],
)
def test_scores_are_one_number_per_candidate(scores, said):
    with pytest.raises(ValueError, match=f"scores{said}"):
        select(["5", "6"], scores, rule="best")
    with pytest.raises(ValueError, match=f"weights{said}"):
        vote(["5", "6"], scores)


@pytest.mark.parametrize(
    ("scores", "refusing"),
    [([-0.5, 0.5], {"weighted", "pessimistic"}), ([2.0, 0.5], {"pessimistic"}), ([np.nan, 1.0], set())],
)
def test_select_and_the_report_leave_out_the_same_rules(scores, refusing):
    report = selection_report(made([["a", "b"]], [[True, False]]), {"s": scores})
    for rule in RULES:
        assert (f"s, {rule}" in report.metrics) == (rule not in refusing)
        assert (f"left out: s, {rule}, since scores holds a" in str(report)) == (rule in refusing)
        if rule in refusing:
            with pytest.raises(ValueError, match=r'scores holds a .* Pass rule="combine"'):
                select(["a", "b"], scores, rule=rule)
        else:
            assert select(["a", "b"], scores, rule=rule) in (0, 1)


def test_a_verifier_without_any_score_has_no_rows():
    report = selection_report(made([["a", "b"]], [[True, False]]), {"none": [np.nan] * 2, "some": [0.4, np.nan]})
    assert {name.partition(",")[0] for name in report.metrics if ", " in name} == {"some"}
    assert "left out: none, since none of the samples has a score" in str(report)
    assert "samples without a score, some: 1" in str(report)


@pytest.mark.parametrize("rule", ["majority", "tie_break", "filter"])
def test_a_sample_without_an_answer_ties_with_one_vote_unless_it_is_dropped(rule):
    answers, scores = [None, None, "6"], [0.5] * 3
    assert [select(answers, scores, rule=rule, missing=how) for how in ("alone", "drop")] == [0, 2]
    assert select([*answers, "6"], [0.5] * 4, rule=rule) == 2


@pytest.mark.parametrize("missing", ["alone", "drop"])
def test_a_vote_is_decided_when_no_way_to_go_on_turns_it(missing):
    for n in range(1, 5):
        for k in range(n + 1):
            for answers in itertools.product(["a", "b", None], repeat=k):
                found = vote_is_decided(answers, n, missing=missing)
                # Whoever comes may answer as one before, or give answers of their own, or none.
                rest = itertools.product(["a", "b", None, "new", "newer"], repeat=n - k)
                winners = {vote([*answers, *more], missing=missing) for more in rest}
                names = {i if i >= k or answers[i] is None else answers[i] for i in winners}
                assert found == (len(names) == 1 and (k > 0 or n == 0)), (answers, n)


def test_numbers_of_voters_are_checked():
    with pytest.raises(ValueError, match="n is 1 with 2 answers"):
        vote_is_decided(["a", "b"], 1)
    assert not vote_is_decided([], 1)


def made(answers, correct, contradictions=()):
    """Candidates with these answers, and a problem per row."""
    flat, sets = itertools.count(), []
    for i, (keys, right) in enumerate(zip(answers, correct, strict=True)):
        metas = [{"contradiction": {"said": "cut"}} if next(flat) in contradictions else None for _ in keys]
        solutions = tuple(Solution(f"problem {i}", ["a step"], meta=meta) for meta in metas)
        sets.append(CandidateSet(f"problem {i}", solutions, tuple(right), tuple(keys), tuple(keys), None, str(i)))
    return Candidates(tuple(sets))


def drawn(n_problems, sizes, seed=0):
    """Answers, of which "a" is right, and scores with ties and gaps."""
    rng = np.random.default_rng(seed)
    answers = [["a", "b", "c", None][i] for i in rng.integers(0, 4, n_problems * max(sizes))]
    answers = [answers[i * max(sizes) :][: sizes[i % len(sizes)]] for i in range(n_problems)]
    scores = [np.where(rng.random(len(row)) < 0.1, np.nan, rng.integers(0, 5, len(row)) / 4) for row in answers]
    return answers, [[key == "a" for key in row] for row in answers], scores


@pytest.mark.parametrize("missing", ["alone", "drop"])
def test_report_is_the_mean_over_all_subsets(missing):
    """Every rule and N up to 8 samples, ties shared, against all subsets by hand."""
    answers, correct, scores = drawn(4, [8, 5, 1, 4])
    # The best-scored sample stands for its answer: so let right and wrong differ within an answer.
    correct[0] = [i % 2 == 0 for i in range(8)]
    options = {"missing": missing, "drop": 0.4, "penalty": 0.7}
    report = selection_report(
        made(answers, correct), {"s": np.concatenate(scores)}, sizes=range(1, 9), n_resamples=0, **options
    )
    for n in range(1, 9):
        for rule in RULES:
            by_hand = []
            for keys, right, row in zip(answers, correct, scores, strict=True):
                shares = []
                for subset in itertools.combinations(range(len(keys)), min(n, len(keys))):
                    chosen = best_groups([keys[i] for i in subset], row[list(subset)].tolist(), rule, **options)
                    shares.append(np.mean([right[subset[i]] for i in chosen]))
                by_hand.append(np.mean(shares))
            assert report.metrics[f"s, {rule}"][f"n={n}"].value == pytest.approx(np.mean(by_hand)), (rule, n)
        votes = [
            vote_accuracy([keys], [right], min(n, len(keys)), ties="average", missing=missing).value
            for keys, right in zip(answers, correct, strict=True)
        ]
        assert report.metrics["majority"][f"n={n}"].value == pytest.approx(np.mean(votes))
        bound = report.metrics["pass@N (oracle)"][f"n={n}"].value
        assert all(of[f"n={n}"].value <= bound + 1e-12 for of in report.metrics.values())
        assert report.metrics["one sample"][f"n={n}"].value == pytest.approx(np.mean([np.mean(r) for r in correct]))


@pytest.mark.parametrize("missing", ["alone", "drop"])
def test_samples_until_the_vote_is_decided_over_all_orders(missing):
    answers, correct, _ = drawn(5, [5, 3, 4, 1], seed=3)
    report = selection_report(made(answers, correct), sizes=[1, 2, 3, 4, 5], missing=missing, n_resamples=0)
    for n in range(1, 6):
        by_hand = []
        for keys in answers:
            m = min(n, len(keys))
            stops = [
                next(k for k in range(m + 1) if vote_is_decided(order[:k], m, missing=missing))
                for order in itertools.permutations(keys, m)
            ]
            by_hand.append(np.mean(stops))
        assert report.until_decided[f"n={n}"].value == pytest.approx(np.mean(by_hand))


def test_stopping_early_gives_the_answer_of_the_vote():
    answers, *_ = drawn(60, [9], seed=1)
    used = []
    for keys in answers:
        k = next(k for k in range(10) if vote_is_decided(keys[:k], 9))
        used.append(k)
        early, late = vote(keys[:k]), vote(keys)
        assert early == late
    assert np.mean(used) < 9


@pytest.mark.parametrize("power", [0, 1, 3])
def test_a_tie_break_is_never_below_the_vote_beyond_its_interval(power):
    """Scores that say nothing, little or much."""
    rng = np.random.default_rng(power)
    right = rng.random((300, 6)) < rng.beta(2, 2, 300)[:, None]
    answers = [["right" if one else f"wrong {rng.integers(3)}" for one in row] for row in right]
    scores = 1 / (1 + np.exp(-(power * (right - 0.5) + rng.normal(size=right.shape))))
    report = selection_report(
        made(answers, right.tolist()), {"s": scores.ravel()}, rules=["tie_break"], n_resamples=100
    )
    gains = report.differences["s, tie_break"]
    assert all(gain.high >= 0 for gain in gains.values())
    assert gains["n=1"].value == 0
    if power:
        assert gains["n=2"].low > 0, "at two samples that differ, the verifier decides alone"


@pytest.mark.slow
def test_rules_on_public_samples(data_folder):
    """Eight samples of 250 problems with the scores of published verifiers, the record mended by the text."""
    folder = data_folder / "gsm8k_samples"
    texts = {name: gzip.decompress((folder / f"{name}.jsonl.gz").read_bytes()).decode() for name in PUBLISHED}
    lines = {name: [json.loads(line) for line in text.splitlines()] for name, text in texts.items()}
    with pytest.warns(UserWarning, match="contradict"):
        candidates = load_samples(
            lines["samples"],
            steps="steps",
            answer="answer",
            correct="correct",
            reference="reference",
            contradictions="text",
        )
    assert [list(one.steps) for one in candidates.solutions] == [line["steps"] for line in lines["samples"]]
    rewards = {name: [line["step_scores"] for line in lines[name]] for name in PUBLISHED[1:]}
    report = selection_report(candidates, rewards, rules=["tie_break"], n_resamples=200)
    assert (report.n_samples, report.n_problems) == (2000, 250)
    for name in rewards:
        assert all(gain.high >= 0 for gain in report.differences[f"{name} min, tie_break"].values())
        assert report.differences[f"{name} min, tie_break"]["n=2"].low > 0
    assert report.until_decided["n=8"].value < 5
    assert "whose record contradicts their text" in str(report)


def test_what_is_known_of_the_samples_is_counted():
    answers = [["a", "b", None], ["a"], ["b", "b"]]
    correct = [[True, False, None], [None], [False, True]]
    scores = {"good": [0.9, np.nan, 0.1, 0.2, 0.5, 0.4], "raw": [3.0, -2.0, 0.1, 0.2, -0.5, 1.0]}
    report = selection_report(made(answers, correct, contradictions=[0, 3, 4]), scores)
    assert (report.n_samples, report.n_problems, report.sizes) == (4, 2, (1, 2))
    counted = {what.partition(",")[0]: n for what, n in report.counts.items() if n}
    assert counted == {
        "samples left out": 2,
        "samples whose record contradicts their text": 2,
        "samples without a score": 1,
    }
    assert "samples without a score, good: 1" in str(report)
    assert "raw, weighted" not in report.metrics
    assert "left out: raw, weighted" in str(report)
    assert "raw, combine" in report.metrics


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong(right):
    report = selection_report(
        made([["a", "b"], ["a", "a", "c"]], [[right] * 2, [right] * 3]), [0.1, 0.2, 0.3, 0.4, 0.5]
    )
    assert {one.value for of in report.metrics.values() for one in of.values()} == {float(right)}
    assert {one.value for of in report.differences.values() for one in of.values()} == {0.0}
    assert "problems with fewer than 3 samples, which take all of their own: 1" in str(report)


def test_one_sample_per_problem_leaves_no_choice():
    report = selection_report(made([["a"], [None], ["b"]], [[True], [False], [False]]), {"s": [np.nan] * 3})
    assert report.sizes == (1,)
    assert {of["n=1"].value for of in report.metrics.values()} == {1 / 3}
    assert report.until_decided["n=1"].value == 1


def test_differences_are_paired():
    answers, correct, scores = drawn(40, [4], seed=5)
    report = selection_report(made(answers, correct), {"s": np.concatenate(scores)}, n_resamples=200)
    for name, gains in report.differences.items():
        for n, gain in gains.items():
            assert gain.value == pytest.approx(report.metrics[name][n].value - report.metrics["majority"][n].value)
    gain, own = report.differences["s, tie_break"]["n=4"], report.metrics["s, tie_break"]["n=4"]
    assert gain.high - gain.low < own.high - own.low


def test_many_subsets_are_drawn_and_said():
    answers, correct, scores = drawn(12, [14], seed=7)
    candidates, flat = made(answers, correct), {"s": np.concatenate(scores)}
    exact = selection_report(candidates, flat, sizes=[4], n_subsets=1001, n_resamples=0)
    found = selection_report(candidates, flat, sizes=[4], n_subsets=200, n_resamples=0)
    assert "problems with more than 200 subsets, of which so many are drawn: 12" in str(found)
    assert "drawn" not in str(exact)
    for name, of in found.metrics.items():
        assert of["n=4"].value == pytest.approx(exact.metrics[name]["n=4"].value, abs=0.04)
    assert found.until_decided["n=4"].value == pytest.approx(exact.until_decided["n=4"].value, abs=0.04)
    all_orders = selection_report(candidates, sizes=[14], n_subsets=3432, n_resamples=0).until_decided["n=14"]
    some = selection_report(candidates, sizes=[14], n_subsets=200, n_resamples=0).until_decided["n=14"]
    assert some.value == pytest.approx(all_orders.value, abs=0.1)
    again = selection_report(candidates, flat, sizes=[4], n_subsets=200, n_resamples=0)
    assert again.metrics == found.metrics


def test_steps_of_samples_are_aggregated():
    answers, correct = [["a", "b"]], [[True, False]]
    rewards = [[0.9, 0.4], [0.5, 0.5]]
    report = selection_report(made(answers, correct), {"m": rewards}, aggregation=["min", "max"], rules=["best"])
    assert (report.metrics["m min, best"]["n=2"].value, report.metrics["m max, best"]["n=2"].value) == (0, 1)


def test_frame_html_and_picture():
    answers, correct, scores = drawn(10, [3])
    report = selection_report(made(answers, correct), {"<s>": np.concatenate(scores)}, n_resamples=20)
    frame = report.to_frame()
    assert len(frame) == len(report.metrics) * len(report.sizes)
    line = frame[(frame.rule == "<s>, best") & (frame.n == 2)].iloc[0]
    assert line.right == report.metrics["<s>, best"]["n=2"].value
    assert line.minus_majority == report.differences["<s>, best"]["n=2"].value
    html = report._repr_html_()
    assert "&lt;s&gt;, best" in html
    assert "minus the vote" in html
    assert report.to_dict()["until_decided"]["n=1"]["value"] == 1
    display = SelectionDisplay.from_candidates(made(answers, correct), np.concatenate(scores), n_resamples=20)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels[:2] == ["one sample", "majority"]
    assert len(display.ax_.lines) == len(report.metrics)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"scores": [0.1]}, ValueError, "there are 1 of them and 2 samples"),
        ({"scores": {"x": [0.1, np.inf]}}, ValueError, "scores 'x'"),
        ({"scores": {"x": 0.1}}, ValueError, "scores 'x': 0.1 is one value"),
        ({"scores": {"x": [[0.1, 0.2], 0.3]}}, ValueError, r"scores 'x': \[1\] is 0.3, expected rewards of steps"),
        ({"scores": {"x": [["a"], ["b"]]}}, ValueError, r"scores 'x': \[0\]\[0\] is the text 'a'"),
        ({"rules": ["mean"]}, ValueError, "rule is 'mean'"),
        ({"sizes": [0]}, ValueError, r"sizes is \[0\]"),
        ({"candidates": [["a"]]}, TypeError, "load_samples"),
        ({"candidates": made([["a"]], [[None]])}, ValueError, r"correct='…'.*judged"),
    ],
)
def test_bad_reports_are_named(options, error, said):
    with pytest.raises(error, match=said):
        selection_report(**{"candidates": made([["a", "b"]], [[True, False]]), **options})
