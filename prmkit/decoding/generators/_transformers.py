"""A language model of transformers as a generator, on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from prmkit.decoding.generation import (
    STEP_SEPARATOR,
    Generation,
    Request,
    check_counts,
    check_request_settings,
    root_seed,
    seeds_of,
    solutions_of,
)
from prmkit.decoding.generators.prompts import PromptStyle
from prmkit.utils.ragged import token_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from prmkit.decoding.generators._token_loop import TokenLoop

_LOADING = Lock()

Precision: TypeAlias = Literal["auto", "float32", "bfloat16", "float16"]


class TransformersGenerator:
    r"""Generate with a causal language model of transformers, such as ``"Qwen/Qwen2.5-Math-1.5B-Instruct"``.

    Prompts of different lengths are continued together. Each prompt is read once for its n continuations. Keys and
    values of what was read and written are kept, so the next step of a search reads one token per solution.

    Parameters
    ----------
    model : str, path or transformers model
        A local folder, a name on the hub, or a loaded model. A folder is loaded at the first use, from safetensors, and
        no code from it is run. A loaded model stays on its device and in its precision.
    tokenizer : str, path or transformers tokenizer, optional
        Tokenizer of the model. A folder brings its own. A loaded model needs one.
    prompt : str, default="auto"
        How the problem is written. ``"chat"``: by the chat template of the tokenizer. ``"plain"``: the problem and an
        empty line. ``"auto"``: a chat if there is a template. Any other text is a template with ``{problem}`` in it.
    system : str, optional
        Message of the system, for a chat.
    step_separator : str, default="\n\n"
        Text between two steps, and after the last one.
    top_p : float, optional
        Draw among the likeliest tokens whose probabilities make up this share, after the temperature.
    top_k : int, optional
        Draw among this many likeliest tokens.
    device : str, optional
        Where to compute. If None, a GPU if there is one.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of a model that is loaded from a folder. ``"auto"`` is bfloat16 where that is faster, else float32.
    tokens_per_batch : int, default=16384
        Most tokens of a batch: prompts and ``max_tokens`` of all its continuations.
    kept_bytes : int, default=536870912
        Memory for keys and values that are kept from call to call. 0 keeps none.

    Notes
    -----
    A model ends a solution with any end token of its ``generation_config`` or the one of its tokenizer. Other settings
    of ``generation_config`` are not used.

    The noise of a continuation follows from its seed and its number alone, so the other requests do not change what it
    draws. The logits of a row differ in their last bits with the company that it is computed in. In float32 this
    changes hardly one token in a hundred thousand, in bfloat16 many more. Pass ``dtype="float32"`` to have the same
    again.

    A model whose keys and values cannot be reused, such as a recurrent one, continues one row at a time and reads it
    again for each token. This is slow and right. It is tried once per model.

    Examples
    --------
    >>> generator = TransformersGenerator("HuggingFaceTB/SmolLM2-135M-Instruct")  # doctest: +SKIP
    >>> [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"], temperature=0)  # doctest: +SKIP
    >>> one.text, one.finish  # doctest: +SKIP
    ('To solve this problem, we need to follow the order of operations.', 'stop')
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
        *,
        prompt: str = "auto",
        system: str | None = None,
        step_separator: str = STEP_SEPARATOR,
        top_p: float | None = None,
        top_k: int | None = None,
        device: str | None = None,
        dtype: Precision = "auto",
        tokens_per_batch: int = 16384,
        kept_bytes: int = 2**29,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.system = system
        self.step_separator = step_separator
        self.top_p = top_p
        self.top_k = top_k
        self.device = device
        self.dtype = dtype
        self.tokens_per_batch = tokens_per_batch
        self.kept_bytes = kept_bytes

    def generate(
        self,
        requests: Sequence[Request],
        *,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int = 512,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
    ) -> list[list[Generation]]:
        """Continue each solution n times, see :class:`TextGenerator`.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue. A text is a problem without steps.
        n : int, default=1
            Number of continuations of each.
        stop : sequence of str, default=()
            Texts at which a continuation stops. If a token holds more than the stop string, its tokens are not given.
        max_tokens : int, default=512
            Largest number of tokens of a continuation. The positions of the model are a limit too.
        temperature : float, default=1.0
            Temperature of the draws. 0 takes the likeliest token.
        seed : int or sequence of int, optional
            Seed of all requests, or one per request. Without one, seeds are drawn.

        Returns
        -------
        list of list of Generation
            One list of n continuations per request. A request that is too long for the model has ``finish="error"``.

        Raises
        ------
        TypeError, ValueError
            If a setting is wrong, if the model cannot continue texts, or if its tokenizer has no chat template and one
            is needed.
        """
        settings: dict[str, Any] = {"n": n, "stop": stop, "max_tokens": max_tokens, "temperature": temperature}
        found = dict(self.iter_generate(requests, **settings, seed=seed))
        return [found[i] for i in range(len(found))]

    def iter_generate(
        self,
        requests: Sequence[Request],
        *,
        n: int = 1,
        stop: Sequence[str] = (),
        max_tokens: int = 512,
        temperature: float = 1.0,
        seed: int | Sequence[int] | None = None,
    ) -> Iterator[tuple[int, list[Generation]]]:
        """Do what ``generate`` does, and yield each request as soon as its batch is done.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue.
        n : int, default=1
            Number of continuations of each.
        stop : sequence of str, default=()
            Texts at which a continuation stops.
        max_tokens : int, default=512
            Largest number of tokens of a continuation.
        temperature : float, default=1.0
            Temperature of the draws.
        seed : int or sequence of int, optional
            Seed of all requests, or one per request.

        Yields
        ------
        tuple of int and list of Generation
            The number of a request and its n continuations. Short requests come last.
        """
        from prmkit.decoding.generators._token_loop import Row

        draws = self._draws(n, stop, max_tokens, temperature)
        solutions = solutions_of(requests)
        seeds = seeds_of(root_seed(None) if seed is None else seed, len(solutions))
        engine = self._engine
        prompts: dict[int, tuple[int, ...]] = {}
        for i, solution in enumerate(solutions):
            ids = tuple(engine.style.token_ids(solution, engine.tokenizer))
            if ids and (engine.limit is None or len(ids) < engine.limit):
                prompts[i] = ids
            elif not ids:
                yield i, [Generation.failed("the request has no tokens, so there is nothing to continue")] * n
            else:
                told = f"the request has {len(ids)} tokens, and the model reads {engine.limit}: shorten it"
                yield i, [Generation.failed(told)] * n
        made: dict[int, list[Row]] = {}
        for i, ids in prompts.items():
            most = max_tokens if engine.limit is None else min(max_tokens, engine.limit - len(ids))
            made[i] = [Row(ids, most, ((seeds[i] or 0) % 2**64, k), tuple(stop)) for k in range(n)]
        rows = [(i, row) for i, of_request in made.items() for row in of_request]
        waiting = dict.fromkeys(made, n)
        sizes = np.array([len(row.prompt) + row.max_tokens for _, row in rows])
        for batch in token_batches(sizes, self.tokens_per_batch):
            members = [rows[j] for j in batch.tolist()]
            with engine.lock:
                engine.loop.run([row for _, row in members], draws)
            for i, _ in members:
                waiting[i] -= 1
                if not waiting[i]:
                    yield i, [row.generation(engine.loop) for row in made.pop(i)]

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, without special tokens.

        Parameters
        ----------
        text : str
            Any text.

        Returns
        -------
        int
            Number of its tokens.
        """
        from prmkit.marking.scheme import text_ids

        return len(text_ids(self._engine.tokenizer, text))

    @property
    def fingerprint(self) -> str:
        """What a log knows this generator by: model and settings. A folder is known by its name, not by its weights.

        Returns
        -------
        str
            Model and settings.
        """
        model = self.model
        if not isinstance(model, (str, Path)):
            model = f"{type(model).__name__} {model.config.name_or_path} of {model.num_parameters()} parameters"
        tokenizer = getattr(self.tokenizer, "name_or_path", self.tokenizer)
        names = ("prompt", "system", "step_separator", "top_p", "top_k", "dtype")
        told = {"model": str(model), "tokenizer": None if tokenizer is None else str(tokenizer)}
        told |= {name: getattr(self, name) for name in names}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in told.items() if value)})"

    def _draws(self, n: int, stop: Sequence[str], max_tokens: int, temperature: float) -> Any:
        from prmkit.decoding.generators._token_loop import Draws

        check_request_settings(n, max_tokens, temperature, stop)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p!r}, expected a number above 0 and up to 1, or None")
        if self.top_k is not None:
            check_counts(top_k=self.top_k)
        if not self.kept_bytes >= 0:
            raise ValueError(f"kept_bytes is {self.kept_bytes!r}, expected a number of bytes of 0 or more")
        return Draws(temperature, self.top_k, self.top_p)

    @cached_property
    def _loaded(self) -> _Engine:
        return _Engine(self)

    @property
    def _engine(self) -> _Engine:
        with _LOADING:
            return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_loaded"}


class _Engine:
    """A loaded model with its tokenizer, and what is known of them."""

    def __init__(self, settings: TransformersGenerator) -> None:
        from prmkit.decoding.generators._token_loop import TokenLoop
        from prmkit.features.passes.model_files import load_tokenizer, token_limit

        self.style = PromptStyle(settings.prompt, settings.system, settings.step_separator)
        network: Any
        tokenizer: Any = settings.tokenizer
        if isinstance(settings.model, (str, Path)):
            if settings.dtype not in (names := get_args(Precision)):
                raise ValueError(f"dtype is {settings.dtype!r}, expected one of {', '.join(names)}")
            network, folder = _loaded_network(settings.model, settings.dtype, settings.device)
            tokenizer = folder if tokenizer is None else tokenizer
        else:
            network = settings.model
            _check_loaded(network, tokenizer, settings)
        self.tokenizer: PreTrainedTokenizerBase = (
            load_tokenizer(tokenizer) if isinstance(tokenizer, (str, Path)) else tokenizer
        )
        config = network.config.get_text_config()
        n_rows = network.get_input_embeddings().weight.shape[0]
        if len(self.tokenizer) > n_rows:
            raise ValueError(
                f"the tokenizer has {len(self.tokenizer)} tokens and the model {n_rows}: pass the model's tokenizer"
            )
        ends: Any = getattr(getattr(network, "generation_config", None), "eos_token_id", None)
        found = {*(ends if isinstance(ends, (list, tuple)) else [ends]), self.tokenizer.eos_token_id} - {None}
        holder: Any = SimpleNamespace(config=config)
        self.limit = token_limit(holder, None)
        self.loop: TokenLoop = TokenLoop(network, self.tokenizer, frozenset(map(int, found)), settings.kept_bytes)
        self.lock = Lock()


def _loaded_network(model: str | Path, dtype: str, device: str | None) -> tuple[PreTrainedModel, Path]:
    """Load a causal language model from a folder or the hub, and take it to its device."""
    from prmkit.features.states.causal_model import CausalModel

    source = CausalModel(
        model,
        layer=None,
        log_probs=True,
        dtype=dtype,
        device=device,
        instead="a generator is a decoder-only language model, such as 'Qwen/Qwen2.5-Math-1.5B-Instruct'",
    )
    network: Any = source.network
    return network.to(source.device), source.folder


def _check_loaded(network: Any, tokenizer: object, settings: TransformersGenerator) -> None:
    """Refuse what is no loaded causal language model, and settings that would change it."""
    if not hasattr(network, "config") or not hasattr(network, "get_output_embeddings"):
        raise TypeError(
            f"model is {type(network).__name__}, expected a folder, a name on the hub, or a language model that "
            "AutoModelForCausalLM.from_pretrained has loaded"
        )
    from prmkit.features.passes.block_causal import is_causal

    seq2seq = getattr(network.config, "is_encoder_decoder", False)
    if seq2seq or network.get_output_embeddings() is None or not is_causal(network):
        raise ValueError(
            f"{type(network).__name__} is no causal language model: load it with AutoModelForCausalLM.from_pretrained"
        )
    if tokenizer is None:
        name = getattr(network.config, "_name_or_path", None) or "FOLDER"
        raise ValueError(f"a loaded model needs its tokenizer: tokenizer={str(name)!r}")
    if settings.dtype != "auto" or settings.device is not None:
        raise ValueError(
            "dtype and device belong to a model that is loaded here: leave them out, or change the model itself, "
            "model.to('cuda')"
        )
