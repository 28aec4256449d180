"""The default classifier on the visible benchmarks, by prmkit's own harness, beside baselines and published PRMs.

"step labels" learns from PRM800K (train sample) and PRMBench (train part), and is judged on ProcessBench, ReasonEval,
Mr-Ben, BIG-Bench-Mistake and best of 4 on gsm8k_solutions; "PRM800K" learns from the PRM800K sample alone, judged
on PRMBench. Training leaves out the problems of ProcessBench and ReasonEval (all in PRM800K too); other problems
that a model learnt from are left out of the benchmarks. Thresholds: each half of a benchmark's problems is
judged with the one that its other half chose. Nothing was tuned on these benchmarks for this run; the features of the
default model were chosen with some of them in view (see quality.md).

Models and scores are kept in ``--work`` and read again by the next run; the report page lies there too.

    python benchmarks/bench_evaluation.py --work FOLDER          # PRMKIT_DATA, else ../shared/data
    python benchmarks/bench_evaluation.py --work FOLDER --resamples 50 --no-write
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _common import RESULTS, data_folder, load_steps_table, write_result

from prmkit import PRMClassifier, Step
from prmkit.data import load_processbench, load_reasoneval
from prmkit.data.problem_keys import problem_keys
from prmkit.evaluation import Evaluation, evaluate

SOURCES = {"step labels": ["prm800k_train", "prmbench_train"], "PRM800K": ["prm800k_train"]}
REASONEVAL = "reasoneval_format"
OF_STEP_LABELS = (
    "gsm8k=processbench:processbench/gsm8k.json",
    "math=processbench:processbench/math.json",
    f"invalid=reasoneval:{REASONEVAL}/mr-math_invalid_errors.json",
    f"redundant=reasoneval:{REASONEVAL}/mr-math_redundant_errors.json",
    "Mr-Ben math=mr_ben:mr_ben/math.json",
    "Mr-Ben biology=mr_ben:mr_ben/biology.json",
    "arithmetic=bbm:big_bench_mistake/multistep_arithmetic.jsonl",
    "best of 4=bon:gsm8k_solutions/example_model_solutions.jsonl",
)
OF_PRM800K = ("PRMBench=prmbench:prmbench",)


def model(name: str, work: Path) -> PRMClassifier:
    """Return a fitted classifier, from the folder where it holds one."""
    folder = work / name.replace(" ", "-")
    if not folder.exists():
        solutions, ratings = load_steps_table(SOURCES[name])
        judged = [load_processbench(data_folder() / "processbench"), load_reasoneval(data_folder() / REASONEVAL)]
        new = np.concatenate([problem_keys(data.solutions) for data in judged])
        known = [
            (Step(solution, t), rating)
            for solution, of_steps, shared in zip(
                solutions, ratings, np.isin(problem_keys(solutions), new), strict=True
            )
            for t, rating in enumerate(of_steps)
            if rating is not None and not shared
        ]
        X, y = [step for step, _ in known], np.array([rating for _, rating in known])
        PRMClassifier(random_state=0).fit(X, y).save(folder)
    return PRMClassifier.load(folder)


def judge(name: str, specs: tuple[str, ...], work: Path, resamples: int) -> Evaluation:
    """Evaluate one model; paths in the specs are below the data folder."""
    on = [spec.replace(":", f":{data_folder()}/", 1) for spec in specs]
    out = work / f"report-{name.replace(' ', '-')}"
    return evaluate({name: model(name, work)}, on, out=out, quoted=True, n_resamples=resamples)


def main() -> None:
    """Run both, write the tables to ``results/evaluation.{md,json}``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for models, scores and report pages")
    parser.add_argument("--resamples", type=int, default=1000, help="of problems, for intervals")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    found = [
        judge("step labels", OF_STEP_LABELS, options.work, options.resamples),
        judge("PRM800K", OF_PRM800K, options.work, options.resamples),
    ]
    pages = "\n".join(one.to_markdown().replace(str(data_folder()), "…") for one in found)
    print(pages)
    if not options.no_write:
        tables = [table for one in found for table in one.to_dict()["tables"]]
        write_result("evaluation", {"resamples": options.resamples, "tables": tables})
        (RESULTS / "evaluation.md").write_text(pages, encoding="utf-8")


if __name__ == "__main__":
    main()
