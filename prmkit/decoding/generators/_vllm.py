"""vLLM in this process as a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from prmkit.decoding.generation import (
    STEP_SEPARATOR,
    Generation,
    Request,
    check_request_settings,
    seeds_of,
    solutions_of,
)
from prmkit.decoding.generators._server_answers import generation_of
from prmkit.decoding.generators.prompts import PromptStyle, decoded
from prmkit.features.passes.model_files import load_tokenizer
from prmkit.marking.scheme import text_ids
from prmkit.utils.environment import import_optional

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import LLM


class VLLMGenerator:
    r"""Generate by vLLM in this process. All requests of a call run together, and beginnings are read once.

    Parameters
    ----------
    model : str or vllm.LLM
        A local folder, a name on the hub, or an engine that runs. A model is loaded at the first use, with the cache of
        prefixes switched on.
    tokenizer : str or tokenizer of transformers, optional
        Tokenizer of the model. If None, that of the engine.
    prompt : str, default="auto"
        How the problem is written. ``"chat"``: by the chat template of the tokenizer. ``"plain"``: the problem and an
        empty line. ``"auto"``: a chat if there is a template. Any other text is a template with ``{problem}`` in it.
    system : str, optional
        Message of the system, for a chat.
    step_separator : str, default="\n\n"
        Text between two steps, and after the last one.
    logprobs : bool, default=False
        Whether to ask for the log-probabilities of the tokens.
    model_kwargs : mapping, optional
        Settings of ``vllm.LLM``, such as ``{"tensor_parallel_size": 2}``, for a model that is loaded here.
    sampling_kwargs : mapping, optional
        Settings of ``vllm.SamplingParams``, such as ``{"top_p": 0.95}``.

    See Also
    --------
    OpenAIGenerator : A model behind a server, also one of vLLM.

    Notes
    -----
    vLLM says ``"stop"`` at a stop string and at the end of a solution. They are told apart by its ``stop_reason``. A
    solution that was generated here goes on from its own tokens.

    A seed gives the same draws, but vLLM computes the logits of a token in batches, whose last bits depend on the other
    requests. Its environment variable ``VLLM_BATCH_INVARIANT=1`` removes that where it can.

    A prompt that is as long as the model's limit is an error of its own request.

    Examples
    --------
    >>> generator = VLLMGenerator("Qwen/Qwen2.5-Math-1.5B-Instruct")  # doctest: +SKIP
    >>> [[one]] = generator.generate(["2 + 3 * 4?"], stop=["\n\n"], seed=0)  # doctest: +SKIP
    >>> one.finish, one.stop  # doctest: +SKIP
    ('stop', '\n\n')
    """

    def __init__(
        self,
        model: str | LLM,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        *,
        prompt: str = "auto",
        system: str | None = None,
        step_separator: str = STEP_SEPARATOR,
        logprobs: bool = False,
        model_kwargs: Mapping[str, object] | None = None,
        sampling_kwargs: Mapping[str, object] | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.system = system
        self.step_separator = step_separator
        self.logprobs = logprobs
        self.model_kwargs = model_kwargs
        self.sampling_kwargs = sampling_kwargs
        self._engine: Any = None
        self._read_tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def fingerprint(self) -> str:
        """What a log knows this generator by: all that its texts depend on.

        Returns
        -------
        str
            Model and settings.
        """
        model = self.model if isinstance(self.model, str) else self.model.model_config.model
        names = ("prompt", "system", "step_separator", "model_kwargs", "sampling_kwargs")
        told = {"model": model} | {name: getattr(self, name) for name in names}
        return f"VLLMGenerator({', '.join(f'{name}={value!r}' for name, value in told.items() if value is not None)})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text.

        Parameters
        ----------
        text : str
            Text.

        Returns
        -------
        int
            Number of tokens.
        """
        return len(text_ids(self._loaded()[1], text))

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
            Largest number of tokens of a continuation. The limit of the model is one too.
        temperature : float, default=1.0
            Temperature of the draws. 0 takes the likeliest token, once for all n.
        seed : int or sequence of int, optional
            Seed of all requests, or one per request. Without one, vLLM draws as it likes.

        Returns
        -------
        list of list of Generation
            One list of n continuations per request.

        Raises
        ------
        ImportError
            If vLLM is not installed.
        TypeError, ValueError
            If a setting is out of range.
        """
        check_request_settings(n, max_tokens, temperature, stop)
        solutions = solutions_of(requests)
        seeds = seeds_of(seed, len(solutions))
        if not solutions:
            return []
        engine, tokenizer = self._loaded()
        style = PromptStyle(self.prompt, self.system, self.step_separator)
        prompts = [style.token_ids(solution, tokenizer) for solution in solutions]
        limit = engine.model_config.max_model_len
        fit = [i for i, ids in enumerate(prompts) if 0 < len(ids) < limit]
        drawn = 1 if temperature == 0 else n  # vLLM refuses n draws of the likeliest token
        shared = {
            "n": drawn,
            "stop": list(stop),
            "max_tokens": int(max_tokens),  # vLLM's own is 16
            "temperature": float(temperature),
            "include_stop_str_in_output": True,
            "logprobs": 0 if self.logprobs else None,
            **(self.sampling_kwargs or {}),
        }
        params = import_optional("vllm", "VLLMGenerator").SamplingParams
        answers = engine.generate(
            [{"prompt_token_ids": prompts[i]} for i in fit],
            [params(seed=seeds[i], **shared) for i in fit],
            use_tqdm=False,
        )
        rows = {
            i: [self._generation(one, stop, tokenizer) for one in answer.outputs][:drawn] * (n // drawn)
            for i, answer in zip(fit, answers, strict=True)
        }
        missing = Generation.failed("vLLM gave fewer generations than were asked for")
        for i, ids in enumerate(prompts):
            if i not in rows:
                rows[i] = [Generation.failed(f"the prompt has {len(ids)} tokens, and the model's limit is {limit}")] * n
            rows[i] += [missing] * (n - len(rows[i]))
        return [rows[i] for i in range(len(solutions))]

    def _loaded(self) -> tuple[Any, PreTrainedTokenizerBase]:
        """Return the engine and the tokenizer."""
        if self._engine is None:
            engine: Any = self.model
            if isinstance(self.model, str):
                options = {"runner": "generate", "enable_prefix_caching": True, **(self.model_kwargs or {})}
                engine = import_optional("vllm", "VLLMGenerator").LLM(model=self.model, **options)
            self._engine = engine
        if self._read_tokenizer is None:
            given = self._engine.get_tokenizer() if self.tokenizer is None else self.tokenizer
            self._read_tokenizer = load_tokenizer(given) if isinstance(given, str) else given
        return self._engine, self._read_tokenizer

    def _generation(self, output: Any, stop: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Generation:
        """Return one of vLLM's outputs as a generation."""
        ids = list(output.token_ids)
        choice: dict[str, Any] = {
            "text": output.text,
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
            "token_ids": ids,
        }
        if output.logprobs is not None:
            values = [place[one].logprob for place, one in zip(output.logprobs, ids, strict=True)]
            choice["logprobs"] = {"token_logprobs": values}
        return generation_of(choice, stop, len(ids), self.count_tokens, partial(decoded, tokenizer))
