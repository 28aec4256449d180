"""Checkpoints in the published layouts, tiny and random, each with the published recipe for its scores."""

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message['role'] }}<|end|>\n\n"
    "{{ message['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
FOREIGN = "raise SystemExit('code of a checkpoint was run')\n"


def tiny_model(config_class, n_rows, auto="AutoModelForCausalLM", **options):
    config = config_class(
        vocab_size=n_rows,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,  # a solution of 32 steps in the longest layout has 1174 tokens
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return getattr(transformers, auto).from_config(config).eval()


def random_layers(*shapes, bias=True):
    generator = torch.Generator().manual_seed(2)

    def draw(*shape):
        return 0.2 * torch.randn(shape, generator=generator)  # no saturated scores

    return [(draw(n_out, n_in), draw(n_out) if bias else None) for n_in, n_out in shapes]


def named(layers, *names):
    pairs = {f"{name}.weight": weight for name, (weight, _) in zip(names, layers, strict=True)}
    return pairs | {f"{name}.bias": bias for name, (_, bias) in zip(names, layers, strict=True) if bias is not None}


def write(folder, model, tokenizer, head=None, prefix="", **config):
    """Save weights under their published names, with a configuration that points to code that must not run."""
    folder.mkdir()
    tokenizer.save_pretrained(folder)
    weights = {f"{prefix}{key}": value.clone() for key, value in model.state_dict().items()}
    save_file(weights | (head or {}), folder / "model.safetensors", {"format": "pt"})
    fields = model.config.to_dict() | {"dtype": "float32"} | config
    if "auto_map" in config:
        (folder / "modeling_own.py").write_text(FOREIGN)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def trl(folder, make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>")
    model = tiny_model(transformers.Qwen2Config, len(tokenizer) + 3, "AutoModelForTokenClassification", num_labels=2)
    torch.nn.init.normal_(model.score.weight)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)

    def scores(tokenizer, solution):
        ids, positions = [tokenizer.bos_token_id, *plain_ids(tokenizer, solution.problem)], []
        for step in solution.steps:
            ids += plain_ids(tokenizer, step) + plain_ids(tokenizer, "\n")
            positions.append(len(ids) - 1)
        return model(torch.tensor([ids])).logits[0, positions].softmax(-1)[:, 1]

    return scores


def math_shepherd(folder, make_tokenizer):
    tokenizer = sentencepiece_like()
    model = tiny_model(transformers.LlamaConfig, len(tokenizer))
    write(folder, model, tokenizer, architectures=["LlamaForCausalLM"])

    def scores(tokenizer, solution):
        answer = "\n".join(f"Step {i}: {step} ки" for i, step in enumerate(solution.steps, 1))
        ids = torch.tensor([tokenizer.encode(f"{solution.problem} {answer}")])
        candidates = tokenizer.encode("+ -")[1:]
        good = model(ids).logits[:, :, candidates].softmax(-1)[:, :, 0]
        return good[ids == tokenizer.encode("ки")[-1]]

    return scores


def rlhflow(folder, make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>", extra=("<|start|>", "<|end|>", "<|eot|>"))
    tokenizer.chat_template = LLAMA
    model = tiny_model(transformers.LlamaConfig, len(tokenizer))
    write(folder, model, tokenizer, architectures=["LlamaForCausalLM"])

    def scores(tokenizer, solution):
        conversation, found = [], []
        candidates = tokenizer.convert_tokens_to_ids(["+", "-"])
        for i, step in enumerate(solution.steps):  # one pass per step, the verdict is the last token but one
            text = step if i else f"{solution.problem} {step}"
            conversation += [{"role": "user", "content": text}, {"role": "assistant", "content": "+"}]
            ids = plain_ids(tokenizer, tokenizer.apply_chat_template(conversation, tokenize=False))
            found.append(model(torch.tensor([ids])).logits[0, -3, candidates].softmax(-1)[0])
        return torch.stack(found)

    return scores


def qwen(folder, make_tokenizer):
    tokenizer = make_tokenizer(extra=("<|im_start|>", "<|im_end|>", "<extra_0>"))
    tokenizer.chat_template = CHATML
    model = tiny_model(transformers.Qwen2Config, len(tokenizer) + 5)
    layers = random_layers((32, 32), (32, 2))
    write(
        folder,
        model,
        tokenizer,
        named(layers, "score.0", "score.2"),
        architectures=["Qwen2ForProcessRewardModel"],
        auto_map={"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"},
    )

    def scores(tokenizer, solution):
        messages = [
            {"role": "system", "content": "Please reason step by step, and put your final answer within \\boxed{}."},
            {"role": "user", "content": solution.problem},
            {"role": "assistant", "content": "<extra_0>".join(solution.steps) + "<extra_0>"},
        ]
        ids = torch.tensor([plain_ids(tokenizer, tokenizer.apply_chat_template(messages, tokenize=False))])
        (inner, inner_bias), (outer, outer_bias) = layers
        hidden = (hidden_states(model, ids) @ inner.T + inner_bias).clamp(min=0)
        probabilities = (hidden @ outer.T + outer_bias).softmax(-1)
        return probabilities[ids == tokenizer.convert_tokens_to_ids("<extra_0>")][:, 1]

    return scores


def pqm(folder, make_tokenizer):
    tokenizer = with_bos(make_tokenizer(bos="<s>"))
    model = tiny_model(transformers.LlamaConfig, len(tokenizer) + 1)
    ((weight, bias),) = layers = random_layers((32, 1))
    write(
        folder,
        model,
        tokenizer,
        named(layers, "v_head.summary"),
        prefix="pretrained_model.",
        vocab_size=400,  # of the base model
    )

    def scores(tokenizer, solution):
        tokenizer.add_special_tokens({"additional_special_tokens": ["[PRM]"]})
        query = (
            "Below is an instruction that describes a task.\n"
            "Write a response that appropriately completes the request.\n\n"
            f"### Instruction:\n{solution.problem}\n\n### Response: Let's think step by step"
        )
        answer = " [PRM]\n".join(f"Step {i}: {step}" for i, step in enumerate(solution.steps, 1)) + " [PRM]"
        ids = torch.tensor([plain_ids(tokenizer, f"{query}\n{answer}")])
        rewards = hidden_states(model, ids) @ weight[0] + bias
        return rewards[ids == tokenizer.convert_tokens_to_ids("[PRM]")]

    return scores


def skywork(folder, make_tokenizer):
    tokenizer = make_tokenizer(bos="<s>")
    model = tiny_model(transformers.Qwen2Config, len(tokenizer) + 3, tie_word_embeddings=True)
    ((weight, bias),) = layers = random_layers((32, 1))
    write(
        folder,
        model,
        tokenizer,
        named(layers, "v_head.summary"),
        architectures=["Qwen2ForPrmModel"],
        auto_map={"AutoConfig": "modeling_own.Own", "AutoModel": "modeling_own.Own"},
    )

    def scores(tokenizer, solution):
        ids = plain_ids(tokenizer, f"<s>{solution.problem}\n")
        flags = [False] * len(ids)
        for line in solution.steps:
            step = [*plain_ids(tokenizer, line), plain_ids(tokenizer, "\n")[-1]]
            ids += step
            flags += [False] * (len(step) - 1) + [True]
        rewards = hidden_states(model, torch.tensor([ids]))[0] @ weight[0] + bias
        return rewards[torch.tensor(flags)].sigmoid()

    return scores


def reasoneval(folder, make_tokenizer):
    tokenizer = with_bos(make_tokenizer(bos="<s>"))
    model = tiny_model(transformers.MistralConfig, len(tokenizer) + 3)
    ((weight, _),) = layers = random_layers((32, 3), bias=False)
    write(
        folder, model, tokenizer, named(layers, "score_head"), architectures=["ReasonEval_34B"], score_dim=3, bias=False
    )

    def scores(tokenizer, solution):
        text = f"Question:\n{solution.problem}\nAnswer:\nLet's think step by step.\n<pad>" + "".join(
            f"{step}<pad>" for step in solution.steps
        )
        kept, positions = [], []
        for token in tokenizer(text)["input_ids"]:
            if token == tokenizer.pad_token_id:
                positions.append(len(kept) - 1)
            else:
                kept.append(token)
        logits = hidden_states(model, torch.tensor([kept]))[0, positions[1:]] @ weight.T
        return logits.softmax(-1)

    return scores


LAYOUTS = {
    "trl": trl,
    "math-shepherd": math_shepherd,
    "rlhflow": rlhflow,
    "qwen2.5-math-prm": qwen,
    "pqm": pqm,
    "skywork": skywork,
    "reasoneval": reasoneval,
}


@pytest.fixture
def published(tmp_path, make_tokenizer):
    """Write a checkpoint in a published layout; return its folder, and the published recipe for a solution's scores."""

    def make(name):
        return tmp_path / name, LAYOUTS[name](tmp_path / name, make_tokenizer)

    return make


def with_bos(tokenizer):
    """Let the tokenizer open every text with BOS, as those of Llama and Mistral do."""
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def sentencepiece_like():
    """A tokenizer with word-initial spaces, to which "+" after a space and "+" alone are different tokens."""
    texts = [
        "What is 2 + 3 * 4 ?",
        "Step 1 : 3 * 4 = 12 . ки",
        "+ - + - ки ки",
        "What is 2 + 3 * 4? 3 * 4 = 12. We add 2 + 12 = 14. So the answer is 14.",
    ]
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=list("+-:\n0123456789"),
        show_progress=False,
    )
    inner.train_from_iterator(texts * 3, trainer)
    return with_bos(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    )


def plain_ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def hidden_states(model, ids):
    return model(ids, output_hidden_states=True).hidden_states[-1]


@pytest.fixture(scope="session")
def language_model(make_tokenizer, make_language_model, tmp_path_factory):
    """Folder of a tiny language model of random weights."""
    folder = tmp_path_factory.mktemp("language_model")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_language_model(tokenizer).save_pretrained(folder)
    return folder
