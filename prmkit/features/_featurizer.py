"""``PRMFeaturizer``: steps become embeddings or states of a language model, or solutions become marked tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from prmkit.data.growing import Growing, InContext
from prmkit.data.solution import Solution, Step, as_steps, iter_solutions, name_solutions
from prmkit.features.encoding.backends.quantized import is_quantized
from prmkit.features.encoding.cache import EmbeddingCache, encode_cached
from prmkit.features.encoding.context import CONTEXTS, GrowingEmbeddings, context_names, context_rows
from prmkit.features.encoding.encoder import TextEncoder
from prmkit.features.encoding.model_path import resolve_model
from prmkit.features.states.causal_model import CausalModel
from prmkit.features.states.solution_states import (
    POOLINGS,
    SolutionStates,
    column_names,
    feature_rows,
    solution_states,
    state_names,
    token_states,
)
from prmkit.features.states.stored import StateExtractor, StoredStates, files_state, tokens_per_batch
from prmkit.features.states.token_states import TokenStates
from prmkit.marking.encoding import TokenRecord, token_records
from prmkit.marking.scheme import MarkingScheme
from prmkit.utils.sklearn import Interval, ReadsSteps, StrOptions, fit_context

if TYPE_CHECKING:
    import torch
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_ENCODER_PARAMS = (
    "model",
    "batch_size",
    "device",
    "backend",
    "dtype",
    "max_length",
    "show_progress",
    "store_weights_in_pickle",
)


_CAUSAL_PARAMS = ("model", "layer", "log_probs", "dtype", "device")
_OF_STATES = {"layer": None, "pooling": "mean", "log_probs": False, "states": None}
"""Parameters that other kinds would ignore without a word, and their defaults."""


class PRMFeaturizer(ReadsSteps, TransformerMixin, BaseEstimator):
    """Turn steps into sentence embeddings or states of a language model, or solutions into marked tokens.

    Parameters
    ----------
    kind : {"embeddings", "states", "tokens"}, default="embeddings"
        The features to make. ``"embeddings"`` gives one row of numbers per step. ``"states"`` gives what a frozen
        causal language model holds while it reads the step, in one pass per solution. ``"tokens"`` gives one record
        of marked tokens per solution, for a :class:`~prmkit.models.TokenPRM`.
    model : str or path, default="all-MiniLM-L6-v2"
        Name or local folder of a sentence-transformers model, of a decoder-only language model when
        ``kind="states"``, or of any tokenizer when ``kind="tokens"``.
        If the extra ``offline`` is installed, the default comes from its package, without network.
    layer : int, sequence of int or None, default=None
        Layers whose states are taken when ``kind="states"``: 0 are the embeddings of the tokens, k what k blocks have
        made of them, the last one after the final norm. Negative numbers count from the end. None takes two middle
        layers, at 0.4 and 0.67 of the depth (12 and 20 of 30), which were best on a small model. Choose others inside
        cross-validation.
    pooling : {"mean", "last", "mean_last", "statistics", "tokens"}, default="mean"
        What is made of the states of a step's tokens when ``kind="states"``: their mean, the last one, both, or mean,
        standard deviation, minimum, maximum and last. ``"tokens"`` keeps them all, as a
        :class:`~prmkit.features.TokenStates` for a :class:`~prmkit.models.StepProbe`.
    log_probs : bool, default=False
        Whether ``kind="states"`` adds columns about how likely the tokens of the step are to the model.
    states : str, path or None, default=None
        Folder of states that :func:`prmkit.scoring.extract_states` or ``prmkit states`` has written, to read them when
        ``kind="states"`` in place of computing them. Then neither the language model nor torch is needed. Its model,
        layers, pooling, marking and other settings must be those asked for, or hold them: some of the stored layers,
        say. A solution that begins a stored one is there too. Another one is an error that names it.
    scheme : MarkingScheme or None, default=None
        How a solution is written for ``kind="states"`` and ``"tokens"``, such as ``MarkingScheme(chat="answer")`` for
        a chat model. None is plain text with ``step_separator`` after each step.
    context : {"none", "problem", "prefix"} or None, default=None
        The embeddings that a row holds. ``"none"`` takes the step alone. ``"problem"`` adds the problem.
        ``"prefix"`` adds the mean of the earlier steps, the previous step, and six inner products that
        measure how alike these texts are. An absent problem or prefix is filled with zeros. None is what the head of
        a :class:`~prmkit.PRMClassifier` needs: ``"prefix"``, or ``"none"`` for a head that reads the solution as a
        sequence. Without such a head, None is ``"none"``.
    batch_size : int, default=64
        Size of every batch: on a CPU this times 4 tokens in float32 and times 8 in other precisions, on a GPU times
        256. The length of a text alone decides how many share its batch, and its vector does not depend on them.
        Another size may change the last bits.
    device : str or None, default=None
        Device on which to encode, such as ``"cpu"`` or ``"cuda"``. None takes a GPU if there is one.
        The weights return to the CPU afterwards.
    backend : str, default="auto"
        What computes the model: ``"torch"``, or one of :func:`available_backends`. ``"auto"`` takes the fastest exact
        backend that is installed. This is measured once per model and machine, in at most two seconds, and kept
        beside the cache. What came out stands in ``backend_``. ``"openvino-int8"`` and ``"onnx-int8"`` compute in eight
        bits, which is faster still and less exact. They are taken by name alone.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision in which the encoder computes. ``"auto"`` takes the faster one of float32 and bfloat16. Features are
        always float32. Computed in bfloat16, they agree with float32 to a cosine of 0.9999. States are rounded to
        float16 in the end, whether they come from the cache or not.
    cache : bool, default=True
        If True, keep embeddings and states on disk, keyed by text and model. Folds, processes and runs share them.
    cache_dir : str or path or None, default=None
        Folder of the cache. None takes ``$PRMKIT_CACHE_DIR`` if it is set, else the user's cache folder.
    max_length : int or None, default=None
        Largest number of tokens of a text, or of a solution when ``kind="tokens"``. None takes the model's own
        limit. Longer texts are cut and counted in a warning. With ``kind="tokens"`` they are an error. With
        ``kind="states"`` trailing steps are left out whole: their rows are NaN, and a warning counts them.
    step_separator : str or None, default=None
        Text that closes each step when ``kind`` is ``"tokens"`` or ``"states"``. Its last token is the position of the
        step. None takes a line break, or the tokenizer's own separator if it drops white space, as BERT's does.
    show_progress : bool, default=True
        If True, show a progress bar on a terminal when encoding takes more than a second.
    store_weights_in_pickle : bool, default=False
        If True, a pickle keeps the loaded weights. If False, they are loaded again when needed.

    Attributes
    ----------
    backend_ : dict
        What computes the embeddings, known after the first use: ``name``, ``dtype``, the ``rates`` in tokens per second
        of each backend and precision that was tried, such as ``"torch-float32"``, and the ``reason`` of the choice.
        A saved or pickled featurizer keeps it. On another machine the choice is made again, among precisions at least
        as exact. Of a backend in eight bits, ``cosine`` is the mean cosine of its vectors to those in float32.
    weights_ : str
        Hash of the files of the language model, known after the first use with ``kind="states"``. A saved or pickled
        featurizer keeps it, and refuses other weights under the same name.
    quantized_ : ndarray of uint8
        The copy of the model for a backend in eight bits, and only there. It is calibrated on some of the texts of
        ``fit``, or of the first use, and saved with what is fitted. Later texts do not change it.

    See Also
    --------
    prmkit.features.available_backends : The backends that are installed.
    prmkit.features.StepStatistics : Counts and checks of a step, made without a model.
    prmkit.features.StepWords : Words and character runs of a step.

    Notes
    -----
    ``fit`` learns nothing and loads nothing, except with a backend in eight bits. The row of a step depends on the
    problem, the earlier steps and the step itself. Every distinct text is encoded once per call. With the cache it is
    encoded once.

    With ``kind="states"`` a row holds the pooled states, then ``step_index`` and ``step_tokens``, the logarithms of
    position and length, then the log-probability columns. ``get_feature_names_out`` names them. Solutions that begin
    alike, such as those of one problem, share the computation of their beginning. In float32 the states agree with
    those of the solution alone to 1e-5 before they are rounded to float16 (11 bits).

    Examples
    --------
    >>> from prmkit import Solution, flatten
    >>> X = flatten([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."])])
    >>> PRMFeaturizer(context="problem").fit_transform(X).shape
    (2, 768)
    >>> PRMFeaturizer()("3 * 4 = 12.").shape
    torch.Size([384])

    The states of a language model, which is read at the first use. The guide on states runs one without a download.

    >>> PRMFeaturizer("states", "Qwen/Qwen2.5-Math-1.5B", layer=[12, 20])
    PRMFeaturizer(kind='states', layer=[12, 20], model='Qwen/Qwen2.5-Math-1.5B')
    """

    weights_: str

    _parameter_constraints = {
        "kind": [StrOptions({"embeddings", "states", "tokens"})],
        "model": [str, Path],
        "layer": [Integral, "array-like", None],
        "pooling": [StrOptions(set(POOLINGS))],
        "log_probs": ["boolean"],
        "states": [str, Path, None],
        "scheme": [MarkingScheme, None],
        "context": [StrOptions(set(CONTEXTS)), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, None],
        "backend": [str],
        "dtype": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "cache": ["boolean"],
        "cache_dir": [str, Path, None],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "step_separator": [str, None],
        "show_progress": ["boolean"],
        "store_weights_in_pickle": ["boolean"],
    }

    def __init__(
        self,
        kind: Literal["embeddings", "states", "tokens"] = "embeddings",
        model: str | Path = "all-MiniLM-L6-v2",
        *,
        layer: int | Sequence[int] | None = None,
        pooling: Literal["mean", "last", "mean_last", "statistics", "tokens"] = "mean",
        log_probs: bool = False,
        states: str | Path | None = None,
        scheme: MarkingScheme | None = None,
        context: Literal["none", "problem", "prefix"] | None = None,
        batch_size: int = 64,
        device: str | None = None,
        backend: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        cache: bool = True,
        cache_dir: str | Path | None = None,
        max_length: int | None = None,
        step_separator: str | None = None,
        show_progress: bool = True,
        store_weights_in_pickle: bool = False,
    ) -> None:
        self.kind = kind
        self.model = model
        self.layer = layer
        self.pooling = pooling
        self.log_probs = log_probs
        self.states = states
        self.scheme = scheme
        self.context = context
        self.batch_size = batch_size
        self.device = device
        self.backend = backend
        self.dtype = dtype
        self.cache = cache
        self.cache_dir = cache_dir
        self.max_length = max_length
        self.step_separator = step_separator
        self.show_progress = show_progress
        self.store_weights_in_pickle = store_weights_in_pickle

    @fit_context
    def fit(self, X: Sequence[Step | str] | npt.NDArray[np.object_], y: object = None) -> PRMFeaturizer:
        """Check the parameters and X. Nothing is learnt.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.
        y : object, default=None
            Ignored. It is there for scikit-learn's pipelines.

        Returns
        -------
        PRMFeaturizer
            The featurizer itself.
        """
        self._refuse_settings_of_states()
        steps = as_steps(X)
        for learnt in ("quantized_", "weights_"):
            self.__dict__.pop(learnt, None)
        if self.__dict__.pop("backend_", None) is not None:
            self.__dict__.pop("_encoder_params", None)  # the choice is made anew
        if self.kind == "embeddings" and is_quantized(self.backend):
            solutions = iter_solutions(steps)
            self._quantize([text for solution, _, indices in solutions for text in self._texts(solution, indices)])
        return self

    def transform(
        self, X: Sequence[Step | str] | npt.NDArray[np.object_]
    ) -> npt.NDArray[np.float32] | TokenStates | list[TokenRecord]:
        """Turn steps into features.

        Parameters
        ----------
        X : 1-D array-like of Step or str
            The steps. A plain string is a step without problem and prefix.

        Returns
        -------
        ndarray of shape (n_steps, n_features), float32
            One row per step. With ``kind="states"`` and ``pooling="tokens"``, a
            :class:`~prmkit.features.TokenStates`. With ``kind="tokens"``, a list with one record per distinct solution:
            ``input_ids``, ``attention_mask``, ``step_positions`` and the rows of X that they answer.

        Raises
        ------
        TypeError, ValueError
            If X is not a flat list of steps, or if a solution has more than ``max_length`` tokens with
            ``kind="tokens"``. With ``kind="states"``, if the model is an encoder, or lacks a layer or a tokenizer, if a
            state exceeds float16, or if the folder ``states`` lacks solutions or holds states of another model or other
            settings.
        FloatingPointError
            If the model computes NaN or infinity.
        OSError
            If the model is neither installed nor reachable, or the folder ``states`` does not exist.
        """
        self._validate_params()  # fit is optional
        self._refuse_settings_of_states()
        steps = as_steps(X)
        if self.kind == "tokens":
            tokenizer = self._tokenizer()
            limit = self.max_length or tokenizer.model_max_length
            return token_records(tokenizer, steps, self._scheme(), limit)
        if self.kind == "states":
            language_model, states = self._states(steps)
            if self.pooling == "tokens":
                size = len(language_model.layers), language_model.width
                return token_states(states, steps, *size, self.log_probs)
            return feature_rows(states, steps, len(self._state_columns(language_model)))
        solutions = list(iter_solutions(steps))
        positions: dict[str, int] = {}
        for solution, _, indices in solutions:
            for text in self._texts(solution, indices):
                positions.setdefault(text, len(positions))

        def place(cut: Set[str]) -> str:
            """Return the solutions that hold one of some texts, in words."""
            concerned = [i for i, (one, _, indices) in enumerate(solutions) if cut & {*self._texts(one, indices)}]
            names = name_solutions([one for one, _, _ in solutions], concerned, [rows[0] for _, rows, _ in solutions])
            return f" in {names}"

        vectors = self._encode(list(positions), place)
        no_problem = np.zeros(vectors.shape[1], dtype=np.float32)
        context = self.context or "none"
        out = np.empty((len(steps), len(context_names(context, len(no_problem)))), dtype=np.float32)
        for solution, rows, indices in solutions:
            if context == "none":
                out[rows] = vectors[[positions[solution.steps[t]] for t in indices]]
                continue
            problem = vectors[positions[solution.problem]] if solution.problem else no_problem
            embeddings = vectors[[positions[text] for text in solution.steps[: max(indices) + 1]]]
            out[rows] = context_rows(problem, embeddings, context)[indices]
        return out

    def grow(self, problem: str) -> Growing:
        """Return a solution of a problem that grows: the way of :class:`~prmkit.scoring.IncrementalScorer`.

        Parameters
        ----------
        problem : str
            Text of the problem.

        Returns
        -------
        Growing
            Its ``extend(steps)`` returns the rows of the new steps, and encodes their texts alone. A language model
            keeps the keys and values of what it has read, where it can read a text in parts.
        """
        self._validate_params()
        if self.kind == "embeddings":
            return GrowingEmbeddings(self._encode, self.context or "none", problem)
        model = self._language_model() if self.kind == "states" else None
        if not isinstance(model, CausalModel):
            return InContext(self.transform, problem)
        from prmkit.features.states.growing_states import GrowingStates

        return GrowingStates(model, problem, scheme=self._scheme(), pooling=self.pooling, max_length=self.max_length)

    def __call__(self, texts: str | list[str]) -> torch.Tensor | BatchEncoding:
        """Encode plain texts, without context, as torch tensors.

        Parameters
        ----------
        texts : str or list of str
            One text, or several.

        Returns
        -------
        Tensor of shape (dim,) for one text, (n_texts, dim) for a list
            The embeddings, or the row of each text as a step without a problem. With ``kind="tokens"``, a mapping
            with ``input_ids``, ``attention_mask`` and
            ``token_type_ids``, each of shape (n_texts, n_tokens).

        Raises
        ------
        TypeError
            If ``texts`` is neither a text nor a list of texts.
        ValueError
            If ``pooling="tokens"`` with ``kind="states"``.
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
            tokens: BatchEncoding = tokenizer(
                batch,
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_token_type_ids=True,
                return_tensors="pt",
            )
            return tokens
        if self.kind == "states":
            if self.pooling == "tokens":
                raise ValueError("texts have several states each with pooling='tokens': pass them to transform")
            rows = torch.from_numpy(self.transform(batch))
            return rows[0] if isinstance(texts, str) else rows
        vectors = torch.from_numpy(self._encode(batch))
        return vectors[0] if isinstance(texts, str) else vectors

    @property
    def precision(self) -> str:
        """Name of the precision in which the model computes here, such as ``"float32"``."""
        if self.kind == "states":
            return self._language_model().precision
        return self._loaded_encoder().precision

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Return column names such as ``step_0``, ``problem_0`` and ``step_like_problem``.

        Parameters
        ----------
        input_features : object, default=None
            Ignored. It is there for scikit-learn.

        Returns
        -------
        ndarray of str
            One name per column.

        Raises
        ------
        ValueError
            If ``kind="tokens"`` or ``pooling="tokens"``, which have no columns.
        """
        if self.kind == "states":
            if self.pooling == "tokens":
                raise ValueError("pooling='tokens' has no columns: it gives a number of states per step")
            return np.array(self._state_columns(self._language_model()), dtype=object)
        if self.kind == "tokens":
            raise ValueError("tokens have no feature names: kind='tokens' gives one record per solution")
        return np.array(context_names(self.context or "none", self._loaded_encoder().dimension), dtype=object)

    def _refuse_settings_of_states(self) -> None:
        for name, default in _OF_STATES.items():
            value = getattr(self, name)
            if self.kind != "states" and not (value is default or (np.isscalar(value) and value == default)):
                raise ValueError(
                    f"{name}={value!r} is read with kind='states' alone, and kind is {self.kind!r}: pass "
                    f"kind='states' to read the states of a language model, or leave {name} out"
                )

    def _texts(self, solution: Solution, indices: list[int]) -> list[str]:
        """Return the texts from which the rows of some steps of a solution are made."""
        if self.context in (None, "none"):
            return [solution.steps[t] for t in indices]
        problem = [solution.problem] if solution.problem else []
        return [*problem, *solution.steps[: max(indices) + 1]]

    def _encode(self, texts: list[str], place: Callable[[Set[str]], str] | None = None) -> np.ndarray:
        cache = EmbeddingCache(self.cache_dir) if self.cache else None
        encoder = self._loaded_encoder()
        cosine = {name: value for name, value in getattr(self, "backend_", {}).items() if name == "cosine"}
        if texts and encoder.needs_texts:
            cosine = self._quantize(texts)
        vectors = encode_cached(encoder, texts, cache, place)
        self.backend_ = asdict(encoder.choice) | cosine
        return vectors

    def _quantize(self, texts: list[str]) -> dict[str, float]:
        """Make the copy in eight bits, which is part of what is fitted. Return its cosine, for ``backend_``."""
        encoder = self._loaded_encoder()
        cosine = {"cosine": round(encoder.quantize(texts), 5)}
        self.quantized_, self.backend_ = encoder.quantized, asdict(encoder.choice) | cosine
        return cosine

    def _loaded_encoder(self) -> TextEncoder:
        """Return the encoder for the current parameters, a new one after ``set_params``."""
        params = {name: getattr(self, name) for name in _ENCODER_PARAMS}
        known = getattr(self, "_encoder_params", None)
        if known != params:
            if known is not None:
                for learnt in ("backend_", "quantized_"):  # of another encoder
                    self.__dict__.pop(learnt, None)
            # What was learnt from vectors in float32 reads no coarser ones on another machine.
            exact = getattr(self, "backend_", {}).get("dtype") == "float32"
            self._encoder = TextEncoder(
                **params, at_least="float32" if exact else "bfloat16", quantized=getattr(self, "quantized_", None)
            )
            self._encoder_params = params
        return self._encoder

    def _scheme(self) -> MarkingScheme:
        """Return the scheme of the tokens, checked."""
        if self.scheme is None:
            return MarkingScheme(step_separator=self.step_separator)
        if self.step_separator is not None:
            raise ValueError("step_separator beside scheme: write it as MarkingScheme(step_separator=…)")
        if self.scheme.name == "prefix":
            raise ValueError("scheme 'prefix' reads a solution once per step: choose name='separator'")
        return self.scheme

    def state_extractor(self) -> StateExtractor:
        """Return what computes the states of blocks of solutions for :func:`prmkit.scoring.extract_states`.

        Returns
        -------
        StateExtractor
            The language model with its settings. It can be sent to other processes.

        Raises
        ------
        ValueError
            If ``kind`` is not ``"states"``.
        """
        self._validate_params()
        if self.kind != "states":
            raise ValueError(f"kind={self.kind!r} makes no states: pass PRMFeaturizer(kind='states', model=…)")
        params = {name: getattr(self, name) for name in _CAUSAL_PARAMS}
        return StateExtractor(params, self._scheme(), self.pooling, self.max_length, self.batch_size)

    def _language_model(self) -> CausalModel | StoredStates:
        """Return the language model, or the folder of its states, for the current parameters."""
        params = key = {name: getattr(self, name) for name in _CAUSAL_PARAMS}
        if self.states is not None:
            del params["device"]
            params |= {"pooling": self.pooling, "scheme": self._scheme(), "max_length": self.max_length}
            key = {**params, "states": files_state(self.states)}
        known = getattr(self, "_causal_params", None)
        if known != key:
            model = CausalModel(**params) if self.states is None else StoredStates(self.states, **params)
            # A head learns from the states in a folder, and reads those that are computed, or the reverse.
            is_new = known is None or ("states" in known) != ("states" in key)
            if is_new and getattr(self, "weights_", model.weights) != model.weights:
                place = self.model if self.states is None else self.states
                raise ValueError(
                    f"{place} holds other weights than those it was fitted "
                    f"with (found {model.weights[:12]}…, expected {self.weights_[:12]}…): put the old ones there, or "
                    "fit again"
                )
            self._causal_model, self._causal_params = model, key
        self.weights_ = self._causal_model.weights
        return self._causal_model

    def _states(self, steps: Sequence[Step]) -> tuple[CausalModel | StoredStates, Iterator[SolutionStates]]:
        """Return the language model, and the states of the distinct solutions as they are known."""
        model = self._language_model()
        if isinstance(model, StoredStates):
            return model, model.of(steps)
        states = solution_states(
            model,
            steps,
            scheme=self._scheme(),
            pooling=self.pooling,
            max_length=self.max_length,
            tokens_per_batch=tokens_per_batch(self.batch_size, model.device),
            cache=EmbeddingCache(self.cache_dir) if self.cache else None,
            show_progress=self.show_progress,
        )
        return model, states

    def _state_columns(self, model: CausalModel | StoredStates) -> list[str]:
        return [*state_names(model, self.pooling), *column_names(self.log_probs)]

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        # A folder may hold a tokenizer alone: it needs no weights beside it.
        folder = Path(self.model)
        return AutoTokenizer.from_pretrained(folder if folder.is_dir() else resolve_model(self.model))

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__().copy()
        for name in ("_causal_model", "_causal_params"):  # it has a lock, and is loaded again
            state.pop(name, None)
        if not self.store_weights_in_pickle:
            state.pop("_encoder", None)
            state.pop("_encoder_params", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Older ones lack some parameters. There was None where "auto" is now.
        later = {
            "backend": "auto",
            "pooling": "mean",
            "log_probs": False,
            **dict.fromkeys(("layer", "scheme", "states")),
        }
        super().__setstate__({**later, **state, "dtype": state.get("dtype") or "auto"})
