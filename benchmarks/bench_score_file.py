"""Scoring files of any size: time, resident memory and growth of ``score_file`` beside the usual way, without a model.

    python benchmarks/bench_score_file.py [--sizes 10000 100000 1000000] [--repeat 1] [--largest-whole 100000]

The model reads the lengths of texts, so what is measured is all but the model: reading, aggregating and writing. The
usual way loads the whole file, scores it, and writes a data frame. Each run is a process of its own. Its memory is the
peak that the operating system counted. The exponents are slopes of
log CPU seconds over log steps, which other processes on the machine do not change: over all sizes, and the last two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import print_table, write_result

N_STEPS = 10
_RUN = """
import json, resource, sys, time
import numpy as np
import pandas, pyarrow.parquet, sklearn.base
from prmkit.data import load
from prmkit.scoring import score_file, score_solutions

class Lengths:
    classes_ = np.array([-1, 1])
    def predict_proba(self, X):
        risk = np.array([len(step.solution.steps[step.index]) % 10 / 10 for step in X])
        return np.column_stack([risk, 1 - risk])

way, source, out = sys.argv[1:]
start, begin = time.perf_counter(), time.process_time()
if way == "score_file":
    score_file(Lengths(), source, out, show_progress=False)
else:
    scored = score_solutions(Lengths(), load(source).solutions)
    rows = [
        {
            "id": one.solution.id, "proba": one.proba.tolist(), "rewards": one.rewards, "risks": one.risks,
            **{rule: one.aggregates[rule] for rule in ("min", "product", "mean", "last")},
            "p_no_error": one.p_no_error, "first_error_distribution": one.first_error_distribution,
        }
        for one in scored
    ]
    pandas.DataFrame(rows).to_parquet(out)
seconds, computed = time.perf_counter() - start, time.process_time() - begin
print(json.dumps([seconds, computed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def write_source(path: Path, n_steps: int) -> None:
    """Write made-up solutions of ten steps, with labels, which the usual way needs."""
    draw = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(n_steps // N_STEPS):
            values = draw.integers(1, 1000, (N_STEPS, 2)).tolist()
            steps = [f"We add {a} and {b}, which makes {a + b}, and go on with the next pair." for a, b in values]
            record = {"id": f"s{number}", "problem": f"Add the pairs of list {number}.", "steps": steps}
            file.write(json.dumps({**record, "labels": [1] * N_STEPS}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of steps")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, of which the fastest counts")
    parser.add_argument("--largest-whole", type=int, default=100_000, help="largest size of the usual way")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n_steps in arguments.sizes:
            source = Path(folder, f"{n_steps}.jsonl")
            write_source(source, n_steps)
            for way in ("score_file", "whole file") if n_steps <= arguments.largest_whole else ("score_file",):
                runs = []
                for repeat in range(arguments.repeat):
                    out = Path(folder, f"{n_steps}-{way}-{repeat}.parquet")
                    command = [sys.executable, "-c", _RUN, way, str(source), str(out)]
                    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
                    runs.append(json.loads(done.stdout.splitlines()[-1]))
                seconds, computed, memory = (min(values) for values in zip(*runs, strict=True))
                row = {"steps": n_steps, "way": way, "seconds": seconds, "CPU seconds": computed, "MB": memory}
                row["steps/s"] = n_steps / seconds
                rows.append(row)
                print(time.strftime("%H:%M:%S"), row, flush=True)
    exponents = {}
    for way in ("score_file", "whole file"):
        logs = np.log([[row["steps"], row["CPU seconds"]] for row in rows if row["way"] == way])
        if len(logs) > 1:
            exponents[way] = {"all": np.polyfit(*logs.T, 1)[0], "last two": np.polyfit(*logs[-2:].T, 1)[0]}
    print_table(rows)
    print("exponents:", exponents)
    print("written:", write_result("score_file", {"rows": rows, "exponents": exponents}))


if __name__ == "__main__":
    main()
