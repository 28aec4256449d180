"""Which of several samples is wrong, and which one to choose? Agreement, verifiers, and what is learnt from both.

Visible data: 8 samples of one generator per problem (gsm8k_samples, with the scores of three published verifiers and
answers that the source cut at the thousands separator), 4 candidates per problem (gsm8k_solutions), and the solutions
of one problem in Mr-Ben and in the sample of PRM800K.

- scores: AUROC, AURC and PRR of "the sample is wrong" for every score; "inside" is the AUROC among the samples of one
  problem, averaged over the problems with right and wrong ones. Differences are paired with plain disagreement.
- selection: how often the sample that a rule chooses is right, paired with majority.
- scale: seconds and memory at 100,000 samples of 10,000 problems, in a process of its own, on one core.

What is learnt from right and wrong (`PathClassifier`) is out of fold, five folds by problem. Intervals are 95 % and
resample problems; the models stay as they are.

    python benchmarks/bench_samples.py --work FOLDER
    python benchmarks/bench_samples.py --only scores --sets gsm8k_samples --resamples 100 --no-write
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import RESULTS, ROOT, machine, print_table, versions, write_result
from _quality_report import markdown, signed
from _sample_sets import (
    AGREEMENT,
    OWN,
    PUBLISHED,
    SETS,
    Sampled,
    add_learnt_risks,
    add_plain_risks,
    own_classifier,
    own_rewards,
)

from prmkit.features import PRMFeaturizer
from prmkit.metrics import Interval, RiskCoverageDisplay, aggregate, selection_report, selective_report
from prmkit.metrics.bootstrap import bootstrap_counts

PARTS = ("scores", "selection", "scale")
METRICS = {"auroc": "AUROC", "aurc": "AURC", "prr@1": "PRR"}
Table = list[dict[str, Any]]
SETS_TITLE, PICTURED = "The sets", "gsm8k_samples, texts believed"


def inside_aurocs(errors: np.ndarray, risk: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return, for each problem, how often a wrong sample has the larger risk than a right one. NaN without both."""
    aurocs = np.full(groups.max() + 1, np.nan)
    for group in range(len(aurocs)):
        own = groups == group
        wrong, right = risk[own & errors], risk[own & ~errors]
        if len(wrong) and len(right):
            gaps = wrong[:, None] - right
            aurocs[group] = (gaps > 0).mean() + (gaps == 0).mean() / 2
    return aurocs


def score_table(found: Sampled, resamples: int) -> Table:
    """Return what every score is worth, and how far its AUROC is ahead of agreement."""
    risks = {AGREEMENT: found.risks[AGREEMENT], **found.risks}
    report = selective_report(
        found.errors, risks, found.groups, coverages=(), target="the sample is wrong", n_resamples=resamples
    )
    within = {name: inside_aurocs(found.errors, risk, found.groups) for name, risk in risks.items()}

    def mean(counts: np.ndarray) -> dict[str, float | None]:
        values: dict[str, float | None] = {}
        for name, of_problem in within.items():
            mixed = ~np.isnan(of_problem)
            total = counts[mixed].sum()
            values[name] = float(of_problem[mixed] @ counts[mixed] / total) if total else None
        return values

    inside = bootstrap_counts(mean, len(found.candidates), resamples)
    rows = []
    for name in risks:
        row: dict[str, Any] = {"score": name}
        row |= {title: report.metrics[name][key].to_text("–") for key, title in METRICS.items()}
        row["inside mixed problems"] = inside.interval(name).to_text("–")
        row["AUROC − disagreement's"] = "" if name == AGREEMENT else signed(turned(report.differences[name]["auroc"]))
        rows.append(row)
    return rows


def turned(difference: Interval) -> Interval:
    """Return ``b - a`` for ``a - b``."""
    value, low, high = (None if end is None else -end for end in (difference.value, difference.high, difference.low))
    return Interval(value, low, high)


def described(found: Sampled) -> dict[str, Any]:
    """What stands in a set: samples, problems, the share of wrong ones."""
    shares = np.bincount(found.groups, weights=found.errors) / found.candidates.sizes
    return {
        "set": found.name,
        "samples": len(found.errors),
        "problems": len(found.candidates),
        "wrong": f"{found.errors.mean():.3f}",
        "mixed problems": int(((shares > 0) & (shares < 1)).sum()),
        "note": found.note,
    }


def selection_table(found: Sampled, resamples: int) -> Table:
    """How often the sample that a rule chooses is right, by the number of samples, and the same minus majority."""
    scores = {f"{name}, min": aggregate(rewards, "min") for name, rewards in found.rewards.items()}
    # What is learnt from most features, and from the states alone.
    last = [name for name in found.risks if name.startswith("learnt: agreement")][-1:]
    scores |= {name: 1 - found.risks[name] for name in (*last, "learnt: states") if name in found.risks}
    largest = int(found.candidates.sizes.max())
    sizes = [size for size in (2, 4, 8) if size <= largest]
    report = selection_report(found.candidates, scores, sizes=sizes, n_resamples=resamples)
    rows = []
    for rule, of_sizes in report.metrics.items():
        row: dict[str, Any] = {"rule": rule} | {size: value.to_text("–") for size, value in of_sizes.items()}
        ahead = report.differences.get(rule, {})
        row |= {f"{size} − majority": signed(ahead[size]) if size in ahead else "" for size in list(of_sizes)[-1:]}
        rows.append(row)
    until = ", ".join(f"{value.to_text()} ({size})" for size, value in report.until_decided.items())
    return [*rows, dict.fromkeys(rows[0], "") | {"rule": f"samples until the vote is decided: {until}"}]


def draw(found: Sampled, path: Path) -> None:
    """Draw the share of wrong ones among the accepted samples against the share accepted, for a few scores."""
    import matplotlib.pyplot as plt

    shown = [AGREEMENT, f"{PUBLISHED['qwen_prm']}, min", "learnt: agreement, length"]
    shown += [name for name in list(found.risks)[-1:] if name not in shown]
    display = RiskCoverageDisplay.from_predictions(
        found.errors, {name: found.risks[name] for name in shown if name in found.risks}, found.groups
    )
    display.figure_.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(display.figure_)


def sets_of(options: argparse.Namespace) -> list[Sampled]:
    """Read the sets and what verifiers say of them."""
    classifier, read = None, []
    featurizer = None
    if options.model is not None:
        featurizer = PRMFeaturizer(kind="states", model=options.model, pooling="mean_last", cache_dir=options.states)
    for name in options.sets:
        found = SETS[name]()
        if name != "prm800k" and not options.no_own:
            classifier = classifier or own_classifier(options.work)
            found.rewards[OWN] = own_rewards(classifier, found.candidates.solutions)
        add_plain_risks(found)
        if not options.no_learnt:
            verifier = next((one for one in (PUBLISHED["qwen_prm"], OWN) if one in found.rewards), None)
            add_learnt_risks(found, verifier, featurizer if name in options.states_sets else None)
        read.append(found)
        print(f"read {found.name}", flush=True)
    return read


def joined(before: dict[str, Table], new: dict[str, Table]) -> dict[str, Table]:
    """Return the tables of an earlier result with the new ones in their place, the list of sets first."""
    listed = {row["set"]: row for row in [*before.get(SETS_TITLE, []), *new.get(SETS_TITLE, [])]}
    tables = {SETS_TITLE: list(listed.values())}
    return {**tables, **dict(sorted({**before, **new}.items())), **tables}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (default: all)")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="sets (default: all)")
    parser.add_argument("--work", type=Path, help="folder in which the step classifier is kept")
    parser.add_argument("--model", help="folder of a causal language model, for states")
    parser.add_argument("--states", type=Path, help="folder in which its states are kept")
    parser.add_argument("--states-sets", nargs="*", choices=SETS, default=["gsm8k_samples"], help="sets with states")
    parser.add_argument("--no-learnt", action="store_true", help="leave out PathClassifier")
    parser.add_argument("--no-own", action="store_true", help="leave out the default step classifier, which is fitted")
    parser.add_argument("--resamples", type=int, default=1000, help="of problems (default: %(default)s)")
    parser.add_argument("--add", action="store_true", help="keep the tables of the result file that are not made anew")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    shown: dict[str, Table] = {}
    read = sets_of(options) if {"scores", "selection"} & set(options.only) else []
    if read:
        shown[SETS_TITLE] = [described(found) for found in read]
    if "scores" in options.only:
        for found in read:
            shown[f"{found.name}: which sample is wrong"] = score_table(found, options.resamples)
            if found.name == PICTURED and not options.no_write:
                draw(found, ROOT / "docs" / "_static" / "sampled_answers.png")
    if "selection" in options.only:
        for found in read:
            if found.name.startswith("gsm8k"):
                shown[f"{found.name}: which sample to choose"] = selection_table(found, options.resamples)
    if "scale" in options.only:
        from _sample_scale import SIZES, scale

        shown["Scale"] = scale(SIZES)
    for title, rows in shown.items():
        print(f"\n{title}\n")
        print_table(rows)
    print(f"{time.perf_counter() - start:.0f} s")
    if options.no_write:
        return
    if options.add and (RESULTS / "samples.json").is_file():
        shown = joined(json.loads((RESULTS / "samples.json").read_text("utf-8"))["tables"], shown)
    path = write_result("samples", {"tables": shown})
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `python benchmarks/bench_samples.py {' '.join(sys.argv[1:])}`.",
        "",
        f"`machine`: {machine()}",
        "",
        f"`versions`: {versions()}",
        "",
        (__doc__ or "").split("    python")[0].strip(),
    ]
    (RESULTS / "samples.md").write_text(markdown(shown, notes, "Sampled answers"), encoding="utf-8")
    print(f"written to {path} and samples.md")


if __name__ == "__main__":
    main()
