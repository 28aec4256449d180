"""Solutions of any source, scored block by block in constant memory: ``iter_scores``, and a block as an Arrow table."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from prmkit.data.formats.solutions import iter_solutions_of
from prmkit.data.formats.sources import OnError, Source, skipped_in, warn_of_skipped
from prmkit.data.solution import Solution
from prmkit.fitted import FittedClassifier, Label, with_setting
from prmkit.metrics.solutions.aggregation import aggregate_ragged, ragged_first_error_distribution
from prmkit.scoring.scored_solution import ScoredSolution
from prmkit.scoring.scoring import WHY_UNSCORED, checked, quiet_step_proba
from prmkit.utils.ragged import Ragged

if TYPE_CHECKING:
    import pyarrow

BLOCK_STEPS = 4096
"""Number of steps after which a block is closed. A model scores a block at once, and a killed run loses one."""
_RULES = ("min", "product", "mean", "last")


@dataclass(frozen=True)
class Block:
    """Solutions of a source that follow each other.

    Parameters
    ----------
    number : int
        Place of the block in the source, from 0.
    solutions : tuple of Solution
        At least one.
    first : int
        Place of its first solution in the source, from 0.
    n_records : int
        Number of records that were read when it was complete.
    """

    number: int
    solutions: tuple[Solution, ...]
    first: int = 0
    n_records: int = 0


def blocks_of(
    solutions: Iterable[Solution], block_steps: int = BLOCK_STEPS, counts: Mapping[str, int] | None = None
) -> Iterator[Block]:
    """Cut a stream of solutions into blocks, each of which ends with the solution that fills it up to ``block_steps``.

    So the blocks follow from the source alone, whoever scores them.

    Raises
    ------
    ValueError
        If a solution has no steps.

    Examples
    --------
    >>> solutions = [Solution("p", ["a"] * n) for n in (2, 1, 5, 1)]
    >>> [[one.n_steps for one in block.solutions] for block in blocks_of(solutions, 3)]
    [[2, 1], [5], [1]]
    """
    inside: list[Solution] = []
    n_steps = number = first = 0
    counts = {} if counts is None else counts
    for solution in solutions:
        if not solution.steps:
            raise ValueError(f"solution {first + len(inside)} of the source has no steps: leave it out")
        inside.append(solution)
        n_steps += solution.n_steps
        if n_steps >= block_steps:
            yield Block(number, tuple(inside), first, counts.get("records", 0))
            number, first, inside, n_steps = number + 1, first + len(inside), [], 0
    if inside:
        yield Block(number, tuple(inside), first, counts.get("records", 0))


class BlockWorker(Protocol):
    """What makes a table of each block. It can be sent to another process."""

    doing: str
    """The work in a word, for a bar."""

    def identity(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the model, and all that tells its tables from others, as JSON."""

    def schema(self) -> pyarrow.Schema:
        """Return the columns, among them ``id`` and ``n_cut``, the number of steps that could not be read."""

    def __call__(self, solutions: Sequence[Solution]) -> pyarrow.Table:
        """Return one row per solution."""


@dataclass
class BlockScorer:
    """A model that scores blocks. It can be sent to another process, and loads a named model there, once.

    Parameters
    ----------
    model : fitted classifier of steps, str or path
        An object, or the place of a model: a folder that prmkit saved, or an existing PRM by folder or hub name.
    label_order : sequence of labels, optional
        Labels from worst to best. If None, those that the classifier knows.
    batch_tokens : int, optional
        Number of tokens in a batch of a language model. If None, the model's own.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> data = make_arithmetic_solutions(20, 2, random_state=0)
    >>> pipe = make_pipeline(StepStatistics(), LogisticRegression(max_iter=5000)).fit(data.X, data.y)
    >>> BlockScorer(pipe)(data.solutions[:2]).column_names[:4]
    ['id', 'proba', 'rewards', 'risks']
    """

    model: FittedClassifier | str | Path
    label_order: Sequence[Label] | None = None
    batch_tokens: int | None = None
    _loaded: FittedClassifier | None = field(default=None, init=False, repr=False)
    doing = "score"

    def identity(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the model, and what tells its scores from others."""
        from prmkit.saving.places import model_place, object_digest

        order = json.loads(json.dumps(self.label_order, default=repr))
        if isinstance(self.model, (str, Path)):
            place = model_place(self.model)
            return str(self.model), {"model": place.digest(), "label order": order}
        if not (hasattr(self.model, "predict_proba") and hasattr(self.model, "classes_")):
            raise TypeError(
                f"the model is {type(self.model).__name__}, expected a path, or a fitted classifier with predict_proba"
            )
        return type(self.model).__name__, {"model": object_digest(self.model), "label order": order}

    def schema(self) -> pyarrow.Schema:
        """Return the columns of a file of scores."""
        import pyarrow

        number = pyarrow.float64()
        numbers = pyarrow.list_(number)
        columns = {"id": pyarrow.string(), "proba": pyarrow.list_(numbers), "rewards": numbers, "risks": numbers}
        columns |= dict.fromkeys((*_RULES, "p_no_error"), number)
        return pyarrow.schema({**columns, "first_error_distribution": numbers, "n_cut": pyarrow.int64()})

    @property
    def classifier(self) -> FittedClassifier:
        """The classifier, loaded when it is first needed."""
        if self._loaded is None:
            loaded: Any = self.model
            if isinstance(loaded, (str, Path)):
                from prmkit.saving.places import model_place

                loaded = model_place(loaded).load()
            loaded = with_setting(loaded, "too_long", "nan")
            if self.batch_tokens is not None:
                loaded = with_setting(loaded, "tokens_per_batch", self.batch_tokens)
            checked(loaded, [], self.label_order)
            self._loaded = loaded
        return self._loaded

    @property
    def order(self) -> tuple[Label, ...]:
        """The labels from worst to best."""
        return checked(self.classifier, [], self.label_order)[1]

    @property
    def classes(self) -> list[Any]:
        """The labels of the columns of ``proba``."""
        classes: list[Any] = np.asarray(self.classifier.classes_).tolist()
        return classes

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def __call__(self, solutions: Sequence[Solution]) -> pyarrow.Table:
        """Return one row per solution, with the columns of ``score_file``."""
        proba = quiet_step_proba(self.classifier, solutions)
        about = {"classes": self.classes, "label_order": list(self.order)}
        table = score_table(solutions, proba, self.classes.index(self.order[0]))
        return table.replace_schema_metadata({"prmkit": json.dumps(about)})


def score_table(solutions: Sequence[Solution], proba: np.ndarray, worst: int) -> pyarrow.Table:
    """Return the scores of solutions as an Arrow table, one row each, null for what is unknown.

    Parameters
    ----------
    solutions : sequence of Solution
        Solutions with at least one step each.
    proba : ndarray of shape (n_steps_in_all, n_classes)
        Class probabilities of all steps, NaN for steps without a score.
    worst : int
        Column of the worst class.
    """
    import pyarrow

    lengths = np.array([one.n_steps for one in solutions], dtype=np.int64)
    risks = Ragged(proba[:, worst], lengths)
    rewards = risks.with_values(1.0 - risks.values)
    first_error = ragged_first_error_distribution(risks)
    n_cut = risks.with_values(np.isnan(risks.values).astype(np.int64)).reduce(np.add)
    per_solution = {rule: np.where(n_cut > 0, np.nan, aggregate_ragged(rewards, rule)) for rule in _RULES}
    with np.errstate(divide="ignore"):
        per_solution["p_no_error"] = np.exp(risks.with_values(np.log1p(-risks.values)).reduce(np.add))

    def numbers(values: np.ndarray) -> pyarrow.Array:
        return pyarrow.array(np.ascontiguousarray(values), from_pandas=True)  # NaN becomes null

    def lists(values: pyarrow.Array, sizes: np.ndarray) -> pyarrow.Array:
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        return pyarrow.ListArray.from_arrays(pyarrow.array(offsets), values)

    n_steps, n_classes = proba.shape
    columns = {
        "id": pyarrow.array([one.id for one in solutions], pyarrow.string()),
        "proba": lists(lists(numbers(proba.ravel()), np.full(n_steps, n_classes)), lengths),
        "rewards": lists(numbers(rewards.values), lengths),
        "risks": lists(numbers(risks.values), lengths),
        **{name: numbers(values) for name, values in per_solution.items()},
        "first_error_distribution": lists(numbers(first_error.values), first_error.lengths),
        "n_cut": pyarrow.array(n_cut, pyarrow.int64()),
    }
    return pyarrow.table(columns)


def check_numbers(**values: int | None) -> None:
    """Raise ValueError, which names it, for a setting that is given and no positive number."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}, expected a positive number")


def iter_scores(
    model: FittedClassifier | str | Path,
    source: Source | Iterable[Solution],
    *,
    format: str | None = None,  # noqa: A002 (the word of the field)
    fields: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
    on_error: OnError = "raise",
    limit: int | None = None,
    split: str | None = None,
    label_order: Sequence[Label] | None = None,
    batch_tokens: int | None = None,
    block_steps: int = BLOCK_STEPS,
) -> Iterator[ScoredSolution]:
    """Score the solutions of a source of any size, one block in memory at a time.

    Parameters
    ----------
    model : fitted classifier of steps, str or path
        A fitted classifier, a folder that prmkit saved, or an existing PRM by its folder or hub name, also with its
        layout in front (``"skywork:FOLDER"``).
    source : Source, or iterable of Solution
        What :func:`prmkit.data.load` reads, with labels or without, sampled solutions, or solutions themselves. A
        table with one step per row and PRM-Bench's originals are held in memory, all else is a stream.
    format : str, optional
        Format of the source, or "bon", "bon-paragraph" and so on for sampled solutions with a step per line,
        paragraph and so on. If None, the first records tell it. Rows with a problem and a list of steps need no labels.
    fields : mapping of str to str, optional
        The field of each part, as ``load`` takes them, without labels: ``dict(problem="question", steps="response")``.
        Also ``problem`` and ``text`` (to be cut into steps), ``problem`` and ``candidates``, or ``problem``, ``step``,
        ``order`` and ``solution`` for a table with one step per row.
    options : mapping, optional
        Options of the reader, such as ``dict(by="line")`` for texts.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks its format. Skipped ones are counted, and a warning says so at the end.
    limit : int, optional
        Largest number of records to read.
    split : str, optional
        Split to read, as ``load`` takes it.
    label_order : sequence of labels, optional
        Labels from worst to best. If None, those that the classifier knows.
    batch_tokens : int, optional
        Number of tokens in a batch of a language model. If None, the model's own.
    block_steps : int, default=4096
        Number of steps that are scored at once.

    Yields
    ------
    ScoredSolution
        The scored solutions, in the order of the source.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the model or the source cannot be read.
    ValueError
        If a setting has a senseless value, the format is unknown, a record breaks it, nothing tells which label is the
        worst, or nothing can be scored.

    Warns
    -----
    UserWarning
        At the end, if records were skipped, or if steps have no score.

    Examples
    --------
    >>> from prmkit import PRMClassifier
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> X, y = make_arithmetic_solutions(20, 2, random_state=0)
    >>> clf = PRMClassifier(StepStatistics()).fit(X, y)
    >>> for scored in iter_scores(clf, [{"problem": "2 + 3?", "steps": ["2 + 3 = 6."], "id": "a"}]):
    ...     print(scored.solution.id, scored.rewards.shape)
    a (1,)
    """
    check_numbers(batch_tokens=batch_tokens, block_steps=block_steps)
    scorer = BlockScorer(model, label_order, batch_tokens)
    classes, order = tuple(scorer.classes), scorer.order
    counts: Counter[str] = Counter()
    solutions = iter_solutions_of(
        source, format, fields=fields, options=options, on_error=on_error, limit=limit, split=split, counts=counts
    )
    n_solutions = n_cut = 0
    for block in blocks_of(solutions, block_steps, counts):
        proba = quiet_step_proba(scorer.classifier, block.solutions)
        n_solutions += len(block.solutions)
        n_cut += int(np.isnan(proba[:, 0]).sum())
        ends = np.cumsum([one.n_steps for one in block.solutions])
        for solution, part in zip(block.solutions, np.split(proba, ends[:-1]), strict=True):
            yield ScoredSolution(solution, part, classes, order)
    tell_of(counts, n_solutions, n_cut)


def tell_of(counts: Counter[str], n_solutions: int, n_cut: int, found: str = "score", stacklevel: int = 3) -> None:
    """Raise if nothing was scored. Warn of skipped records, and of steps without a score."""
    warn_of_skipped(counts, "on_error='raise' names")
    if not n_solutions:
        n_skipped, reasons = skipped_in(counts)
        why = f": {n_skipped} records were skipped ({reasons}), and there are no others" if n_skipped else ""
        raise ValueError(f"the source holds no solution that can be scored, expected at least one{why}")
    if n_cut:
        warnings.warn(f"no {found} for {n_cut:,} steps: {WHY_UNSCORED}", UserWarning, stacklevel=stacklevel)
