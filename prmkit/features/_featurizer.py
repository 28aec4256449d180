"""Steps to numbers, by a sentence encoder or a tokenizer, as a scikit-learn transformer."""

from __future__ import annotations

from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from prmkit.data.solution import Solution, as_steps, iter_solutions
from prmkit.features.encoding.cache import EmbeddingCache, encode_cached
from prmkit.features.encoding.encoder import TextEncoder
from prmkit.features.encoding.model_path import resolve_model
from prmkit.marking.records import TokenRecord, token_records
from prmkit.marking.scheme import MarkingScheme
from prmkit.utils.sklearn import Interval, ReadsSteps, StrOptions, fit_context

CONTEXTS = ("none", "problem", "prefix")
"""Values of ``context``, from the least to the most."""

_BLOCKS = {
    "none": ("step",),
    "problem": ("step", "problem"),
    "prefix": ("step", "problem", "prefix", "previous"),
}
_LIKENESSES = (
    "step_like_problem",
    "step_like_prefix",
    "step_like_previous",
    "step_like_nearest",
    "step_like_farthest",
    "previous_like_problem",
)


def context_names(context: str, width: int) -> list[str]:
    """Names of the columns of :func:`context_rows` for embeddings of ``width`` numbers."""
    names = [f"{block}_{i}" for block in _BLOCKS[context] for i in range(width)]
    return names + list(_LIKENESSES) if context == "prefix" else names


def context_rows(problem: np.ndarray, steps: np.ndarray, context: str) -> np.ndarray:
    """Return one row per step; row t reads the problem and steps 0..t, nothing later.

    Parameters
    ----------
    problem : ndarray of shape (dim,)
    steps : ndarray of shape (n_steps, dim)
        The embeddings of a solution's steps from the first one on.
    context : {"none", "problem", "prefix"}

    Returns
    -------
    ndarray of shape (n_steps, len(context_names(context, dim)))
    """
    if context == "none":
        return steps
    problems = np.broadcast_to(problem, steps.shape)
    if context == "problem":
        return np.hstack([steps, problems])
    previous, prefix = np.zeros_like(steps), np.zeros_like(steps)
    previous[1:] = steps[:-1]
    # A running sum adds in the order of the steps, so a cut solution gives the same bits.
    prefix[1:] = np.cumsum(steps[:-1], axis=0, dtype=np.float64) / np.arange(1, len(steps))[:, None]
    nearest, farthest = _extreme_products(steps)
    likenesses = [
        steps @ problem,
        (steps * prefix).sum(axis=1),
        (steps * previous).sum(axis=1),
        nearest,
        farthest,
        previous @ problem,
    ]
    return np.hstack([steps, problems, prefix, previous, np.column_stack(likenesses)])


def _extreme_products(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest and smallest product of each step with one before it; 0 for the first."""
    nearest, farthest = np.zeros((2, len(steps)), dtype=steps.dtype)
    for t in range(1, len(steps)):
        products = steps[:t] @ steps[t]
        nearest[t], farthest[t] = products.max(), products.min()
    return nearest, farthest


_ENCODER_PARAMS = (
    "model",
    "batch_size",
    "device",
    "dtype",
    "max_length",
    "show_progress",
    "store_weights_in_pickle",
)


class PRMFeaturizer(ReadsSteps, TransformerMixin, BaseEstimator):
    """Turn steps into sentence-embedding features, or solutions into marked tokens.

    Parameters
    ----------
    kind : {"embeddings", "tokens"}, default="embeddings"
    model : str or path, default="all-MiniLM-L6-v2"
        A sentence-transformers model (for tokens: any tokenizer), by local folder or hub name.
        The default is read from the package of the ``offline`` extra where that is installed.
    context : {"none", "problem", "prefix"}, default="none"
        What a row of embeddings holds. ``"none"``: the step. ``"problem"``: step, problem.
        ``"prefix"``: step, problem, mean of the steps before, the previous step, and inner products that say
        how alike they are, repeated steps included. An absent problem or prefix is zeros.
    batch_size : int, default=64
        Texts of ordinary length per batch; long texts make smaller batches, by token count.
    device : str or None, default=None
        Where to encode; None takes a GPU if there is one. Weights return to the CPU afterwards.
    dtype : {"float32", "bfloat16", "float16"} or None, default=None
        Precision of the encoder. None: bfloat16 where the hardware computes in it, else float32.
        Features are float32 always; in bfloat16 they agree with float32 to a cosine of 0.9999.
    cache : bool, default=True
        Keep embeddings on disk, keyed by text and model; shared by folds, processes and runs.
    cache_dir : str or path or None, default=None
        Folder of the cache. None: ``$PRMKIT_CACHE_DIR``, else the user's cache folder.
    max_length : int or None, default=None
        Tokens read of one text (for tokens: of a solution). None: the model's own limit. Longer texts
        are cut, counted and warned about; with ``kind="tokens"`` they raise.
    step_separator : str or None, default=None
        Only for ``kind="tokens"``: closes each step, its last token is the step's position. None: a line
        break, or the tokenizer's own separator where it drops white space, as BERT's does.
    show_progress : bool, default=True
        A progress bar on a terminal when encoding takes more than a moment.
    store_weights_in_pickle : bool, default=False
        Whether pickling keeps loaded weights; without, they are loaded again when needed.

    See Also
    --------
    prmkit.features.StepStatistics : what can be counted in a step without a model.
    prmkit.features.StepWords : words and characters of a step.

    Notes
    -----
    ``fit`` learns nothing and loads nothing. The row of a step depends on its problem, the steps
    before it and itself alone. Every distinct text is encoded once per call, and once ever with the cache.

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> X = flatten([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."])])
    >>> PRMFeaturizer(context="problem").fit_transform(X).shape
    (2, 768)
    >>> PRMFeaturizer()("3 * 4 = 12.").shape
    torch.Size([384])
    """

    _parameter_constraints = {
        "kind": [StrOptions({"embeddings", "tokens"})],
        "model": [str, Path],
        "context": [StrOptions(set(CONTEXTS))],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, None],
        "dtype": [StrOptions({"float32", "bfloat16", "float16"}), None],
        "cache": ["boolean"],
        "cache_dir": [str, Path, None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "step_separator": [str, None],
        "show_progress": ["boolean"],
        "store_weights_in_pickle": ["boolean"],
    }

    def __init__(
        self,
        kind="embeddings",
        model="all-MiniLM-L6-v2",
        *,
        context="none",
        batch_size=64,
        device=None,
        dtype=None,
        cache=True,
        cache_dir=None,
        max_length=None,
        step_separator=None,
        show_progress=True,
        store_weights_in_pickle=False,
    ):
        self.kind = kind
        self.model = model
        self.context = context
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.cache = cache
        self.cache_dir = cache_dir
        self.max_length = max_length
        self.step_separator = step_separator
        self.show_progress = show_progress
        self.store_weights_in_pickle = store_weights_in_pickle

    @fit_context
    def fit(self, X, y=None):
        """Check the parameters and X; nothing is learnt.

        Parameters
        ----------
        X : 1-D array-like of Step or str
        y : ignored

        Returns
        -------
        self
        """
        as_steps(X)
        return self

    def transform(self, X) -> np.ndarray | list[TokenRecord]:
        """Turn steps into features.

        Parameters
        ----------
        X : 1-D array-like of Step or str

        Returns
        -------
        ndarray of shape (n_steps, n_features), float32
            For ``kind="tokens"``: a list of :class:`TokenRecord`, one per distinct solution.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, or (tokens) a solution is longer than ``max_length``.
        OSError
            If the model is neither installed nor reachable.
        """
        self._validate_params()  # fit is optional
        steps = as_steps(X)
        if self.kind == "tokens":
            tokenizer = self._tokenizer()
            limit = self.max_length or tokenizer.model_max_length
            return token_records(tokenizer, steps, MarkingScheme(marker=self.step_separator), limit)
        solutions = list(iter_solutions(steps))
        place: dict[str, int] = {}
        for solution, _, indices in solutions:
            for text in self._texts(solution, indices):
                place.setdefault(text, len(place))
        vectors = self._encode(list(place))
        nothing = np.zeros(vectors.shape[1], dtype=np.float32)
        out = np.empty((len(steps), len(context_names(self.context, len(nothing)))), dtype=np.float32)
        for solution, rows, indices in solutions:
            if self.context == "none":
                out[rows] = vectors[[place[solution.steps[t]] for t in indices]]
                continue
            problem = vectors[place[solution.problem]] if solution.problem else nothing
            own = vectors[[place[text] for text in solution.steps[: max(indices) + 1]]]
            out[rows] = context_rows(problem, own, self.context)[indices]
        return out

    def __call__(self, texts: str | list[str]) -> Any:
        """Encode plain texts, without context, as torch tensors.

        Parameters
        ----------
        texts : str or list of str

        Returns
        -------
        Tensor of shape (dim,) for a text, (n_texts, dim) for a list
            For ``kind="tokens"``: a mapping with ``input_ids``, ``attention_mask`` and ``token_type_ids``,
            each of shape (n_texts, n_tokens).
        """
        import torch

        batch = [texts] if isinstance(texts, str) else texts
        if not isinstance(batch, (list, tuple)) or not all(isinstance(text, str) for text in batch):
            raise TypeError(
                f"texts is {type(texts).__name__}, expected a text or a list of texts; steps go to transform"
            )
        batch = list(batch)
        if self.kind == "tokens":
            tokenizer = self._tokenizer()
            return tokenizer(
                batch,
                padding=True,
                truncation=True,
                max_length=self.max_length or tokenizer.model_max_length,
                return_token_type_ids=True,
                return_tensors="pt",
            )
        vectors = torch.from_numpy(self._encode(batch))
        return vectors[0] if isinstance(texts, str) else vectors

    @property
    def precision(self) -> str:
        """The precision in which the encoder computes here: "float32", "bfloat16" or "float16"."""
        return self._loaded_encoder().precision

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Names such as ``step_0``, ``problem_0``, ``step_like_problem``; only for embeddings."""
        if self.kind == "tokens":
            raise ValueError("tokens have no feature names: kind='tokens' gives one record per solution")
        return np.array(context_names(self.context, self._loaded_encoder().dimension), dtype=object)

    def _texts(self, solution: Solution, indices: list[int]) -> list[str]:
        """The texts that rows ``indices`` of a solution are made of."""
        if self.context == "none":
            return [solution.steps[t] for t in indices]
        problem = [solution.problem] if solution.problem else []
        return [*problem, *solution.steps[: max(indices) + 1]]

    def _encode(self, texts: list[str]) -> np.ndarray:
        return encode_cached(
            self._loaded_encoder(), texts, EmbeddingCache(self.cache_dir) if self.cache else None
        )

    def _loaded_encoder(self) -> TextEncoder:
        """The encoder for the current parameters; ``set_params`` makes the next call build a new one."""
        wanted = {name: getattr(self, name) for name in _ENCODER_PARAMS}
        if getattr(self, "_encoder_params", None) != wanted:
            self._encoder = TextEncoder(**wanted)
            self._encoder_params = wanted
        return self._encoder

    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = Path(self.model)  # a tokenizer alone needs no weights beside it
        return AutoTokenizer.from_pretrained(folder if folder.is_dir() else resolve_model(self.model))

    def __getstate__(self):
        state = super().__getstate__().copy()
        if not self.store_weights_in_pickle:
            state.pop("_encoder", None)
            state.pop("_encoder_params", None)
        return state
