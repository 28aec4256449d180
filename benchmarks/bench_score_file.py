"""Scoring files of any size: time, resident memory and growth of ``score_file`` beside the usual way, without a model.

    python benchmarks/bench_score_file.py --repeat 2
    python benchmarks/bench_score_file.py --sizes 10000 30000 --no-write

The model reads the lengths of texts, so what is measured is all but the model: reading, aggregating and writing. The
usual way loads the whole file, scores it, and writes a data frame. Each run is a process of its own. Its memory is the
peak that the operating system counted. The exponents are slopes of log seconds over log steps, over all sizes and over
the last two: of wall-clock time, and beside it of CPU time, which other processes on the machine change less.

Required of ``score_file``: an exponent of the wall-clock time of 1.05 at most, memory within 10 % of that of the
smallest size, and a million steps in three minutes.
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
from _common import machine, print_table, versions, write_result

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
    parser.add_argument("--no-write", action="store_true", help="print only")
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
    exponents = []
    for way in ("score_file", "whole file"):
        for clock in ("seconds", "CPU seconds"):
            logs = np.log([[row["steps"], row[clock]] for row in rows if row["way"] == way])
            if len(logs) > 1:
                slopes = (float(np.polyfit(*part.T, 1)[0]) for part in (logs, logs[-2:]))
                exponents.append(
                    {"way": way, "exponent of": clock, **dict(zip(("all", "last two"), slopes, strict=True))}
                )
    ours = [row for row in rows if row["way"] == "score_file"]
    memory = [row["MB"] for row in ours]
    found = {"memory, largest to smallest": (max(memory) / memory[0], 1.1)}
    if exponents:
        found["exponent of seconds"] = (exponents[0]["all"], 1.05)
    if ours[-1]["steps"] >= 1_000_000:
        found["seconds of the largest"] = (ours[-1]["seconds"], 180.0)
    required = [
        {"score_file": name, "found": value, "at most": most, "met": "yes" if value <= most else "NO"}
        for name, (value, most) in found.items()
    ]
    print(f"\n{machine()}\n{versions()}\n")
    for table in (rows, exponents, required):
        print_table(table)
        print()
    if not arguments.no_write:
        print("written:", write_result("score_file", {"rows": rows, "exponents": exponents, "required": required}))


if __name__ == "__main__":
    main()
