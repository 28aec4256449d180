"""Best of N: the share of problems for which a model or a vote chooses a correct candidate."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.evaluation._evaluation import Curve, LeftOut, Row, Series, Table
from prmkit.evaluation._inputs._benchmark import Benchmark, CandidateRows
from prmkit.evaluation._inputs._scoring import rounded
from prmkit.evaluation._tables._context import Context, System
from prmkit.evaluation._tables._quoted import BEST_OF_8, BEST_OF_1024
from prmkit.metrics import Interval, aggregate, best_of_n_accuracy, pass_at_k, select
from prmkit.metrics.bootstrap import BootstrapResult, bootstrap_counts, problem_numbers
from prmkit.metrics.selection.subsets import Sampled, Subsets, samples_until_decided, shares_right
from prmkit.metrics.selection.votes import Rule
from prmkit.metrics.solutions.aggregation import AGGREGATION_RULES, ANY_SCALE_RULES

# The scores of these rules are not negative, so votes can sum them.
_OF_SAMPLES = "P(right)"
_WEIGHTED = ("min", "product", "mean", "last", _OF_SAMPLES)
# Rules that let vote and verifier share the choice, by each of these scores.
_SHARED: tuple[Rule, ...] = ("tie_break", "filter", "pessimistic")
_SHARED_BY = ("product", "min", "last", _OF_SAMPLES)
_ORACLE, _MAJORITY, _UNTIL = "pass@N (oracle)", "majority", "samples until the vote is decided"
_DRAWN = ("product", "min", "last", _OF_SAMPLES, _MAJORITY, "random candidate", _ORACLE)
_N_SUBSETS = 200


@dataclass(frozen=True, eq=False)
class _Sets:
    """Candidates by problem: row numbers of solutions, filled with -1 if a set has fewer candidates."""

    rows: np.ndarray
    correct: np.ndarray
    answer_keys: list[list[Hashable]]
    sizes: list[int]

    @property
    def sampled(self) -> Sampled:
        """The candidates end to end. One without an answer votes alone."""
        return Sampled.of(self.answer_keys, self.correct[self.rows >= 0], "alone")

    @property
    def have_answers(self) -> bool:
        """Whether there is anything to vote on."""
        return any(key is not None for keys in self.answer_keys for key in keys)

    def by_set(self, values: np.ndarray) -> np.ndarray:
        """Arrange one value per solution as one row per set, NaN if there is no candidate."""
        return np.where(self.rows >= 0, values[self.rows], np.nan)


def selection(context: Context) -> tuple[list[Table | LeftOut], list[Curve]]:
    """Return the table of the rules of selection and its curve, or nothing for other benchmarks."""
    benchmark = context.benchmark
    if benchmark.candidates is None:
        return [], []
    sets = _sets(benchmark.candidates)
    counts, n_correct = (sets.rows >= 0).sum(axis=1), sets.correct.sum(axis=1)
    accuracies = {"random candidate": dict.fromkeys(sets.sizes, n_correct / counts)}
    by_rule = {name: rule.accuracies(sets, context.random_state) for name, rule in _all_rules(context, sets).items()}
    baselines = {*accuracies, *_baselines(benchmark, sets), _ORACLE}
    accuracies |= {name: by_rule.pop(name) for name in list(by_rule) if name in baselines}
    accuracies |= {_ORACLE: {n: pass_at_k(n_correct, counts, n) for n in sets.sizes}, **by_rule}
    until = {}
    if sets.have_answers:
        until = {_UNTIL: {n: samples_until_decided(sets.sampled, Subsets(n, _N_SUBSETS, 0)) for n in sets.sizes}}
    result = _bootstrap(context, sets, accuracies | until)
    columns = {size: f"best of {size}" for size in sets.sizes}
    rows = [
        Row(name, {column: result.interval(f"{name}/{size}") for size, column in columns.items()}, name in baselines)
        for name in accuracies
    ]
    n_min, n_max = int((sets.rows >= 0).sum(axis=1).min()), sets.rows.shape[1]
    note = context.note(
        f"Share of correct choices among N candidates of {len(sets.rows):,} problems with "
        f"{n_min if n_min == n_max else f'{n_min} to {n_max}'} each: the expectation over all subsets of N, exact "
        f"except for votes of a problem with more than {_N_SUBSETS} subsets, of which {_N_SUBSETS} are drawn",
        "The first of several candidates with equal scores is chosen. Answers with equal votes share them",
        "A row per rule that turns step rewards into a score: the best of them, picked here, flatters the model",
        "'last' is the reward of the last step: it judges a solution only if the model's label of a step is about "
        "the whole solution up to it",
        *(
            [f"'{_OF_SAMPLES}' is the probability by a model that judges whole samples"]
            if any(one.scores.of_solutions for one in context.systems)
            else []
        ),
        "'weighted' sums the scores of equal answers, or the sigmoids of raw ones; pass@N is a bound and not a rule",
        "'tie_break' is the vote, and the score only decides between equal votes; 'filter' is the same vote of the "
        "better half; 'pessimistic' takes the highest mean score minus a penalty for rare answers",
    )
    tables: list[Table | LeftOut] = [
        Table(f"Best of N, {benchmark.name}", benchmark.name, list(columns.values()), rows, note)
    ]
    if sets.have_answers:
        tables += _beside_the_vote(
            context, result, [row for row in rows if row.system not in (_MAJORITY, _ORACLE)], sets
        )
    else:
        why = "no answer was found in any candidate, and votes count equal answers"
        tables.append(LeftOut(f"Rows of votes, {benchmark.name}", benchmark.name, why))
    return tables + (_quoted(benchmark.name) if context.quoted else []), [
        _curve(benchmark.name, result, sets, baselines)
    ]


def _sets(candidates: CandidateRows) -> _Sets:
    numbers, counts = np.unique(candidates.sets, return_counts=True)
    order = np.argsort(candidates.sets, kind="stable")
    rows = np.full((len(numbers), counts.max()), -1)
    rows[np.arange(counts.max()) < counts[:, None]] = order
    keys = [[candidates.answer_keys[i] for i in row if i >= 0] for row in rows]
    most = int(counts.min())
    sizes = sorted({2**power for power in range(most.bit_length())} | {most})
    return _Sets(rows, (rows >= 0) & candidates.correct[rows], keys, sizes)


def _beside_the_vote(context: Context, result: BootstrapResult, rows: list[Row], sets: _Sets) -> list[Table | LeftOut]:
    """Return the table of each rule minus the vote, and of the samples that a vote takes until nothing can turn it."""
    name = context.benchmark.name
    # Of one candidate there is no choice.
    columns = {size: f"best of {size}" for size in sets.sizes if size > 1}
    gains = [
        Row(
            row.system,
            {
                column: result.difference(f"{row.system}/{size}", f"{_MAJORITY}/{size}")
                for size, column in columns.items()
            },
            row.baseline,
        )
        for row in rows
    ]
    decided = {f"vote of {size}": result.interval(f"{_UNTIL}/{size}") for size in columns}
    if not columns:
        return []
    return [
        Table(
            f"Minus the vote, {name}",
            name,
            list(columns.values()),
            gains,
            context.note("Share of correct choices minus that of the majority, on the same problems and resamples"),
        ),
        Table(
            f"Samples until the vote is decided, {name}",
            name,
            list(decided),
            [Row(_MAJORITY, decided, True)],
            context.note(
                "How many of N candidates are sampled until no further one can turn the vote, which then has the "
                "answer of the vote of N. The mean over all orders; equal votes go to the answer that came first"
            ),
        ),
    ]


@dataclass(frozen=True, eq=False)
class _Rule:
    """A rule of `select`. ``scores`` holds a row per set, NaN where there is no candidate. A plain vote has none."""

    scores: np.ndarray | None
    rule: Rule = "best"

    def chosen(self, sets: _Sets) -> np.ndarray:
        """Return the number of the chosen candidate of each set. The first of equals is chosen."""
        if self.scores is None:
            return np.array([select(keys, rule=self.rule) for keys in sets.answer_keys])
        pairs = zip(sets.answer_keys, self.scores, strict=True)
        return np.array([select(keys, row[: len(keys)], rule=self.rule) for keys, row in pairs])

    def accuracies(self, sets: _Sets, random_state: int) -> dict[int, np.ndarray]:
        """Return for each N how often the choice among N candidates of each set is correct."""
        if self.rule == "best" and self.scores is not None:
            return {n: best_of_n_accuracy(self.scores, sets.correct, n, per_problem=True) for n in sets.sizes}
        scores = None if self.scores is None else self.scores[sets.rows >= 0]
        sampled = sets.sampled
        return {
            n: shares_right(sampled, Subsets(n, _N_SUBSETS, random_state), self.rule, scores)[0] for n in sets.sizes
        }


def _baselines(benchmark: Benchmark, sets: _Sets) -> dict[str, _Rule]:
    n_characters = np.array([sum(map(len, one.steps)) for one in benchmark.solutions], dtype=np.float64)
    found = {
        "longest candidate": _Rule(sets.by_set(n_characters)),
        "shortest candidate": _Rule(sets.by_set(-n_characters)),
    }
    return found | ({_MAJORITY: _Rule(None, "majority")} if sets.have_answers else {})


def _rules(benchmark: Benchmark, system: System, sets: _Sets) -> dict[str, _Rule]:
    paths, is_raw = benchmark.rows(system.scores.rewards).split(), system.scores.raw is not None
    rules: tuple[str, ...] = ANY_SCALE_RULES if is_raw else AGGREGATION_RULES
    if system.scores.of_solutions:  # all steps have the score of their sample
        rules = (_OF_SAMPLES,)
    # A candidate without a score is chosen after all others, and has no weight in votes.
    scores = {
        rule: sets.by_set(
            aggregate(paths, "last" if rule == _OF_SAMPLES else rule, probabilities=not is_raw, unscored=-np.inf)
        )
        for rule in rules
    }
    found = {f"{system.name}, {rule}": _Rule(of_rule) for rule, of_rule in scores.items()}
    if sets.have_answers:
        for by in filter(scores.__contains__, _WEIGHTED):
            found[f"{system.name}, weighted by {by}"] = _Rule(scores[by], "combine" if is_raw else "weighted")
        # The penalty of "pessimistic" is on the scale of probabilities.
        shared = [rule for rule in _SHARED if not (is_raw and rule == "pessimistic")]
        for by in filter(scores.__contains__, _SHARED_BY):
            found |= {f"{system.name}, {rule} by {by}": _Rule(scores[by], rule) for rule in shared}
    return found


def _all_rules(context: Context, sets: _Sets) -> dict[str, _Rule]:
    """Return the rules of the models, and those that need none, by the name of their row."""
    found = _baselines(context.benchmark, sets)
    for system in context.systems:
        if not system.baseline:
            found |= _rules(context.benchmark, system, sets)
    return found


def sampled_candidates(context: Context) -> dict[int, dict[str, Any]]:
    """Return what the page says of each candidate besides its steps, by its row in the benchmark.

    That is the number of its problem, its answer and the reference answer, its score by each rule of a model, and the
    rules that choose it among all candidates of its problem, models first.
    """
    candidates = context.benchmark.candidates
    if candidates is None:
        return {}
    sets = _sets(candidates)
    baselines, rules = _baselines(context.benchmark, sets), _all_rules(context, sets)
    rules = {name: rules[name] for name in sorted(rules, key=baselines.__contains__)}
    chosen = {name: rule.chosen(sets) for name, rule in rules.items()}
    scores = {name: rule.scores for name, rule in rules.items() if name not in baselines}
    sampled = {}
    for problem, rows in enumerate(sets.rows):
        for place, row in enumerate(rows[rows >= 0].tolist()):
            sampled[row] = {
                "problem": problem,
                "answer": candidates.answers[row] if candidates.answers else None,
                "reference": candidates.references[row] if candidates.references else None,
                "rules": list(rules),
                "chosen_by": [rule for rule, places in chosen.items() if places[problem] == place],
                "scores": {
                    rule: rounded(float(of_rule[problem, place]))
                    for rule, of_rule in scores.items()
                    if of_rule is not None
                },
            }
    return sampled


def _bootstrap(context: Context, sets: _Sets, accuracies: dict[str, dict[int, np.ndarray]]) -> BootstrapResult:
    problems, n_problems = problem_numbers(context.benchmark.problems[sets.rows[:, 0]])
    names = [f"{name}/{n}" for name, by_size in accuracies.items() for n in by_size]
    sums = np.stack(
        [
            np.bincount(problems, weights=values, minlength=n_problems)
            for by_size in accuracies.values()
            for values in by_size.values()
        ]
    )
    n_sets = np.bincount(problems, minlength=n_problems)

    def statistic(counts: np.ndarray) -> dict[str, float]:
        means = (sums * counts).sum(axis=1) / (n_sets * counts).sum()
        return dict(zip(names, means.tolist(), strict=True))

    return bootstrap_counts(statistic, n_problems, context.n_resamples, context.random_state)


def _curve(name: str, result: BootstrapResult, sets: _Sets, baselines: set[str]) -> Curve:
    x = np.array(sets.sizes, dtype=np.float64)
    series = []
    for system in dict.fromkeys(key.rpartition("/")[0] for key in result.estimates):
        if (system if system in baselines else system.rpartition(", ")[2]) not in _DRAWN:
            continue
        points = [result.interval(f"{system}/{size}") for size in sets.sizes]
        y, low, high = (
            np.array([getattr(point, part) for point in points], dtype=np.float64) for part in ("value", "low", "high")
        )
        has_interval = not np.isnan(low).any()
        series.append(
            Series(system, x, y, low if has_interval else None, high if has_interval else None, system in baselines)
        )
    return Curve(f"Best of N, {name}", name, "best_of_n", "candidates N", "share of correct choices", series)


def _quoted(name: str) -> list[Table | LeftOut]:
    tables: list[Table | LeftOut] = []
    for what, published in (
        ("best of 1024 on GSM8K and MATH", BEST_OF_1024),
        ("best of 8, mean of seven sets", BEST_OF_8),
    ):
        rows = [
            Row(one.system, {key: Interval(value) for key, value in one.values.items()}, quoted=True, source=one.source)
            for one in published
        ]
        note = "Published numbers of other candidates and other problems than those above: not comparable with them."
        tables.append(Table(f"Quoted: {what}", name, list(published[0].values), rows, note))
    return tables
