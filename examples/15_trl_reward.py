"""
A reward for reinforcement learning
===================================

A process reward model becomes a reward function of TRL (``pip install -e ".[rl]"``). Without it, this script
shows the rewards alone.
"""

import importlib.util
import tempfile

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.decoding import PRMReward

known = make_arithmetic_solutions(100, 3, random_state=0)
clf = PRMClassifier(views=("statistics", "words"), random_state=0).fit(known.X, known.y)

# %%
# A trainer calls the reward with prompts and completions, as texts or as messages. A reward is the lowest reward of the
# steps. An empty completion has none.

problem = "A hat costs 20 dollars. What do 8 hats cost?"
right = "We multiply 20 by 8.\n\n20 * 8 = 160.\n\nThe answer is 160."
wrong = "We multiply 20 by 8.\n\n20 * 8 = 170.\n\nThe answer is 170."
padded = wrong + "\n\nWe have multiplied 20 by 8.\n\n20 * 8 is a product.\n\nThe hats are paid."

lowest, mean = PRMReward(clf, name="process"), PRMReward(clf, aggregate="mean")
print("lowest", lowest([problem] * 4, [right, wrong, padded, ""]))
print("mean  ", mean([problem] * 3, [right, wrong, padded]))
print(lowest.n_unscored_, "without a reward:", dict(lowest.unscored_))

# %%
# Trainers that take a reward per token get it at the last token of each step. Without token ids, at its last character.

positions, values = lowest.step_rewards(wrong, problem)
for position, value in zip(positions, values, strict=True):
    print(f"{value:.2f} at {position:3}: …{wrong[: position + 1][-20:]!r}")

# %%
# A few steps of GRPO on a tiny model that knows nothing, so that the script runs anywhere. Name your own model instead.
# The lowest reward is high for a short text that solves nothing: give a second reward for the answer, too.


def right_answer(completions, answer, **_):
    """Give 1 for a completion that holds the answer."""
    return [float(truth in text) for text, truth in zip(completions, answer, strict=True)]


def tiny_model(folder):
    """Save a random language model whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    letters = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>").save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=len(letters), eos_token_id=1, **sizes, **heads)).save_pretrained(folder)


if importlib.util.find_spec("trl") is None:
    print('pip install -e ".[rl]" shows the training, too')
else:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    with tempfile.TemporaryDirectory() as folder:
        tiny_model(folder)
        settings = GRPOConfig(
            output_dir=folder,
            max_steps=5,
            per_device_train_batch_size=4,
            num_generations=4,
            max_completion_length=16,
            logging_steps=1,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=folder,
            reward_funcs=[lowest, right_answer],
            args=settings,
            train_dataset=Dataset.from_dict({"prompt": [problem] * 8, "answer": ["160"] * 8}),
        )
        trainer.train()
        for log in trainer.state.log_history[:-1]:
            print({name: log[name] for name in ("reward", "rewards/process/mean", "rewards/right_answer/mean")})
