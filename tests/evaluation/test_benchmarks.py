"""What a spec stands for, and what it is refused with."""

import json

import numpy as np
import pytest

from prmkit.data import make_arithmetic_solutions
from prmkit.evaluation import Benchmark, read_benchmark


def test_a_kind_a_path_and_a_name(processbench):
    for spec, name in [
        (f"processbench:{processbench}", "processbench gsm8k"),
        (str(processbench), "processbench gsm8k"),
        (f"easy=processbench:{processbench}", "easy"),
        (f"easy={processbench}", "easy"),
    ]:
        benchmark = read_benchmark(spec)
        assert (benchmark.name, benchmark.kind) == (name, "processbench")
    assert len(benchmark.solutions) == 200
    assert benchmark.n_problems == 100


def test_steps_end_to_end():
    data = make_arithmetic_solutions(10, 2, random_state=0)
    benchmark = Benchmark.from_dataset("b", data)
    assert np.array_equal(benchmark.step_labels, data.y)
    assert benchmark.labels.positions.tolist() == [step.index for step in data.X]
    part = benchmark.subset(np.arange(20) % 2 == 1, "half")
    assert part.solutions == benchmark.solutions[1::2]
    assert part.first_errors == benchmark.first_errors[1::2]


def test_candidates(candidates):
    benchmark = read_benchmark(str(candidates))
    assert benchmark.kind == "bon"
    assert benchmark.candidates.correct.tolist() == [True, False, False] * 10
    assert benchmark.candidates.answer_keys[:3] == ["1", "99", "98"]
    assert benchmark.solutions[0].n_steps == 2


def test_candidates_are_compared_with_the_reference_answer(tmp_path):
    row = {"question": "1 + 1?", "answer": "2", "responses": [{"text": "#### 2.0"}, {"text": "#### 3"}]}
    (tmp_path / "pqm.jsonl").write_text(json.dumps(row))
    benchmark = read_benchmark(f"bon:{tmp_path / 'pqm.jsonl'}")
    assert benchmark.candidates.correct.tolist() == [True, False]
    assert "compared with the reference answer: 2" in benchmark.description


def test_candidates_of_which_nothing_is_known(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "1 + 1?", "answers": ["2", "3"]}))
    with pytest.raises(ValueError, match=r"no reference answer: .* name its field as correct or reference"):
        read_benchmark(f"bon:{tmp_path / 'a.jsonl'}")


@pytest.mark.parametrize(
    ("spec", "error", "told"),
    [
        ("procesbench:gsm8k.json", ValueError, "unknown kind 'procesbench', expected one of bon"),
        ("processbench:", ValueError, "no path"),
        ("processbench:nowhere.json", FileNotFoundError, "nowhere.json"),
        (3, TypeError, "int, expected a string such as"),
    ],
)
def test_errors(spec, error, told):
    with pytest.raises(error, match=told):
        read_benchmark(spec)


@pytest.mark.parametrize(
    ("path", "n_solutions", "n_problems"),
    [
        ("processbench:processbench/math.json", 443, 429),
        ("prm800k:prm800k/train_sample.jsonl", 988, 152),
        ("bbm:big_bench_mistake", 900, 900),
        ("bon:gsm8k_solutions/example_model_solutions.jsonl", 2800, 700),
        ("mr_ben:mr_ben/math.json", 888, 292),
    ],
)
def test_published_files(data_folder, path, n_solutions, n_problems):
    kind, _, place = path.partition(":")
    benchmark = read_benchmark(f"{kind}:{data_folder / place}")
    assert (len(benchmark.solutions), benchmark.n_problems) == (n_solutions, n_problems)


def test_prmbench_groups_classes_of_one_problem(data_folder, tmp_path):
    for error in ("circular", "missing_condition"):
        name = f"prm800k_test_p1_4o_{error}.jsonl"
        (tmp_path / name).write_bytes((data_folder / "prmbench" / name).read_bytes())
    benchmark = read_benchmark(f"prmbench:{tmp_path}")
    assert {one.meta["kind"] for one in benchmark.solutions} == {"modified"}
    assert benchmark.n_problems == 28


def test_a_split_of_a_data_set_on_the_hub(monkeypatch):
    from prmkit.data.formats import sources

    asked = []

    def hub(name, split):
        asked.append((name, split))
        return iter([{"problem": "6 + 1?", "steps": ["6 + 1 = 7."], "label": -1}])

    monkeypatch.setattr(sources, "iter_hub_records", hub)
    assert read_benchmark("processbench:Qwen/ProcessBench:gsm8k").first_errors == [-1]
    assert set(asked) == {("Qwen/ProcessBench", "gsm8k")}
