"""A process reward model as a reward function of TRL, verl and others."""

from __future__ import annotations

import math
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np

from prmkit.data.solution import Solution
from prmkit.data.step_splitting import By, Think, step_offsets
from prmkit.decoding.rewards._step_rewards import FloatArray, StepRewards, decoded, last_tokens, rewards_at
from prmkit.decoding.search.scoring import Scorer, batch_rewards, check_aggregation, check_scorer
from prmkit.fitted import FittedClassifier, with_setting
from prmkit.metrics.solutions.aggregation import ANY_SCALE_RULES, aggregate as aggregated
from prmkit.saving.places import ModelPlace, model_place
from prmkit.scoring.scoring import checked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Conversation: TypeAlias = str | Sequence[Mapping[str, object]]
"""A text, or messages with ``role`` and ``content``."""

_NO_STEPS = "the completion is empty"
_NO_TEXT = "the completion holds more than text of the assistant, such as a call of a tool or an image"
_NO_PROBLEM = "the prompt does not end with text of the user"
_NO_COLUMN_TEXT = "the column of the problem holds no text"
_NO_SCORE = "the model has no finite score for a step, such as one beyond its length"
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class PRMReward:
    r"""A process reward model as the reward of reinforcement learning.

    It is a reward function of TRL as it stands: ``GRPOTrainer(reward_funcs=PRMReward(clf), …)``, also for
    ``RLOOTrainer`` and ``AsyncGRPOTrainer``. It can be pickled if ``prm`` can.

    Parameters
    ----------
    prm : fitted classifier, object with ``score_solutions``, callable, str or path
        What scores the steps. A callable takes a list of Solution, and returns the step rewards of each. A text is the
        folder of a saved model, or the folder or hub name of a published one. It is loaded by the process that uses it,
        so that what is pickled stays small.
    aggregate : str, default="min"
        How the rewards of the steps become the reward of a completion, see :func:`prmkit.metrics.aggregate`. The lowest
        reward cannot be raised by more easy steps, and that is why it is the default [1]_. Means can.
    by : {"paragraph", "line", "enumeration", "sentence"} or callable, default="paragraph"
        Unit of a completion that is a step, see :func:`prmkit.data.split_steps`.
    think : {"keep", "drop", "only"}, default="keep"
        What happens to thoughts between ``<think>`` and ``</think>``. Those that a message holds as
        ``reasoning_content`` or ``thinking`` are put between these tags before.
    problem_column : str, optional
        Column of the data set with the text of the problem. If None, it is the prompt: a text as it is, or what the
        user said last in messages. System messages are left out.
    scale : float, default=1.0
        Factor of the rewards of steps.
    offset : float, default=0.0
        Number to add behind the factor. ``scale=2, offset=-1`` makes rewards in [-1, 1].
    name : str, default="PRMReward"
        Name in the logs of the trainer.

    Attributes
    ----------
    n_unscored_ : int
        Number of completions so far that got None. It counts in each process by itself.
    unscored_ : Counter
        Their number by reason.

    Raises
    ------
    FileNotFoundError
        If a text names no model.
    TypeError, ValueError
        If a setting is unknown, or ``prm`` cannot score.

    Warns
    -----
    UserWarning
        When the first completions get None.

    Notes
    -----
    A completion has the reward None if it has no step, if it is more than text of the assistant (a call of a tool, an
    image), if the prompt does not end with text of the user, or if the model cannot read one of its steps. TRL leaves
    None out. If the prompt ends with a message of the assistant, the completion goes on with it.

    ``AsyncGRPOTrainer`` asks in a process that sees no GPU. Models compute on the CPU there, and a model whose
    ``device`` names a GPU fails.

    The lowest reward is high for a solution of few steps, also for one that solves nothing. Give the trainer a second
    reward for the final answer, such as ``trl.rewards.accuracy_reward``.

    References
    ----------
    .. [1] Cheng et al., "Stop Summation: Min-Form Credit Assignment Is All Process Reward Model Needs for Reasoning",
       arXiv:2504.15275.

    Examples
    --------
    >>> def has_14(solutions):
    ...     return [[0.9 if "14" in step else 0.4 for step in one.steps] for one in solutions]
    >>> reward = PRMReward(has_14)
    >>> reward(prompts=["2 + 3 * 4?"] * 2, completions=["It is 14.\n\nYes, 14.", "It is 20.\n\nNo, 14."])
    [0.9, 0.4]
    >>> positions, values = reward.step_rewards("It is 20.\n\nNo, 14.")
    >>> positions, values
    (array([ 8, 17]), array([0.4, 0.9]))
    """

    def __init__(
        self,
        prm: Scorer | str | Path,
        *,
        aggregate: str = "min",
        by: By = "paragraph",
        think: Think = "keep",
        problem_column: str | None = None,
        scale: float = 1.0,
        offset: float = 0.0,
        name: str = "PRMReward",
    ) -> None:
        # A trainer asks for the first reward long after this line, so everything is checked here.
        check_aggregation(aggregate, "aggregate")
        step_offsets("", by, think=think)
        for setting, value in (("scale", scale), ("offset", offset)):
            if not isinstance(value, Real) or not math.isfinite(value):
                raise ValueError(f"{setting} is {value!r}, expected a finite number")
        if scale <= 0:
            raise ValueError(f"scale is {scale!r}, expected a number above 0: a higher reward is better")
        self.prm: Scorer | ModelPlace = _place(prm) if isinstance(prm, (str, Path)) else _checked_scorer(prm)
        self.aggregate = aggregate
        self.by = by
        self.think: Think = think
        self.problem_column = problem_column
        self.scale = scale
        self.offset = offset
        self.__name__ = name
        self.unscored_: Counter[str] = Counter()
        self._set_up()

    def _set_up(self) -> None:
        self._ready: Scorer | None = None
        # Trainers may ask from several threads.
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_ready", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._set_up()

    def __repr__(self) -> str:
        prm = (
            self.prm.path
            if isinstance(self.prm, ModelPlace)
            else getattr(self.prm, "__name__", type(self.prm).__name__)
        )
        return f"<{self.__name__}: {self.aggregate} of {prm}>"

    @property
    def n_unscored_(self) -> int:
        """Number of completions so far that got None."""
        return self.unscored_.total()

    def __call__(
        self,
        prompts: Sequence[Conversation],
        completions: Sequence[Conversation],
        completion_ids: Sequence[Sequence[int]] | None = None,
        *,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: object,
    ) -> list[float | None]:
        """Return the reward of each completion.

        Parameters
        ----------
        prompts : sequence of str, or of lists of messages
            Prompt of each completion.
        completions : sequence of str, or of lists of messages
            What was generated.
        completion_ids : sequence of list of int, optional
            Not used.
        log_metric : callable, optional
            ``log_metric(name, value)`` gets the share of completions without a reward.
        **columns : object
            Columns of the data set, and what else a trainer hands over. Only ``problem_column`` is read.

        Returns
        -------
        list of float or None
            One entry per completion. None if it cannot be scored.

        Raises
        ------
        TypeError, ValueError
            If the numbers of prompts and completions differ, the column is missing, or the scorer does not give one
            reward per step.
        """
        problems = None if self.problem_column is None else _column(columns, self.problem_column, len(prompts))
        rows = self._read(prompts, completions, problems)
        rewards: list[float | None] = [None] * len(rows)
        found = [(i, values) for i, values in enumerate(self._score(rows)) if values is not None]
        if found:
            # A product of numbers outside [0, 1] is refused. The other rules take any numbers.
            is_probability = self.aggregate not in ANY_SCALE_RULES and all(
                bool(((values >= 0) & (values <= 1)).all()) for _, values in found
            )
            whole = aggregated([values for _, values in found], self.aggregate, probabilities=is_probability)
            for (i, _), value in zip(found, whole.tolist(), strict=True):
                rewards[i] = self.scale * value + self.offset
        if log_metric is not None:
            # In every call, since the processes of a trainer must log the same names.
            log_metric(f"rewards/{self.__name__}/unscored", rewards.count(None) / max(len(rewards), 1))
        return rewards

    def step_rewards(
        self,
        completion: Conversation | Sequence[int],
        prompt: Conversation = "",
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        temperature: float | None = None,
    ) -> StepRewards:
        r"""Return the reward of each step of one completion, at the place where the step ends.

        Parameters
        ----------
        completion : str, list of messages, or list of int
            What was generated. Token ids need ``tokenizer``.
        prompt : str or list of messages, default=""
            The problem.
        tokenizer : PreTrainedTokenizerBase, optional
            Tokenizer of the token ids. Positions then count tokens, else they count characters.
        temperature : float, optional
            If None, the values are the rewards of the steps. A trainer that sums them up rewards many easy steps. A
            number gives the min form: the rewards times ``softmax(-rewards / temperature)``, whose sum comes near the
            lowest reward. Its authors take rewards in [-1, 1] (``scale=2, offset=-1``) and 0.1.

        Returns
        -------
        StepRewards
            ``positions, values``, empty for a completion that cannot be scored. If several steps end in one token, the
            lowest of their rewards counts.

        Raises
        ------
        TypeError
            If token ids come without a tokenizer, or a tokenizer without token ids.
        ValueError
            If the temperature is not above 0, or the scorer does not give one reward per step.

        Examples
        --------
        >>> reward = PRMReward(lambda solutions: [[0.9, 0.1]] * len(solutions), scale=2, offset=-1)
        >>> reward.step_rewards("It is 14.\n\nSo 15.", temperature=0.1).values.round(3)
        array([ 0. , -0.8])
        """
        if temperature is not None and not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature!r}, expected a number above 0, or None")
        token_ids = None if tokenizer is None and not len(completion) else _token_ids(completion)
        if (token_ids is None) != (tokenizer is None):
            found = "no token ids" if token_ids is None else "token ids"
            raise TypeError(f"completion holds {found}: pass token ids and their tokenizer, or a text and no tokenizer")
        text: Any = completion if token_ids is None or tokenizer is None else decoded(tokenizer, token_ids)
        [row] = rows = self._read([prompt], [text], None)
        [values] = self._score(rows)
        if values is None or isinstance(row, str):
            return rewards_at((), np.empty(0), None)
        # Steps of a message that the prompt began are not of this completion.
        own = [i for i, end in enumerate(row.ends) if end > row.n_begun]
        ends = [row.ends[i] - row.n_begun for i in own]
        if token_ids is None or tokenizer is None:
            positions = [end - 1 for end in ends]
        else:
            positions = last_tokens(row.text[row.n_begun :], ends, token_ids, tokenizer)
        return rewards_at(positions, self.scale * values[own] + self.offset, temperature)

    def _read(
        self, prompts: Sequence[Conversation], completions: Sequence[Conversation], problems: Sequence[object] | None
    ) -> list[_Row | str]:
        """Return each row with its steps, or the reason why it has none."""
        if len(prompts) != len(completions):
            raise ValueError(f"{len(prompts)} prompts for {len(completions)} completions, expected one for each")
        rows: list[_Row | str] = []
        for i, completion in enumerate(completions):
            problem, begun = _problem(prompts[i])
            if problems is not None and not isinstance(problems[i], str):
                rows.append(_NO_COLUMN_TEXT)
                continue
            rows.append(_row(problem if problems is None else problems[i], begun, completion, self.by, self.think))
        return rows

    def _score(self, rows: list[_Row | str]) -> list[FloatArray | None]:
        """Return the rewards of the steps of each row. None, counted, if one of them has none."""
        solutions = {row.solution: None for row in rows if not isinstance(row, str)}
        with self._lock:
            found = dict(zip(solutions, self._step_values(list(solutions)), strict=True))
            reasons: Counter[str] = Counter()
            scored: list[FloatArray | None] = []
            for row in rows:
                values = None if isinstance(row, str) else found[row.solution]
                if values is not None and not np.isfinite(values).all():
                    values = None
                if values is None:
                    reasons[row if isinstance(row, str) else _NO_SCORE] += 1
                scored.append(values)
            is_first = not self.unscored_
            self.unscored_ += reasons
        if reasons and is_first:
            told = "; ".join(f"{reason} ({n})" for reason, n in reasons.items())
            warnings.warn(
                f"{self.__name__}: {reasons.total()} of {len(rows)} completions have no reward: {told}. "
                "Later ones are counted in unscored_ alone",
                UserWarning,
                stacklevel=3,
            )
        return scored

    def _step_values(self, solutions: list[Solution]) -> list[FloatArray]:
        if not solutions:
            return []
        if self._ready is None:
            self._ready = (
                self.prm.load() if isinstance(self.prm, ModelPlace) else with_setting(self.prm, "too_long", "nan")
            )
        with warnings.catch_warnings():
            # Such steps are counted here.
            warnings.filterwarnings("ignore", "no score for", UserWarning)
            return batch_rewards(self._ready, solutions)


class _Row(NamedTuple):
    """A completion behind what its prompt has begun of it, cut into steps."""

    solution: Solution
    text: str
    ends: tuple[int, ...]
    n_begun: int


def _row(problem: object, begun: str | None, completion: Conversation, by: By, think: Think) -> _Row | str:
    """Return a completion as a row, or the reason why it is none."""
    text = _text(completion)
    if text is None:
        return _NO_TEXT
    if not isinstance(problem, str) or begun is None:
        return _NO_PROBLEM
    text = begun + text
    offsets = step_offsets(text, by, think=think)
    if not offsets or offsets[-1][1] <= len(begun):
        return _NO_STEPS
    solution = Solution(problem, [text[start:end] for start, end in offsets])
    return _Row(solution, text, tuple(end for _, end in offsets), len(begun))


def _problem(prompt: object) -> tuple[str | None, str | None]:
    """Return the problem of a prompt, and the text of the assistant with which it ends. None for what is no text."""
    if isinstance(prompt, str):
        return prompt, ""
    messages = [one for one in _messages(prompt) or () if one.get("role") not in ("system", "developer")]
    begun: str | None = ""
    if messages and messages[-1].get("role") == "assistant":
        begun = _message_text(messages.pop())
    last = [*takewhile(lambda one: one.get("role") == "user", reversed(messages))][::-1]
    return _joined(_content_text(one.get("content")) for one in last), begun


def _text(completion: object) -> str | None:
    """Return what the assistant wrote as one text, or None if there is anything but text."""
    if isinstance(completion, str):
        return completion
    messages = _messages(completion)
    if messages is None or any(one.get("role") != "assistant" for one in messages):
        return None
    return _joined(map(_message_text, messages)) if messages else ""


def _messages(conversation: object) -> list[Mapping[str, object]] | None:
    if not isinstance(conversation, Sequence) or not all(isinstance(one, Mapping) for one in conversation):
        return None
    return list(conversation)


def _message_text(message: Mapping[str, object]) -> str | None:
    """Return the text of a message of the assistant, its thoughts between tags before it."""
    if message.get("tool_calls"):
        return None
    thoughts = next((found for name in _THOUGHTS if (found := message.get(name))), None)
    # A thought that was cut has no content behind it.
    content = message.get("content", "" if thoughts else None)
    text = _content_text("" if content is None and thoughts else content)
    if text is None or not isinstance(thoughts, (str, type(None))):
        return None
    return text if thoughts is None else f"<think>\n{thoughts.strip()}\n</think>\n\n{text}"


def _content_text(content: object) -> str | None:
    """Return the content of a message, a text or parts of it, or None if a part is no text."""
    if isinstance(content, str):
        return content
    parts = _messages(content)
    if not parts or any(part.get("type") != "text" for part in parts):
        return None
    return _joined((part.get("text") for part in parts), "")


def _joined(texts: Iterable[object], separator: str = "\n\n") -> str | None:
    """Return texts as one, or None if there is none, or if one of them is none."""
    found = list(texts)
    whole = [one for one in found if isinstance(one, str)]
    return separator.join(whole) if found and len(whole) == len(found) else None


def _token_ids(completion: object) -> list[int] | None:
    """Return a completion of token ids as a list, or None if it is a text or messages."""
    if isinstance(completion, str) or _messages(completion):
        return None
    found = np.asarray(completion)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise TypeError(f"completion is {type(completion).__name__}, expected a text, messages or a list of token ids")
    ids: list[int] = found.tolist()
    return ids


def _column(columns: Mapping[str, object], name: str, n_rows: int) -> Sequence[object]:
    """Return the column of the problems."""
    column = columns.get(name)
    if isinstance(column, str) or not isinstance(column, Sequence) or len(column) != n_rows:
        found = "missing" if column is None else f"not a list of {n_rows} texts"
        given = ", ".join(map(repr, columns)) or "none"
        raise ValueError(f"problem_column={name!r} is {found}; the columns are {given}")
    return column


def _place(prm: str | Path) -> ModelPlace:
    """Return the place of a model, which stays right if the process that loads it stands in another folder."""
    folder = Path(prm).expanduser()
    return model_place(folder.resolve() if folder.is_dir() else prm)


def _checked_scorer(prm: Scorer) -> Scorer:
    if hasattr(prm, "predict_proba"):
        checked(cast(FittedClassifier, prm), (), None)
    else:
        check_scorer(prm)
    return prm
