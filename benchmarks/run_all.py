"""All benchmarks of speed and size by one command, each beside the usual way, and one page of tables of the results.

A benchmark that fails is named at the end, and the others run. The scripts write ``results/NAME.json``. The page
``results/speed.md`` shows the tables of all these files, with the machine and the versions of each.

    python benchmarks/run_all.py                       # some 25 minutes on 2 cores
    python benchmarks/run_all.py --only encoding scale
    python benchmarks/run_all.py --quick               # tries every script in a few minutes and writes nothing
    python benchmarks/run_all.py --list
    python benchmarks/run_all.py --tables              # runs nothing and writes the page
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _common import RESULTS, markdown_table

# What is measured, by which script with which arguments, and the arguments of a quick trial.
BENCHMARKS = {
    "encoding": (
        "backends of the encoder beside SentenceTransformer.encode",
        "bench_encoding.py",
        "",
        "--n-texts 64 --threads 1 --no-int8",
    ),
    "encoding_busy": (
        "the same beside a process that computes all the time",
        "bench_encoding.py",
        "--busy --n-texts 400 --no-int8",
        "--busy --n-texts 64 --no-int8",
    ),
    "scoring": (
        "solutions by the default and by a head, beside a path at a time",
        "bench_scoring.py",
        "--solutions 150 --cv-solutions 60 --rounds 2",
        "--solutions 12 --cv-solutions 24 --rounds 1",
    ),
    "prefixes": (
        "candidates that share their beginning, beside a padded batch",
        "bench_prefixes.py",
        "--problems 6 --sizes 4 8 16 --rounds 2",
        "--problems 1 --sizes 4 --rounds 1",
    ),
    "incremental": (
        "one more step of a growing solution, beside scoring it afresh",
        "bench_incremental.py",
        "",
        "--models causal --rounds 1",
    ),
    "score_file": (
        "files of any size, beside the whole file in memory",
        "bench_score_file.py",
        "",
        "--sizes 10000 30000",
    ),
    "training": (
        "PRMTrainer beside Trainer with TRL's settings",
        "bench_training.py",
        "--rows 32 --rounds 1",
        "--rows 8 --rounds 1 --models causal",
    ),
    "search_cost": (
        "beam search that reads new steps alone, beside whole texts after each step",
        "bench_search.py",
        "--tasks cost",
        "--tasks cost --lengths 3 --models default --rounds 1",
    ),
    "search_accuracy": (
        "searches beside the majority vote at equal generated tokens",
        "bench_search.py",
        "--tasks accuracy",
        "--tasks accuracy --problems 5 --training-problems 30",
    ),
    "scale": ("growth with the number of steps", "bench_scale.py", "", "--quick --tasks data long"),
}
FOLDER = Path(__file__).parent


def tables(found: Any, title: str = "") -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the tables of a result with their titles: lists of records, at any depth."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name != "rounds":
                yield from tables(value, f"{title}, {name}".removeprefix(", ") if name != "rows" else title)
    elif isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        yield title, found


def write_page() -> Path:
    """Write the tables of all results as Markdown."""
    parts = ["# Speed and size", "Written by `benchmarks/run_all.py` from the result of each script."]
    for name, (what, *_) in BENCHMARKS.items():
        file = RESULTS / f"{name}.json"
        if not file.is_file():
            continue
        found = json.loads(file.read_text("utf-8"))
        stamp = {key: found.pop(key) for key in ("date", "command", "machine", "versions")}
        machine = ", ".join(f"{key} {value}" for key, value in stamp["machine"].items() if value is not None)
        versions = ", ".join(f"{key} {value}" for key, value in stamp["versions"].items() if value is not None)
        numbers = {key: value for key, value in found.items() if not isinstance(value, (dict, list))}
        parts += [
            f"## {name}",
            f"{what[0].upper()}{what[1:]}. `python benchmarks/{stamp['command']}`, {stamp['date']}.",
        ]
        parts += [f"Machine: {machine}. Versions: {versions}."]
        parts += ["; ".join(f"{key}: {value}" for key, value in numbers.items())] if numbers else []
        for title, rows in tables(found):
            parts += [f"**{title}**"] if title else []
            parts.append(markdown_table(rows))
    path = RESULTS / "speed.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def main() -> None:
    """Run the benchmarks one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="try the scripts, and write nothing")
    parser.add_argument("--list", action="store_true", help="print the names, and run nothing")
    parser.add_argument("--tables", action="store_true", help="write the page of tables, and run nothing")
    parser.add_argument("--model", help="folder of a causal model for the benchmark of prefixes")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{name:14} {what}" for name, (what, *_) in BENCHMARKS.items()))
        return
    failed, begin = [], time.perf_counter()
    for name in [] if options.tables else options.only:
        _, script, usual, quick = BENCHMARKS[name]
        arguments = [*quick.split(), "--no-write"] if options.quick else usual.split()
        if name == "prefixes" and options.model:
            arguments += ["--model", options.model]
        print(f"\n== {name}: {script} {' '.join(arguments)}", flush=True)
        start = time.perf_counter()
        status = subprocess.run([sys.executable, str(FOLDER / script), *arguments], check=False).returncode
        if status:
            failed.append(f"{name} (status {status})")
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
    if not options.quick:
        print(f"written to {write_page()}")
    print(f"total: {(time.perf_counter() - begin) / 60:.1f} minutes")
    if failed:
        sys.exit(f"these failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
