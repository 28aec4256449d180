"""TransformersGenerator and its prompts: the tokens are those of ``model.generate``, one prompt at a time, no cache."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

from prmkit import Solution
from prmkit.decoding import TransformersGenerator
from prmkit.decoding.generation import extended
from prmkit.decoding.generators.prompts import PromptStyle

SPECIAL = ["<pad>", "<bos>", "<eos>", "<end>"]
MERGED = {"\n\n": "ĊĊ", "\n\nb": "ĊĊb"}
PROBLEMS = ["What is 2 + 3 * 4?", "Hi", "A hat costs 20 dollars. What do 8 hats cost?", "Why", "17 - 5?"]
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes, an empty line as one token, and a token that holds more than an empty line."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: i for i, sign in enumerate([*SPECIAL, *alphabet, *MERGED.values()])}
    backend = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ"), ("ĊĊ", "b")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "additional_special_tokens": ["<end>"]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def tiny(kind, tokenizer, **changes):
    """A random model of any architecture. Its weights are large, so that every token counts."""
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "initializer_range": 0.3}
    more = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 256}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), intermediate_size=48, **{**sizes, **more, **changes}
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def llama(tokenizer):
    return tiny("Llama", tokenizer, num_key_value_heads=1)


@pytest.fixture(scope="module")
def scripted(tokenizer):
    """A Llama whose next token follows from the last one alone, by a table."""
    model = tiny("Llama", tokenizer, hidden_size=272, num_hidden_layers=1, head_dim=8)
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(name) for name in ("<eos>", "<end>")]
    chain = [
        *(["a", "b", "\n\n", "c"], ["d", "e", "\n\nb"], ["f", "g", "\n", "\n"], ["h", "i", "<eos>"]),
        *(["j", "k", "<end>"], ["l", "m", "l"], ["o", "p", "é", "q", "\n\n"]),
    ]
    ids = [[one for part in row for one in token(tokenizer, part)] for row in chain]
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.model.norm.weight.fill_(1)
        model.model.embed_tokens.weight.copy_(torch.eye(len(tokenizer), 272))
        for row in ids:
            for one, following in pairwise(row):
                model.lm_head.weight[following, one] = 1
    return model


def token(tokenizer, text):
    return [SPECIAL.index(text)] if text in SPECIAL else tokenizer(text, add_special_tokens=False)["input_ids"]


def reference(model, ids, n_tokens, ends=None):
    """Greedy tokens of ``model.generate``, alone and without a cache."""
    row = torch.tensor([ids])
    options = {"do_sample": False, "max_new_tokens": n_tokens, "use_cache": False, "eos_token_id": ends}
    return model.generate(row, attention_mask=torch.ones_like(row), **options)[0, len(ids) :].tolist()


def generator(model, tokenizer, **options):
    return TransformersGenerator(model, tokenizer, **{"prompt": "{problem}", **options})


def tokens(rows):
    return [[one.token_ids for one in row] for row in rows]


@pytest.mark.parametrize("kept_bytes", [0, 2**26])
def test_greedy_tokens_of_ragged_prompts_are_those_of_generate_alone(llama, tokenizer, kept_bytes):
    made = generator(llama, tokenizer, kept_bytes=kept_bytes, tokens_per_batch=200)
    expected = [reference(llama, token(tokenizer, problem), 16, [2]) for problem in PROBLEMS]
    for _ in range(2):  # the second time all prompts are known
        rows = made.generate(PROBLEMS, n=2, max_tokens=16, temperature=0)
        assert tokens(rows) == [[tuple(ids)] * 2 for ids in expected]
    assert len({tuple(ids) for ids in expected}) == len(PROBLEMS)
    assert all(one.finish == ("eos" if one.token_ids[-1] == 2 else "length") for row in rows for one in row)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Mistral", {"num_key_value_heads": 1, "sliding_window": 4}),
        ("GPT2", {"n_positions": 256}),
        pytest.param("Bloom", {}, marks=pytest.mark.slow),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}),
        pytest.param("Mamba", {"state_size": 4}, marks=pytest.mark.slow),
        pytest.param("Gemma2", {"head_dim": 16, "num_key_value_heads": 1, "sliding_window": 4}, marks=pytest.mark.slow),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_other_architectures_are_as_exact(tokenizer, kind, changes):
    model = tiny(kind, tokenizer, **changes)
    made = generator(model, tokenizer)
    first = made.generate(PROBLEMS[:3], max_tokens=8, temperature=0)
    for problem, [one] in zip(PROBLEMS, first, strict=False):
        assert list(one.token_ids) == reference(model, token(tokenizer, problem), 8, [2])


def test_end_stop_and_length_are_told_apart(scripted, tokenizer):
    made = generator(scripted, tokenizer)
    rows = made.generate([*"adfhjlo"], stop=["\n\n"], max_tokens=6, temperature=0)
    told = [(one.text, one.finish, one.stop, one.n_tokens) for [one] in rows]
    assert told == [
        ("b", "stop", "\n\n", 2),
        ("e", "stop", "\n\n", 2),
        ("g", "stop", "\n\n", 3),
        ("i", "eos", None, 2),
        ("k", "eos", None, 2),
        ("mlmlml", "length", None, 6),
        ("péq", "stop", "\n\n", 5),
    ]
    assert [one.token_ids is None for [one] in rows] == [False, True, *[False] * 5]
    for [one] in rows:
        assert len(one.logprobs) == one.n_tokens
        if one.token_ids is not None:
            assert tokenizer.decode(one.token_ids, skip_special_tokens=True) == one.text + (one.stop or "")


def test_a_stop_string_may_be_a_part_of_a_token_or_a_special_token(scripted, tokenizer):
    made = generator(scripted, tokenizer)
    [[part]], [[whole]] = (made.generate(["d"], stop=stop, temperature=0) for stop in (["\n"], ["\n\n", "\n\nb"]))
    assert (part.text, part.stop, part.token_ids) == ("e", "\n", None)
    assert (whole.text, whole.stop, len(whole.token_ids)) == ("e", "\n\nb", 2)  # the longest of those that begin there
    scripted.generation_config.eos_token_id, before = 2, scripted.generation_config.eos_token_id
    try:
        [[special]] = generator(scripted, tokenizer).generate(["j"], stop=["<end>"], temperature=0)
    finally:
        scripted.generation_config.eos_token_id = before
    assert (special.text, special.finish, special.stop) == ("k", "stop", "<end>")


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.6}])
def test_a_seed_gives_the_same_tokens_in_any_company(llama, tokenizer, options):
    made = generator(llama, tokenizer, **options)
    settings = {"n": 2, "max_tokens": 6, "temperature": 2.0}
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    together = tokens(made.generate(PROBLEMS, seed=[10, 11, 12, 13, 14], **settings))
    turned = tokens(made.generate(PROBLEMS[::-1], seed=[14, 13, 12, 11, 10], **settings))
    fresh = generator(llama, tokenizer, kept_bytes=0, **options)
    alone = [tokens(fresh.generate([one], seed=[10 + i], **settings))[0] for i, one in enumerate(PROBLEMS)]
    assert together == turned[::-1] == alone
    assert tokens(made.generate(PROBLEMS[:1], seed=[10], **{**settings, "n": 4}))[0][:2] == together[0]
    assert len({ids for row in together for ids in row}) == 10
    assert tokens(made.generate(PROBLEMS[:1], seed=99, **settings))[0] != together[0]
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (3, None), (None, 0.5)])
def test_draws_follow_the_model_and_log_probabilities_are_raw(llama, tokenizer, top_k, top_p):
    made = generator(llama, tokenizer, top_k=top_k, top_p=top_p, tokens_per_batch=10**6)
    [row] = made.generate(["Hi"], n=1000, max_tokens=1, temperature=3.0, seed=5)
    with torch.inference_mode():
        raw = llama(torch.tensor([token(tokenizer, "Hi")])).logits[0, -1].log_softmax(-1)
    drawn = np.array([one.token_ids[0] for one in row])
    np.testing.assert_allclose([one.logprobs[0] for one in row], raw[drawn], atol=1e-4)
    expected = (raw / 3.0).softmax(-1).double().numpy()
    order = np.argsort(-expected)
    if top_k:
        expected[order[top_k:]] = 0
    if top_p:
        expected[order[1 + int(np.sum(np.cumsum(expected[order]) < top_p)) :]] = 0
    expected /= expected.sum()
    found = np.bincount(drawn, minlength=len(expected)) / len(row)
    assert not found[expected == 0].any()
    assert np.abs(found - expected).max() < 4 * 0.5 / np.sqrt(len(row))


def test_a_solution_goes_on_from_the_tokens_that_were_generated(llama, tokenizer):
    made = generator(llama, tokenizer)
    [[whole]] = made.generate(["Hi"], max_tokens=20, temperature=0)
    solution = Solution("Hi", ())
    parts = []
    for _ in range(4):
        [[part]] = made.generate([solution], max_tokens=5, temperature=0)
        parts.append(part)
        solution = Solution("Hi", (*solution.steps, part.text), meta={"token_ids": [one.token_ids for one in parts]})
    assert sum((one.token_ids for one in parts), ()) == whole.token_ids
    np.testing.assert_allclose(np.concatenate([one.logprobs for one in parts]), whole.logprobs, atol=1e-4)


def test_a_prompt_is_read_once_and_the_next_step_reads_one_token(scripted, tokenizer):
    read = []

    def note(_module, _args, options):
        read.append(tuple(options["input_ids"].shape))

    made = generator(scripted, tokenizer)
    made.generate(["warm"], max_tokens=1)
    hook = scripted.register_forward_pre_hook(note, with_kwargs=True)
    try:
        [row] = made.generate(["Count: a"], n=3, stop=["\n\n"], temperature=0)
        assert read == [(1, 8), (3, 1)]
        read.clear()
        solution = extended(Solution("Count: a", ()), row[0])
        assert solution.meta["token_ids"] == (row[0].token_ids,)
        made.generate([solution], n=2, max_tokens=1, temperature=0)
        assert read == [(1, 1)]
        read.clear()
        made.generate(["Count: h"], max_tokens=1, temperature=0)  # a beginning of another text
        assert read == [(1, 1)]
    finally:
        hook.remove()


def test_what_was_read_by_other_weights_is_forgotten(tokenizer):
    model = tiny("Llama", tokenizer)
    made = generator(model.train(), tokenizer)
    before = tokens(made.generate(PROBLEMS, max_tokens=4, temperature=0))
    assert model.training
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight.mul_(-1)
    after = tokens(made.generate(PROBLEMS, max_tokens=4, temperature=0))
    assert after == tokens(generator(model, tokenizer).generate(PROBLEMS, max_tokens=4, temperature=0)) != before


def test_a_request_that_is_too_long_costs_itself_alone(llama, tokenizer):
    made = generator(llama, tokenizer)
    [[long, _], [short, _], [close, _]] = made.generate(["x" * 256, "Hi", "x" * 250], n=2, max_tokens=8, temperature=0)
    assert (long.finish, long.n_tokens) == ("error", 0)
    assert "the request has 256 tokens, and the model reads 256" in long.error
    assert short.finish in ("eos", "length")
    assert close.n_tokens <= 6
    [[empty]] = made.generate([""])
    assert "nothing to continue" in empty.error


def test_a_row_whose_logits_are_no_numbers_is_an_error(tokenizer):
    model = tiny("Llama", tokenizer)
    with torch.no_grad():
        model.model.embed_tokens.weight[token(tokenizer, "W")] = torch.nan
    [[broken], [sound]] = generator(model, tokenizer).generate(["Why", "Hi"], max_tokens=3)
    assert broken.finish == "error"
    assert "not numbers" in broken.error
    assert sound.finish != "error"


def test_rows_come_as_their_batches_are_done(llama, tokenizer):
    made = generator(llama, tokenizer, tokens_per_batch=1)
    found = list(made.iter_generate(PROBLEMS, n=2, max_tokens=2, temperature=0))
    assert sorted(i for i, _ in found) == [0, 1, 2, 3, 4]
    assert found[0][0] == 2  # the longest
    rows = generator(llama, tokenizer).generate(PROBLEMS, n=2, max_tokens=2, temperature=0)
    assert [tokens([dict(found)[i]])[0] for i in range(5)] == tokens(rows)
    assert made.generate([]) == []


def test_a_folder_is_loaded_and_a_copy_of_the_generator_loads_it_again(llama, tokenizer, tmp_path):
    llama.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = TransformersGenerator(tmp_path, prompt="{problem}", dtype="float32", device="cpu")
    expected = tokens(generator(llama, tokenizer).generate(PROBLEMS[:2], max_tokens=4, temperature=0))
    assert tokens(made.generate(PROBLEMS[:2], max_tokens=4, temperature=0)) == expected
    again = pickle.loads(pickle.dumps(made))
    assert tokens(again.generate(PROBLEMS[:2], max_tokens=4, temperature=0)) == expected
    assert made.count_tokens("Hi\n\nb") == 3


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dtype is 'float33', expected one of auto, float32"):
        TransformersGenerator(tmp_path, dtype="float33").generate(["2 + 2?"], max_tokens=1)


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({}, {"stop": "\n\n"}, "stop is one text, expected a list"),
        ({}, {"stop": [""]}, "expected texts that are not empty"),
        ({}, {"n": 0}, "n is 0"),
        ({}, {"temperature": -1}, "temperature is -1"),
        ({}, {"seed": [1, 2, 3]}, "3 numbers for 1 requests"),
        ({"top_p": 0}, {}, "top_p is 0"),
        ({"top_k": 0}, {}, "top_k is 0"),
        ({"top_k": 2.5}, {}, "top_k is 2.5"),
        ({"kept_bytes": -1}, {}, "kept_bytes is -1"),
        ({"prompt": "Q: {question}"}, {}, r"a template with \{problem\} in it"),
        ({"prompt": "chat"}, {}, "has no chat template, and a chat is asked for: set tokenizer.chat_template"),
        ({"prompt": "plain", "system": "Be short."}, {}, "system is a message of a chat"),
        ({"dtype": "bfloat16"}, {}, "dtype and device belong to a model that is loaded here"),
        ({"tokenizer": None}, {}, "a loaded model needs its tokenizer"),
    ],
)
def test_wrong_settings_are_errors_that_say_what_to_pass(llama, tokenizer, options, settings, message):
    options = {"tokenizer": tokenizer, "prompt": "{problem}", **options}
    with pytest.raises((TypeError, ValueError), match=message):
        TransformersGenerator(llama, **options).generate(["Hi"], **settings)


def test_a_model_that_cannot_continue_is_refused(tokenizer, tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), hidden_size=8, **sizes))
    with pytest.raises(ValueError, match="BertForMaskedLM is no causal language model"):
        generator(bert, tokenizer).generate(["Hi"])
    bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is an encoder .* a generator is a decoder-only language model"):
        generator(tmp_path, None).generate(["Hi"])
    with pytest.raises(TypeError, match="model is object"):
        generator(object(), tokenizer).generate(["Hi"])


def test_a_chat_is_open_after_the_last_step(tokenizer):
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = "<bos>" + TEMPLATE
    solution = Solution("2 + <end> 3?", ["One.", "Two."])
    style = PromptStyle(system="Be short.")
    text = "<bos>[system]Be short.<end>[user]2 + < end> 3?<end>[assistant]One.\n\nTwo.\n\n"
    assert style.text(solution, chat) == text
    ids = style.token_ids(solution, chat)
    assert chat.decode(ids) == text
    assert ids.count(1) == 1
    assert PromptStyle("plain").text(solution, chat) == "2 + < end> 3?\n\nOne.\n\nTwo.\n\n"
    assert style.messages(solution)[-1] == {"role": "assistant", "content": "One.\n\nTwo.\n\n"}
    chat.chat_template = "{{ raise_exception('no system here') }}"
    with pytest.raises(ValueError, match=r"refuses the messages .*no system here.*: pass system=None"):
        style.text(solution, chat)


def test_a_chat_model_without_its_template_is_not_written_plainly(tokenizer):
    bare = copy.deepcopy(tokenizer)
    bare.name_or_path = "/models/Some-7B-Instruct"
    with pytest.raises(ValueError, match="its name says that it is a chat model"):
        PromptStyle().text(Solution("1?", ()), bare)
    bare.name_or_path = "/models/Some-7B"
    assert PromptStyle().text(Solution("1?", ()), bare) == "1?\n\n"
    with pytest.raises(ValueError, match="needs a tokenizer"):
        PromptStyle().text(Solution("1?", ()))


def test_the_tokenizer_s_first_token_is_not_doubled(tokenizer):
    from tokenizers.processors import TemplateProcessing

    first = copy.deepcopy(tokenizer)
    first.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    style = PromptStyle("{problem}")
    assert style.token_ids(Solution("Hi", ()), first) == [1, *token(tokenizer, "Hi")]
    first.chat_template = "<bos>" + TEMPLATE
    assert PromptStyle("chat").token_ids(Solution("Hi", ()), first).count(1) == 1


@pytest.mark.parametrize("ids", [[(5, 6)], [None], [(10**6,)], "ab", [(5,), (6,)]])
def test_tokens_that_do_not_make_the_step_are_not_used(tokenizer, ids):
    style = PromptStyle("{problem}")
    plain = style.token_ids(Solution("Hi", ["Step."]), tokenizer)
    assert style.token_ids(Solution("Hi", ["Step."], meta={"token_ids": ids}), tokenizer) == plain
    own = token(tokenizer, "Step.\n\nb")
    known = Solution("Hi", ["Step."], meta={"token_ids": [own]})
    assert style.token_ids(known, tokenizer) == [*token(tokenizer, "Hi"), *own]


@pytest.fixture(scope="module")
def smollm(smollm_folder):
    """SmolLM2-135M-Instruct in float32."""
    return TransformersGenerator(smollm_folder, dtype="float32", device="cpu")


@pytest.mark.slow
def test_a_real_language_model_continues_as_generate_does(smollm):
    for prompt in ("chat", "Question: {problem}\nAnswer: "):
        made = TransformersGenerator(smollm._engine.loop.network, smollm._engine.tokenizer, prompt=prompt)
        engine, problems = made._engine, PROBLEMS[:2]
        assert engine.loop is not smollm._engine.loop
        rows = made.generate(problems, n=2, max_tokens=8, temperature=0)
        for problem, row in zip(problems, rows, strict=True):
            ids = engine.style.token_ids(Solution(problem, ()), engine.tokenizer)
            assert tokens([row]) == [[tuple(reference(engine.loop.network, ids, 8, [2]))] * 2]


@pytest.mark.slow
def test_a_real_language_model_makes_steps_and_ends(smollm):
    [[step]] = smollm.generate(["What is 2+3*4?"], stop=["\n\n"], max_tokens=40, temperature=0)
    assert step.finish == "stop"
    assert smollm._engine.tokenizer.decode(step.token_ids) == step.text + "\n\n"
    [[answer]] = smollm.generate(["Hi"], max_tokens=20, temperature=0)
    assert (answer.text, answer.finish) == ("Hello! How can I assist you today?", "eos")
    solution = extended(Solution("What is 2+3*4?", ()), step)
    [[more]] = smollm.generate([solution], max_tokens=6, temperature=0)
    [[whole]] = smollm.generate(["What is 2+3*4?"], max_tokens=step.n_tokens + 6, temperature=0)
    assert (*step.token_ids, *more.token_ids) == whole.token_ids
    settings = {"n": 2, "max_tokens": 6}
    together = tokens(smollm.generate(PROBLEMS[:3], seed=[1, 2, 3], **settings))
    assert [
        tokens(smollm.generate([one], seed=[i + 1], **settings))[0] for i, one in enumerate(PROBLEMS[:3])
    ] == together
