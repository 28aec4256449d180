"""
Score with an existing PRM
==========================

One pass scores all steps of a solution. Without an argument the script uses a small model with random weights, so
its scores mean nothing. With a published model::

    python 06_score_with_pretrained_prm.py Qwen/Qwen2.5-Math-PRM-7B qwen2.5-math-prm

Other layouts are trl, math-shepherd, rlhflow, pqm, skywork and reasoneval. A model that ``PRMTrainer`` saved
needs no name of a layout.
"""

import json
import sys
import tempfile
from pathlib import Path

from prmkit import PRMClassifier, Solution

SOLUTIONS = [
    Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14.", "The answer is 14."]),
    Solution("What is 2 + 3 * 4?", ["2 + 3 = 5.", "5 * 4 = 20.", "The answer is 20."]),
]


def made_up(folder: str) -> Path:
    """Save a tiny random model in the layout of Qwen2.5-Math-PRM: a Qwen2, and a head of two layers beside it."""
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|im_start|>", "<|im_end|>", "<extra_0>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator(["The answer is 12. Add 3."], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<|im_end|>")
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}"
    )
    tokenizer.save_pretrained(folder)

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    weights = {f"model.{name}": weight for name, weight in Qwen2Model(config).state_dict().items()}
    for layer, n_outputs in (("score.0", 32), ("score.2", 2)):
        weights[f"{layer}.weight"] = torch.randn(n_outputs, 32) / 4
        weights[f"{layer}.bias"] = torch.zeros(n_outputs)
    save_file(weights, Path(folder) / "model.safetensors", {"format": "pt"})
    (Path(folder) / "config.json").write_text(json.dumps({**config.to_dict(), "dtype": "float32"}))
    return Path(folder)


# %%
# Load the model, and score two solutions of one problem.

with tempfile.TemporaryDirectory() as folder:
    name = sys.argv[1] if len(sys.argv) > 1 else made_up(folder)
    layout = sys.argv[2] if len(sys.argv) > 2 else None if len(sys.argv) > 1 else "qwen2.5-math-prm"
    classifier = PRMClassifier.from_pretrained(name, layout)
    print("scheme:", classifier.head_.scheme_)
    scored_solutions = classifier.score_solutions(SOLUTIONS)

for scored in scored_solutions:
    print(f"\n{scored}")

# %%
# To choose among solutions takes one number per solution: the smallest of its rewards, their product, their mean
# and so on.

best = max(scored_solutions, key=lambda scored: scored.aggregates["min"])
print("\nchosen:", best.solution.steps[-1], "" if len(sys.argv) > 1 else "(by random weights)")
