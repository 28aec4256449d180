"""Best of N from sampled solutions, however they are written: the same tables, and a page."""

import json

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from prmkit.data import load_candidates, load_samples, make_arithmetic_solutions
from prmkit.evaluation import Benchmark, evaluate, read_benchmark
from prmkit.features.agreement.answers import answer_agreement
from prmkit.metrics import aggregate, best_of_n_accuracy, selection_report, vote_accuracy
from prmkit.models import PathClassifier

LINES = [
    {
        "problem": f"{i} + 1?",
        "steps": [f"Add one to {i}.", f"The answer is {i + 1 + wrong}."],
        "text": f"Add one to {i}.\n\nThe answer is {i + 1 + wrong}.",
        "correct": not wrong,
        "gold": i + 1,
    }
    for wrong in (0, 1, 0, 2)
    for i in range(12)
]


def layouts():
    problems = dict.fromkeys(line["problem"] for line in LINES)
    nested = [
        {"problem": problem, "gold": i + 1, "runs": [line for line in LINES if line["problem"] == problem]}
        for i, problem in enumerate(problems)
    ]
    yield load_samples(LINES, text="text", correct="correct")
    yield load_samples(pd.DataFrame(LINES), steps="steps", reference="gold")
    yield load_samples(nested, steps="runs.steps", reference="gold")
    yield load_samples(nested, text="runs.text", correct="runs.correct")


def test_every_layout_gives_the_same_tables_and_a_page(classifier, tmp_path):
    first, *others = layouts()
    results = [
        evaluate({"m": classifier}, one, n_resamples=0, out=tmp_path / str(i)) for i, one in enumerate(layouts())
    ]
    tables = [[(table.title, table.columns, table.rows) for table in one.tables] for one in results]
    assert tables[0][0][0] == "Best of N, samples"
    for i, other in enumerate(others, 1):
        assert other == first
        assert tables[i] == tables[0]
    for i in range(len(results)):
        assert "Best of N, samples" in (tmp_path / str(i) / "report.html").read_text()


def test_the_table_and_the_metrics_agree(classifier, value_of):
    candidates = next(layouts())
    rewards = [scored.rewards for scored in classifier.score_solutions(candidates.solutions)]
    scores, correct = candidates.by_problem(aggregate(rewards, "min")), candidates.by_problem(candidates.correct)
    found = evaluate({"m": classifier}, candidates, n_resamples=0)
    [table] = [table for table in found.tables if table.title.startswith("Best of N")]
    for n in (1, 2, 4):
        expected = best_of_n_accuracy(scores, correct, n)
        assert value_of(found, table.title, "m, min", f"best of {n}") == pytest.approx(expected)
        keys, right = [one.answer_keys for one in candidates], [one.is_correct for one in candidates]
        votes = vote_accuracy(keys, right, n, n_subsets=200, ties="average", random_state=0)
        assert value_of(found, table.title, "majority", f"best of {n}") == pytest.approx(votes.value)


def test_candidates_and_their_file_give_the_same_tables(classifier, candidates):
    of_file = evaluate({"m": classifier}, f"samples=bon:{candidates}", n_resamples=0)
    read = evaluate({"m": classifier}, load_candidates(candidates), n_resamples=0)
    assert [table.rows for table in read.tables] == [table.rows for table in of_file.tables]


def test_samples_of_unknown_correctness_are_left_out():
    rows = [{"problem": "p", "steps": ["a"], "ok": ok} for ok in (True, None, False)]
    benchmark = read_benchmark(load_samples(rows, steps="steps", correct="ok"))
    assert benchmark.candidates.correct.tolist() == [True, False]
    assert "left out: nothing tells whether they are correct: 1" in benchmark.description


def test_problems_by_id_are_one_unit():
    rows = [{"problem": text, "n": 7, "steps": ["a"], "ok": ok} for text, ok in (("p", True), ("P, in words", False))]
    benchmark = read_benchmark(load_samples(rows, steps="steps", correct="ok", id="n"))
    assert "candidates" not in benchmark.description, "reading counted them as samples"
    assert benchmark.n_problems == 1
    assert [solution.problem for solution in benchmark.solutions] == ["p", "P, in words"]


def test_contradictions_stand_in_the_description():
    rows = [{"problem": "p", "steps": ["So 1,250."], "a": "250", "gold": 1250}] * 2
    with pytest.warns(UserWarning, match="contradict"):
        benchmark = read_benchmark(load_samples(rows, steps="steps", answer="a", reference="gold"))
    assert "cut at a thousands separator: 2" in benchmark.description


def test_labels_that_contradict_the_reference_answer_are_counted(tmp_path):
    row = {"question": "1 + 1?", "answer": "2", "answers": ["Add.\nA: 2", "Add.\nA: 3", "No."], "label": [0, 0, 1]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    benchmark = read_benchmark(str(tmp_path / "a.jsonl"))
    assert benchmark.candidates.correct.tolist() == [False, False, True], "the record is kept"
    assert benchmark.description.count("records of right or wrong that contradict the answer: 1") == 1
    path = str(tmp_path / "a.jsonl")
    assert read_benchmark(path, options={"contradictions": "text"}).candidates.correct.tolist() == [True, False, True]
    assert len(read_benchmark(path, options={"contradictions": "drop"}).solutions) == 2


def test_named_fields_of_samples_in_a_file(classifier, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({f"my_{name}": value for name, value in line.items()}) for line in LINES))
    by_text = {"problem": "my_problem", "text": "my_text", "reference": "my_gold"}
    by_steps = {"problem": "my_problem", "steps": "my_steps", "correct": "my_correct"}
    expected = evaluate({"m": classifier}, next(layouts()), n_resamples=0)
    for fields in (by_text, by_steps):
        found = evaluate({"m": classifier}, f"samples={path}", fields=fields, n_resamples=0)
        assert [table.rows for table in found.tables] == [table.rows for table in expected.tables]
    by_line = read_benchmark(f"bon:{path}", fields=by_text)
    assert {solution.n_steps for solution in by_line.solutions} == {2}
    with pytest.raises(ValueError, match=r"fields is .*expected the field of each part.* 'reference': '…'"):
        read_benchmark(str(path), fields={**by_steps, "gold": "my_gold"})


def test_rules_beside_the_vote_and_samples_until_it_is_decided(classifier, value_of):
    candidates = next(layouts())
    rewards = [scored.rewards for scored in classifier.score_solutions(candidates.solutions)]
    found = evaluate({"m": classifier}, candidates, n_resamples=20)
    report = selection_report(candidates, {"m": rewards}, n_subsets=200, n_resamples=20)
    for n in (2, 4):
        for rule in ("tie_break", "filter", "pessimistic"):
            at = f"m, {rule} by min", f"best of {n}"
            gain = report.differences[f"m min, {rule}"][f"n={n}"]
            assert value_of(found, "Best of N, samples", *at) == pytest.approx(
                report.metrics[f"m min, {rule}"][f"n={n}"].value
            )
            assert value_of(found, "Minus the vote, samples", *at) == pytest.approx(gain.value)
        title = "Samples until the vote is decided, samples"
        assert value_of(found, title, "majority", f"vote of {n}") == pytest.approx(report.until_decided[f"n={n}"].value)


def test_a_classifier_of_whole_solutions_beside_agreement_and_length(classifier, value_of, tmp_path):
    candidates = next(layouts())
    train, new = candidates[:6], candidates[6:]
    paths = PathClassifier().fit(train)
    paths.save(tmp_path / "paths")
    found = evaluate({"p": tmp_path / "paths", "m": classifier}, candidates, n_resamples=20)
    assert "p was trained on 6 of 12 problems, which are left out" in found.table("Wrong samples, samples").note
    risks = {"p": paths.predict_proba(new)[:, 0]}
    risks["m, min"] = [-min(one.rewards) for one in classifier.score_solutions(new.solutions)]
    risks["length"] = [sum(map(len, one.steps)) for one in new.solutions]
    risks["disagreement"] = answer_agreement(new.answer_keys, new.groups).disagreement
    for name, risk in risks.items():
        auroc = roc_auc_score(~new.correct, risk)
        assert value_of(found, "Wrong samples, samples", name, "AUROC") == pytest.approx(auroc)
    gain = value_of(found, "Wrong samples minus disagreement, samples", "p", "AUROC")
    assert gain == pytest.approx(
        roc_auc_score(~new.correct, risks["p"]) - roc_auc_score(~new.correct, risks["disagreement"])
    )
    scores = new.by_problem(-risks["p"])
    expected = best_of_n_accuracy(scores, new.by_problem(new.correct), n=4)
    assert value_of(found, "Best of N, samples", "p, P(right)", "best of 4") == pytest.approx(expected)
    # Of its steps nothing is known, so no other rule and no table of steps names it.
    assert "p, min" not in [row.system for row in found.table("Best of N, samples").rows]
    with pytest.raises(ValueError, match="judges whole sampled solutions"):
        evaluate(paths, Benchmark.from_dataset("steps", make_arithmetic_solutions(4, 1, random_state=3)))
