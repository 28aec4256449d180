"""A server with OpenAI's interface as a generator: vLLM, SGLang, llama.cpp, Ollama, or a hosted model."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from prmkit.data.solution import Solution
from prmkit.decoding.generation import (
    STEP_SEPARATOR,
    Generation,
    Request,
    check_request_settings,
    derived_seed,
    seeds_of,
    solutions_of,
)
from prmkit.decoding.generators._exchange import AnswerError, Client, Exchange, Pace, Secret, Work
from prmkit.decoding.generators._server_answers import StreamedChoice, UntoldStopError, generations_of
from prmkit.decoding.generators.prompts import PromptStyle, decoded
from prmkit.features.passes.model_files import load_tokenizer
from prmkit.marking.scheme import text_ids
from prmkit.utils.environment import import_optional

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Api: TypeAlias = Literal["completions", "chat"]
Server: TypeAlias = Literal["vllm", "sglang", "llama.cpp"]
Continuation: TypeAlias = Literal["prefill", "ask"]
Body: TypeAlias = dict[str, Any]
_EXTRAS: dict[Server, Body] = {
    "vllm": {"return_token_ids": True},
    "sglang": {},
    "llama.cpp": {"verbose": True, "return_tokens": True},
}
_FLAGS = {"continue_final_message": True, "add_generation_prompt": False}
_ASK_ON = "These are the first steps of your solution. Write only what follows them:"


class OpenAIGenerator:
    r"""Generate by a server that has OpenAI's interface: vLLM, SGLang, llama.cpp, Ollama, or a hosted model.

    Many requests run at a time, each with a limit of time. One that fails is repeated. If it fails for good, it becomes
    a :class:`Generation` with ``finish="error"`` and the message.

    Parameters
    ----------
    model : str
        Name of the model at the server.
    base_url : str, optional
        Address of the server, such as ``"http://localhost:8000/v1"``. If None, the one that the environment variable
        ``OPENAI_BASE_URL`` names, else OpenAI's.
    tokenizer : str or tokenizer of transformers, optional
        Tokenizer of the model, or its name. Its chat template is applied here, for ``api="completions"``.
    prompt : str, default="auto"
        How a problem is written for ``api="completions"``. ``"auto"``: by the chat template of the tokenizer, if it has
        one. ``"chat"``: by this template. ``"plain"``: the problem and an empty line. Any other text is a template with
        ``{problem}`` in it. The last two need no tokenizer.
    api : {"completions", "chat"}, optional
        What is asked for: ``"completions"`` continues a text exactly, so steps go on as if they had never been cut.
        ``"chat"`` sends messages. If None, ``"completions"`` with a tokenizer or a ``prompt`` that needs none, and else
        ``"chat"``.
    server : {"vllm", "sglang", "llama.cpp"}, optional
        What the server is, so that its extra fields are used: the prompt as token ids, the ids that were generated, the
        reason of a stop, and in chat the continuation of a message. None asks for nothing that is not OpenAI's.
    chat_continuation : {"prefill", "ask"}, optional
        How a chat goes on from steps. ``"prefill"``: they are the last message, which the server continues. The servers
        above do. ``"ask"``: a message of the user asks to go on. The model may begin anew then, so this is for hosted
        models that cannot do better. If None, ``"prefill"`` for a known server, and an error else.
    system : str, optional
        System message.
    api_key : str, optional
        Key of the server. If None, that of the environment variable ``OPENAI_API_KEY`` if ``base_url`` is None too, and
        no key else: a key is never sent to another address than its own. It is shown nowhere.
    step_separator : str, default="\\n\\n"
        Text between two steps.
    n_per_request : bool, default=False
        Whether one request asks for all n continuations. If not, each has a request with a seed of its own, which also
        serves with servers that know no ``n``. A beginning that requests share is read once by most servers.
    stop_locally : bool, optional
        Whether texts are streamed and stopped here, instead of by the server. It tells the end of a step from the end
        of the solution at every server. If None, that is done as soon as an answer does not tell them apart.
    logprobs : bool, default=False
        Whether to ask for the log-probabilities of the tokens.
    max_concurrency : int, default=8
        Largest number of requests at a time.
    requests_per_minute : float, optional
        Largest rate at which requests start.
    max_retries : int, default=5
        How often a failed request is repeated: after a lost connection, too long a wait, status 408, 409, 425, 429 or
        500 and above, and after an answer that is not JSON or has no choices.
    backoff : float, default=0.5
        Seconds before the first repetition. They double up to 8. A ``Retry-After`` of up to two minutes goes before.
    timeout : float, default=600.0
        Seconds for a whole answer, however it trickles in.
    fields : mapping of str to str or None, optional
        Other names of fields at this server, such as ``{"max_tokens": "max_completion_tokens"}``. None leaves it out.
    extra_body : mapping, optional
        Further fields of each request.

    Attributes
    ----------
    counts : dict of str to int
        What was done so far: ``requests`` that were sent, ``retries`` among them, ``refilled`` ones for choices that an
        answer lacked, ``asked_again`` for those that had to be stopped here, ``errors`` among the generations, and
        ``prompt_tokens`` as the server counted them.

    See Also
    --------
    VLLMGenerator : The same model in this process.

    Notes
    -----
    How a step end is told from the end of a solution: vLLM says ``stop_reason``, SGLang ``matched_stop``, llama.cpp its
    ``stop_type`` with ``server="llama.cpp"``. Some servers keep the stop string in the text. OpenAI's own do none of
    this, so texts are stopped here. The first answer that does not tell is asked for again with the same seed.

    The same seed gives the same text if the server keeps it. ``n_tokens`` is the server's number. Of a text that is
    stopped here it is the number of log-probabilities, of tokens by the tokenizer, or of pieces of the stream.

    Examples
    --------
    >>> generator = OpenAIGenerator("Qwen/Qwen2.5-Math-7B-Instruct", "http://localhost:8000/v1", server="vllm")
    >>> generator.max_concurrency, generator.counts
    (8, {})
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        tokenizer: str | PreTrainedTokenizerBase | None = None,
        prompt: str = "auto",
        api: Api | None = None,
        server: Server | None = None,
        chat_continuation: Continuation | None = None,
        system: str | None = None,
        api_key: str | None = None,
        step_separator: str = STEP_SEPARATOR,
        n_per_request: bool = False,
        stop_locally: bool | None = None,
        logprobs: bool = False,
        max_concurrency: int = 8,
        requests_per_minute: float | None = None,
        max_retries: int = 5,
        backoff: float = 0.5,
        timeout: float = 600.0,
        fields: Mapping[str, str | None] | None = None,
        extra_body: Mapping[str, object] | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.api = api
        self.server = server
        self.chat_continuation = chat_continuation
        self.system = system
        self.api_key = Secret(api_key)
        self.step_separator = step_separator
        self.n_per_request = n_per_request
        self.stop_locally = stop_locally
        self.logprobs = logprobs
        self.max_concurrency = max_concurrency
        self.requests_per_minute = requests_per_minute
        self.max_retries = max_retries
        self.backoff = backoff
        self.timeout = timeout
        self.fields = fields
        self.extra_body = extra_body
        self._pace = Pace()
        self._counts: Counter[str] = Counter()
        self._server_tells = True
        self._read_tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def counts(self) -> dict[str, int]:
        """What was done so far.

        Returns
        -------
        dict of str to int
            Number of each.
        """
        return dict(self._counts)

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text, or of its words if there is no tokenizer.

        Parameters
        ----------
        text : str
            Text.

        Returns
        -------
        int
            Number of tokens.
        """
        tokenizer = self._tokenizer
        return len(text.split()) if tokenizer is None else len(text_ids(tokenizer, text))

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
            Texts at which a continuation stops.
        max_tokens : int, default=512
            Largest number of tokens of a continuation.
        temperature : float, default=1.0
            Temperature of the draws. 0 takes the likeliest token.
        seed : int or sequence of int, optional
            Seed of all requests, or one per request. Without one, no seed is sent.

        Returns
        -------
        list of list of Generation
            One list of n continuations per request.

        Raises
        ------
        ImportError
            If the package ``openai`` is not installed.
        TypeError, ValueError
            If a setting is out of range, or steps cannot be continued in this chat.
        """
        rows = dict(
            self.iter_generate(requests, n=n, stop=stop, max_tokens=max_tokens, temperature=temperature, seed=seed)
        )
        return [rows[i] for i in range(len(requests))]

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
        """Yield the continuations of each request as soon as all n of it are there.

        Closing the iterator ends all requests that are under way.

        Parameters
        ----------
        requests : sequence of Solution or str
            Solutions to continue, as in :meth:`generate`.
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

        Returns
        -------
        iterator of (int, list of Generation)
            Number of a request, and its n continuations.
        """
        check_request_settings(n, max_tokens, temperature, stop)
        exchange = self._exchange()
        solutions = solutions_of(requests)
        common: Body = {"model": self.model, "max_tokens": int(max_tokens), "temperature": float(temperature)}
        style = PromptStyle(self.prompt, self.system, self.step_separator)
        bodies = [common | self._prompt(solution, style) for solution in solutions]
        seeds = seeds_of(seed, len(solutions))
        size = n if self.n_per_request and temperature > 0 else 1  # vLLM refuses n draws of the likeliest token
        places = [(i, first) for i in range(len(solutions)) for first in range(0, n, size)]
        jobs = [self._job(exchange, bodies[i], seeds[i], first, size, tuple(stop)) for i, first in places]
        return self._rows(Work(exchange, jobs), places, len(solutions), n)

    def _rows(
        self, work: Work[list[Generation]], places: Sequence[tuple[int, int]], n_requests: int, n: int
    ) -> Iterator[tuple[int, list[Generation]]]:
        if not places:
            return
        parts: list[dict[int, list[Generation]]] = [{} for _ in range(n_requests)]
        with contextlib.closing(work.results()) as found:
            for which, some in found:
                i, first = places[which]
                parts[i][first] = some
                if sum(map(len, parts[i].values())) == n:
                    yield i, [one for place in sorted(parts[i]) for one in parts[i][place]]
                    parts[i] = {}

    def _exchange(self) -> Exchange:
        """Return how the server is asked, after a look at the settings."""
        import_optional("openai", "OpenAIGenerator")
        for name, value, allowed in (
            ("api", self.api, Api),
            ("server", self.server, Server),
            ("chat_continuation", self.chat_continuation, Continuation),
        ):
            if value is not None and value not in get_args(allowed):
                raise ValueError(f"{name} is {value!r}, expected None or one of {', '.join(get_args(allowed))}")
        for name, least in (("max_concurrency", 1), ("max_retries", 0), ("backoff", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a number of {least} or more")
        for name in ("fields", "extra_body"):
            if not isinstance(getattr(self, name), Mapping | None):
                raise TypeError(f"{name} is {getattr(self, name)!r}, expected a dictionary, or None")
        for name in ("timeout", "requests_per_minute"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a number above 0")
        key = self.api_key
        if key.text is None and self.base_url is None:
            key = Secret(os.environ.get("OPENAI_API_KEY"))
        self._pace.interval = 60 / self.requests_per_minute if self.requests_per_minute else 0.0
        return Exchange(
            base_url=self.base_url,
            api_key=key,
            max_concurrency=self.max_concurrency,
            max_retries=self.max_retries,
            backoff=self.backoff,
            timeout=self.timeout,
            pace=self._pace,
            counts=self._counts,
        )

    @property
    def fingerprint(self) -> str:
        """What a log knows this generator by: all that its texts depend on.

        Returns
        -------
        str
            Model, address and what is sent, without the key.
        """
        tokenizer = self.tokenizer if isinstance(self.tokenizer, (str, type(None))) else self.tokenizer.name_or_path
        asked = ("model", "base_url", "prompt", "server", "chat_continuation", "system", "step_separator")
        names = [*asked, "n_per_request", "fields", "extra_body"]
        told = {name: getattr(self, name) for name in names} | {"api": self._api, "tokenizer": tokenizer}
        return f"OpenAIGenerator({', '.join(f'{name}={value!r}' for name, value in told.items() if value is not None)})"

    @property
    def _api(self) -> Api:
        needs_no_tokenizer = self.tokenizer is not None or self.prompt not in ("auto", "chat")
        return self.api or ("completions" if needs_no_tokenizer else "chat")

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase | None:
        if isinstance(self.tokenizer, str) and self._read_tokenizer is None:
            self._read_tokenizer = load_tokenizer(self.tokenizer)
        return self._read_tokenizer if isinstance(self.tokenizer, str) else self.tokenizer

    def _prompt(self, solution: Solution, style: PromptStyle) -> Body:
        """Return the fields of a request that hold the problem and the steps."""
        if self._api == "chat":
            return self._messages(solution, style)
        tokenizer = self._tokenizer
        if tokenizer is None:
            return {"prompt": style.text(solution)}
        if self.server is not None:
            return {"prompt": style.token_ids(solution, tokenizer)}
        text, bos = style.text(solution, tokenizer), tokenizer.bos_token
        # A server that is given a text adds what its tokenizer sets before each text.
        if bos and text_ids(tokenizer, bos) == list(tokenizer("")["input_ids"])[:1]:
            text = text.removeprefix(bos)
        return {"prompt": text}

    def _messages(self, solution: Solution, style: PromptStyle) -> Body:
        messages = style.messages(solution)
        if not solution.steps:
            return {"messages": messages}
        how = self.chat_continuation or (None if self.server is None else "prefill")
        if how is None:
            raise ValueError(
                "a chat cannot go on from steps at every server. Pass tokenizer=... so that the text is continued "
                "(api='completions'), or server='vllm', 'sglang' or 'llama.cpp', or chat_continuation='prefill' if the "
                "server continues the last message, or 'ask' to ask for the rest in a further message"
            )
        if how == "ask":
            return {"messages": [*messages, {"role": "user", "content": _ASK_ON}]}
        return {"messages": messages} | (_FLAGS if self.server in ("vllm", "sglang") else {})

    def _job(
        self, exchange: Exchange, body: Body, seed: int | None, first: int, n: int, stops: Sequence[str]
    ) -> Callable[[Client], Awaitable[list[Generation]]]:
        """Return what asks for n continuations of one request, which are its ``first`` one and those after it."""

        async def job(client: Client) -> list[Generation]:
            row: list[Generation] = []
            while len(row) < n:
                own = body if seed is None else body | {"seed": derived_seed(seed, first + len(row))}
                try:
                    if self._stops_here(stops):
                        row.append(await exchange.repeated(lambda: self._streamed(client, own, stops)))  # noqa: B023
                    else:
                        wanted = n - len(row)
                        row += await exchange.repeated(lambda: self._whole(exchange, client, own, wanted, stops))  # noqa: B023
                        exchange.count("refilled", int(len(row) < n))
                except UntoldStopError:
                    if self.stop_locally is False:
                        row.append(
                            Generation.failed("the server does not say why a text stopped: use stop_locally=None")
                        )
                    else:
                        self._server_tells = False
                        exchange.count("asked_again")
                except Exception as error:  # it belongs to this request alone
                    row += [Generation.failed(exchange.told(error))] * (n - len(row))
            exchange.count("errors", sum(one.finish == "error" for one in row))
            return row

        return job

    def _stops_here(self, stops: Sequence[str]) -> bool:
        unsent = "stop" in (self.fields or {}) and (self.fields or {})["stop"] is None
        return bool(stops) and (self.stop_locally is True or not self._server_tells or unsent)

    def _sent(self, body: Body) -> Body:
        """Return a body with the names of fields that the server knows."""
        body = dict(body)
        if self.logprobs:
            body["logprobs"] = 1 if self._api == "completions" else True
        for name, other in (self.fields or {}).items():
            if name in body:
                value = body.pop(name)
                body |= {} if other is None else {other: value}
        extras = {} if self.server is None else _EXTRAS[self.server]
        return body | extras | dict(self.extra_body or {})

    @property
    def _path(self) -> str:
        return "/completions" if self._api == "completions" else "/chat/completions"

    async def _whole(
        self, exchange: Exchange, client: Client, body: Body, n: int, stops: Sequence[str]
    ) -> list[Generation]:
        """Return up to n generations of one answer."""
        body = body | ({"stop": list(stops)} if stops else {}) | ({"n": n} if n > 1 else {})
        httpx = import_optional("httpx2", "OpenAIGenerator")
        response = await client.post(self._path, body=self._sent(body), cast_to=httpx.Response)
        try:
            answer = response.json()
        except ValueError:
            raise AnswerError(f"the server gave no JSON: {response.text!r:.200}") from None
        if isinstance(answer, Mapping) and isinstance(answer.get("usage"), Mapping):
            exchange.count("prompt_tokens", answer["usage"].get("prompt_tokens") or 0)
        tokenizer = self._tokenizer
        decode = None if tokenizer is None else partial(decoded, tokenizer)
        return generations_of(answer, n, stops, self.count_tokens, decode)

    async def _streamed(self, client: Client, body: Body, stops: Sequence[str]) -> Generation:
        """Return one generation that ends at a stop string which is found here."""
        openai = import_optional("openai", "OpenAIGenerator")
        body = self._sent(body | {"stream": True, "stream_options": {"include_usage": True}})
        stream = await client.post(
            self._path, body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
        )
        read = StreamedChoice(stops)
        try:
            async for event in stream:
                read.add(event)
                if read.stop is not None:
                    break
        finally:
            await stream.close()
        return read.generation(None if self.tokenizer is None else self.count_tokens)
