"""How much is learnt from few labelled problems, and by which model?

Training problems are drawn ``--draws`` times in each size, from all data sets of bench_states.py together. The test
part is a fifth of all problems, the same for each draw. Compared are position and length, the default model on text,
the same without embeddings, states of a frozen language model as a view of the default in the place of embeddings,
states alone and embeddings alone with a logistic regression, and with ``--contrastive`` a sentence encoder that the
trainer of sentence-transformers tunes on pairs of training steps, with a logistic regression on its embeddings of the
text of a step. Layers and thresholds come from out-of-fold predictions on the drawn problems. The tuned encoder, which
would have to be tuned in each fold, has no threshold. AUROC, average precision and macro-F1 are means over the data
sets of the test part. The intervals (95 %, Student's t) are over the draws: what another choice of problems to label
would give.

Every array and prediction is kept in ``--work``, and shared with bench_states.py. A run that was killed goes on there.

    python benchmarks/bench_learning_curve.py --work FOLDER --model FOLDER_OF_SMOLLM2
    python benchmarks/bench_learning_curve.py --work FOLDER --random-tiny --limit 8 --sizes 8 16 --draws 2 --no-write
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from functools import partial
from typing import Any

import numpy as np
from _common import RESULTS, machine, print_table, versions, write_result
from _quality_report import markdown
from _state_models import (
    DEFAULT,
    STATES,
    WITH_STATES,
    WITHOUT_EMBEDDINGS,
    Data,
    Model,
    add_arguments,
    check_arguments,
    fit,
    linear,
    mean_auroc,
    models,
    path_of,
    prepare,
    thresholds,
)
from bench_quality import Split, splits
from joblib import Parallel, cpu_count, delayed
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

EMBEDDED = Model(
    "embeddings in context, logistic regression",
    (("", partial(linear, parts=(("embeddings", None),))),),
    ("embeddings",),
)
CONTRASTIVE = "contrastive fine-tuning, logistic regression"
METRICS = ("AUROC", "AP", "macro-F1")
MOST_PAIRS, MOST_TOKENS = 1000, 64


def draws(data: Data, sizes: list[int], n_draws: int, seed: int) -> list[Split]:
    """Return training problems of each size and draw, beside the test part that all share."""
    whole = next(split for split in splits(data.table, 2, seed) if split.protocol == "pooled")
    problems = data.table.problems[whole.train]
    found = []
    for number in range(n_draws):
        # A smaller draw is a part of the larger ones, as it is for someone who goes on labelling.
        order = np.random.default_rng([seed, number]).permutation(np.unique(problems))
        for size in sizes:
            if size <= len(order):
                rows = whole.train[np.isin(problems, order[:size])]
                found.append(Split("curve", f"{size}-draw{number}", rows, whole.test))
    return found


def contrastive(data: Data, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Tune a sentence encoder so that steps of one label are near each other, and read it with a regression."""
    import tempfile

    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    from prmkit.features.encoding.model_path import resolve_model

    def texts(rows: np.ndarray) -> list[str]:
        return [data.table.steps[row].text for row in rows]

    wrong, learn = data.table.y[train] == 0, texts(train)
    rng = np.random.default_rng(seed)
    n_pairs = min(MOST_PAIRS, 20 * len(train))
    first, second = (rng.integers(len(train), size=n_pairs) for _ in range(2))
    # As many pairs of one label as of two.
    kinds = [np.flatnonzero(~wrong), np.flatnonzero(wrong)]
    first[::2] = rng.choice(kinds[0], len(first[::2]))
    second[::2] = rng.choice(kinds[1], len(second[::2]))
    pairs = Dataset.from_dict(
        {
            "first": [learn[i] for i in first],
            "second": [learn[i] for i in second],
            "label": (wrong[first] == wrong[second]).astype(float).tolist(),
        }
    )
    encoder = SentenceTransformer(str(resolve_model("all-MiniLM-L6-v2")), device=data.device)
    encoder.max_seq_length = MOST_TOKENS  # all of most steps
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            seed=seed,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=(data.device or "cpu") == "cpu",
        )
        SentenceTransformerTrainer(encoder, arguments, train_dataset=pairs, loss=CosineSimilarityLoss(encoder)).train()
    head = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=150, tol=1e-3))
    head.fit(encoder.encode(learn, show_progress_bar=False), wrong)
    return head.predict_proba(encoder.encode(texts(test), show_progress_bar=False))[:, 1]


def scores(data: Data, split: Split, saved: Any) -> dict[str, float]:
    """Return the metrics of one draw, each as a mean over the data sets of the test part."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = not np.isnan(saved["unseen"]).any()
        threshold = thresholds(data, split.train, saved["unseen"])[0] if known else np.nan
    risk, wrong, datasets = saved["risk"], data.table.y[split.test] == 0, data.table.datasets[split.test]
    parts = [datasets == name for name in np.unique(datasets)]
    parts = [part for part in parts if 0 < wrong[part].sum() < part.sum()]
    return {
        "AUROC": mean_auroc(data, split.test, risk),
        "AP": float(np.mean([average_precision_score(wrong[part], risk[part]) for part in parts])),
        "macro-F1": float(np.mean([f1_score(wrong[p], risk[p] > threshold, average="macro") for p in parts]))
        if known
        else np.nan,
    }


def interval(values: list[float]) -> str:
    """Return the mean over draws and its 95 % interval."""
    mean = float(np.mean(values))
    if np.isnan(mean):
        return "–"
    if len(values) < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def tables(data: Data, todo: list[Split], names: list[str], sizes: list[int]) -> dict[str, list[dict[str, Any]]]:
    """Return a table per metric, and what each model gains over the default in the same draws."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    by_draw: dict[tuple[str, str], float] = {}
    for name in names:
        for split in todo:
            path = path_of(data.folder, split, name)
            if path.exists():
                with np.load(path) as saved:
                    values = scores(data, split, saved)
                found.setdefault((name, int(split.name.partition("-")[0])), []).append(values)
                by_draw[name, split.name] = values["AUROC"]
    shown: dict[str, list[dict[str, Any]]] = {}
    for metric in METRICS:
        shown[metric] = [
            {"model": name}
            | {
                f"{size} problems": interval([values[metric] for values in found.get((name, size), [])] or [np.nan])
                for size in sizes
            }
            for name in names
        ]
    shown["AUROC − that of the default in the same draw"] = [
        {"model": name}
        | {
            f"{size} problems": interval(
                [
                    by_draw[name, split.name] - by_draw[DEFAULT, split.name]
                    for split in todo
                    if split.name.startswith(f"{size}-") and {(name, split.name), (DEFAULT, split.name)} <= set(by_draw)
                ]
                or [np.nan]
            )
            for size in sizes
        }
        for name in names
        if name != DEFAULT
    ]
    shown["draws"] = [
        {
            "problems": size,
            "steps, mean over draws": float(np.mean([len(s.train) for s in todo if s.name.startswith(f"{size}-")])),
        }
        for size in sizes
        if any(s.name.startswith(f"{size}-") for s in todo)
    ]
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--sizes", type=int, nargs="*", default=[8, 16, 32, 64, 128, 256, 512])
    parser.add_argument("--draws", type=int, default=5, help="of each size (default: %(default)s)")
    parser.add_argument("--contrastive", action="store_true", help="tune a sentence encoder too (minutes per draw)")
    parser.add_argument("--contrastive-most", type=int, default=64, help="problems of its largest draw")
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="processes (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="print only")
    options = parser.parse_args()
    check_arguments(options)
    data, _ = prepare(options, ["mean"])
    todo = draws(data, options.sizes, options.draws, options.seed)
    compared = ("position and length", WITHOUT_EMBEDDINGS, DEFAULT, STATES, WITH_STATES)
    wanted = [model for model in models(len(data.layers)) if model.name in compared] + [EMBEDDED]
    jobs = [
        (split, model)
        for model in wanted
        for split in todo
        if all(map(data.has, model.needs)) and not path_of(data.folder, split, model.name).exists()
    ]
    told = Parallel(n_jobs=options.jobs)(
        delayed(fit)(options.cap, data.folder, "cpu", split, model, options.seed) for split, model in jobs
    )
    if options.contrastive:
        model = Model(CONTRASTIVE, (("", contrastive),), in_folds=False)
        wanted.append(model)
        told += [
            fit(options.cap, data.folder, options.device or "cpu", split, model, options.seed)
            for split in todo
            if int(split.name.partition("-")[0]) <= options.contrastive_most
            and not path_of(data.folder, split, CONTRASTIVE).exists()
        ]
    shown = tables(data, todo, [model.name for model in wanted], options.sizes)
    faults = [fault for fault in told if fault]
    if faults:
        shown["what could not be fitted"] = [{"fault": fault[:300]} for fault in faults]
    for title, rows in shown.items():
        print(f"\n{title}\n")
        print_table(rows)
    if options.no_write:
        return
    path = write_result("learning_curve", {"model": options.model, "tables": shown})
    stamp = [f"`{key}`: {value}" for key, value in (("machine", machine()), ("versions", versions()))]
    notes = [
        f"Written {time.strftime('%Y-%m-%d')} by `python benchmarks/bench_learning_curve.py {' '.join(sys.argv[1:])}`.",
        *(line for text in stamp for line in ("", text)),
        "",
        (__doc__ or "").split("    python")[0].strip(),
        f"Model: {options.model}.",
    ]
    page = RESULTS / "learning_curve.md"
    page.write_text(markdown(shown, notes, "What is learnt from few labelled problems"), encoding="utf-8")
    print(f"\nwritten to {path} and {page.name}")


if __name__ == "__main__":
    main()
