"""vLLM as a generator. It needs a GPU, so a module with the shapes that vLLM 0.33 documents stands in its place."""

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import pytest

from prmkit import Solution
from prmkit.decoding import VLLMGenerator


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: tuple[int, ...]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    include_stop_str_in_output: bool = False

    def __post_init__(self):
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}.")


@pytest.fixture
def vllm(monkeypatch, make_tokenizer):
    """Put a module in vLLM's place. Its ``answer`` makes (text, finish_reason, stop_reason)."""
    tokenizer = make_tokenizer()
    module = ModuleType("vllm")
    module.made, module.asked = [], []
    module.answer = lambda prompt, params, k: (f"{prompt.strip()} {params.seed} {k}\n\n", "stop", "\n\n")

    class LLM:
        def __init__(self, model, *, runner="auto", enable_prefix_caching=None, **options):
            module.made.append((model, runner, enable_prefix_caching, options))
            self.model_config = SimpleNamespace(max_model_len=30, model=model)

        def get_tokenizer(self):
            return tokenizer

        def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
            assert len(prompts) == len(sampling_params)
            module.asked.append((prompts, sampling_params))
            return [
                self.output(one["prompt_token_ids"], params)
                for one, params in zip(prompts, sampling_params, strict=True)
            ]

        def output(self, prompt_ids, params):
            outputs = []
            for k in range(params.n):
                text, finish, reason = module.answer(tokenizer.decode(prompt_ids), params, k)
                ids = tokenizer(text)["input_ids"]
                ids += [tokenizer.eos_token_id] if (finish, reason) == ("stop", None) else []
                shown = text if params.include_stop_str_in_output else text.removesuffix(reason or "")
                logprobs = None
                if params.logprobs is not None:
                    logprobs = [{one: Logprob(-0.5), one + 1: Logprob(-0.1)} for one in ids]
                outputs.append(CompletionOutput(k, shown, tuple(ids), None, logprobs, finish, reason))
            return SimpleNamespace(outputs=outputs, prompt_token_ids=prompt_ids, finished=True)

    module.LLM, module.SamplingParams, module.tokenizer = LLM, SamplingParams, tokenizer
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def test_requests_run_together_with_their_own_seeds(vllm):
    generator = VLLMGenerator("small", prompt="plain", model_kwargs={"tensor_parallel_size": 2})
    rows = generator.generate(["a", "b"], n=2, stop=["\n\n"], max_tokens=40, temperature=0.7, seed=[5, 6])
    assert [[one.text for one in row] for row in rows] == [["a 5 0", "a 5 1"], ["b 6 0", "b 6 1"]]
    [(prompts, params)] = vllm.asked
    assert [vllm.tokenizer.decode(one["prompt_token_ids"]) for one in prompts] == ["a\n\n", "b\n\n"]
    assert [(one.n, one.seed, one.stop, one.max_tokens, one.temperature) for one in params] == [
        (2, 5, ["\n\n"], 40, 0.7),
        (2, 6, ["\n\n"], 40, 0.7),
    ]
    assert vllm.made == [("small", "generate", True, {"tensor_parallel_size": 2})]
    generator.generate(["a"])
    assert len(vllm.made) == 1


@pytest.mark.parametrize(
    ("answer", "finish", "stop"),
    [
        (("So 14.\n\n", "stop", "\n\n"), "stop", "\n\n"),
        (("So 14.", "stop", None), "eos", None),
        (("So 14.", "stop", 151643), "eos", None),
        (("So 14.", "length", None), "length", None),
        (("So 14.", "abort", None), "error", None),
        (("So 14.", "repetition", "repetition_detected"), "error", None),
    ],
)
def test_why_a_text_ended(vllm, answer, finish, stop):
    vllm.answer = lambda *_: answer
    [[one]] = VLLMGenerator("small", prompt="plain").generate(["2 + 3 * 4?"], stop=["\n\n"])
    assert (one.finish, one.stop) == (finish, stop)
    if finish == "error":
        assert answer[1] in one.error
        return
    assert one.text == "So 14."
    assert vllm.tokenizer.decode(one.token_ids, skip_special_tokens=True) == one.text + (stop or "")
    assert one.n_tokens == len(one.token_ids)


def test_a_token_that_holds_more_than_the_stop_string_is_not_given(vllm, monkeypatch):
    output = vllm.LLM.output

    def longer(self, prompt_ids, params):
        answer = output(self, prompt_ids, params)
        answer.outputs[0].token_ids += tuple(vllm.tokenizer("So")["input_ids"])
        return answer

    monkeypatch.setattr(vllm.LLM, "output", longer)
    vllm.answer = lambda *_: ("3 * 4 = 12.\n\n", "stop", "\n\n")
    [[one]] = VLLMGenerator("small", prompt="plain").generate(["2 + 3 * 4?"], stop=["\n\n"])
    assert (one.text, one.finish, one.token_ids) == ("3 * 4 = 12.", "stop", None)
    assert one.n_tokens == len(vllm.tokenizer("3 * 4 = 12.\n\n")["input_ids"]) + 1


def test_a_solution_goes_on_from_its_own_tokens(vllm):
    ids = vllm.tokenizer("3 * ")["input_ids"] + vllm.tokenizer("4 = 12.\n\n")["input_ids"]
    VLLMGenerator("small", prompt="plain").generate([Solution("2?", ["3 * 4 = 12."], meta={"token_ids": [tuple(ids)]})])
    [([prompt], _)] = vllm.asked
    assert prompt["prompt_token_ids"] == vllm.tokenizer("2?\n\n")["input_ids"] + ids


def test_log_probabilities_are_those_of_the_tokens(vllm):
    [[one]] = VLLMGenerator("small", prompt="plain", logprobs=True).generate(["2?"], stop=["\n\n"])
    assert one.logprobs == (-0.5,) * one.n_tokens


def test_the_likeliest_text_is_made_once(vllm):
    [row] = VLLMGenerator("small", prompt="plain").generate(["2?"], n=3, temperature=0)
    assert len(row) == 3
    assert len(set(row)) == vllm.asked[0][1][0].n == 1


def test_a_prompt_at_the_limit_costs_its_own_row(vllm):
    long, short = VLLMGenerator("small", prompt="plain").generate(["2 + " * 40, "2?"], n=2, stop=["\n\n"])
    assert [one.finish for one in long + short] == ["error", "error", "stop", "stop"]
    assert "limit is 30" in long[0].error


def test_generations_that_lack_are_errors(vllm, monkeypatch):
    output = vllm.LLM.output

    def fewer(self, prompt_ids, params):
        answer = output(self, prompt_ids, params)
        del answer.outputs[1:]
        return answer

    monkeypatch.setattr(vllm.LLM, "output", fewer)
    [row] = VLLMGenerator("small", prompt="plain").generate(["2?"], n=3, stop=["\n\n"])
    assert [one.finish for one in row] == ["stop", "error", "error"]


def test_an_engine_that_runs_is_used(vllm):
    engine = vllm.LLM("other")
    generator = VLLMGenerator(engine, prompt="plain", sampling_kwargs={"top_p": 0.9})
    generator.generate(["2?"])
    assert len(vllm.made) == 1
    assert vllm.asked[0][1][0].top_p == 0.9
    assert "other" in generator.fingerprint
    assert generator.count_tokens("3 * 4") == len(vllm.tokenizer("3 * 4")["input_ids"])


def test_settings_out_of_range_ask_nothing(vllm):
    generator = VLLMGenerator("small", prompt="plain")
    with pytest.raises(TypeError, match="stop is one text"):
        generator.generate(["2?"], stop="\n\n")
    with pytest.raises(ValueError, match="n is 0"):
        generator.generate(["2?"], n=0)
    assert generator.generate([]) == []
    assert not vllm.made


def test_without_vllm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match="pip install vllm"):
        VLLMGenerator("small").generate(["2?"])
