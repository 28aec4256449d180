"""What the tests of the trainer share: small step-labelled rows, and a trainer of a small random model on them."""

import gc
import random

import pytest

TINY_BERT = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture(scope="session", autouse=True)
def _frozen_imports():
    """Accelerate collects garbage before each run: half a second for what the libraries hold, unless it is frozen."""
    import prmkit.models.trainer._trainer  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def make_rows():
    """Sums, some of them wrong: ``labels`` maps the truth of a step and a random number to its label."""

    def make(n_rows, *, seed=0, max_steps=4, label=lambda right, chance: right):
        generator = random.Random(seed)
        rows = []
        for _ in range(n_rows):
            numbers = [generator.randint(1, 20) for _ in range(generator.randint(1, max_steps) + 1)]
            steps, labels, total = [], [], numbers[0]
            for number in numbers[1:]:
                right = generator.random() < 0.6
                steps.append(f"{total} + {number} = {total + number + (0 if right else 1)}")
                labels.append(label(right, generator.random()))
                total += number
            rows.append({"prompt": f"Add {' and '.join(map(str, numbers))}.", "completions": steps, "labels": labels})
        return rows

    return make


@pytest.fixture(scope="session")
def trl_row():
    """TRL's rule for one stepwise row, written anew: ids, and labels at the last token of each separator."""

    def tokenize(row, tokenizer, separator, max_length, max_completion_length, last_only, is_eval):
        def ids(text):
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])

        labels = [-100 if label is None else label for label in row["labels"]]
        if last_only and not is_eval:
            labels = [-100] * (len(labels) - 1) + labels[-1:]
        prompt, tokens, targets = ids(row["prompt"]), [], []
        if tokenizer.bos_token_id is not None:
            prompt = [tokenizer.bos_token_id, *prompt]
        for step, label in zip(row["completions"], labels, strict=True):
            tokens += ids(step) + ids(separator)
            targets += [-100] * (len(tokens) - len(targets) - 1) + [label]
        return {
            "input_ids": (prompt + tokens[:max_completion_length])[:max_length],
            "labels": ([-100] * len(prompt) + targets[:max_completion_length])[:max_length],
        }

    return tokenize


@pytest.fixture(scope="session")
def tiny_tokenizer(make_tokenizer):
    return make_tokenizer()


@pytest.fixture
def settings(tmp_path):
    """Settings of a quiet run on the CPU; keywords change them."""
    from prmkit.models import PRMTrainingConfig

    def make(**changes):
        quiet = {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "disable_tqdm": True,
            "save_strategy": "no",
            "report_to": "none",
            "logging_steps": 1,
            "learning_rate": 1e-3,
            "max_steps": 2,
        }
        return PRMTrainingConfig(**{**quiet, **changes})

    return make


@pytest.fixture
def make_trainer(settings, make_tokenizer, make_language_model):
    """A trainer of a small random Qwen2; ``backbone="bert"``: of a small random BERT."""
    from prmkit.models import PRMTrainer

    kinds = {"prefix": "AutoModelForSequenceClassification", "reward_tokens": "AutoModelForCausalLM"}

    def make(rows, *, backbone="qwen2", n_outputs=2, tokenizer=None, model=None, **changes):
        own = ("eval_dataset", "callbacks", "compute_metrics", "optimizers", "peft_config", "model_init")
        own += ("preprocess_logits_for_metrics",)
        options = {name: changes.pop(name) for name in own if name in changes}
        if backbone == "bert":
            args = settings(initialization="random", model_kwargs=TINY_BERT, **changes)
            return PRMTrainer("all-MiniLM-L6-v2", args, train_dataset=rows, **options)
        args = settings(**changes)
        tokenizer = make_tokenizer() if tokenizer is None else tokenizer
        if model is None and "model_init" not in options:
            kind = kinds.get(args.scheme_name, "AutoModelForTokenClassification")
            outputs = {} if args.scheme_name == "reward_tokens" else {"num_labels": n_outputs}
            model = make_language_model(tokenizer, kind, **outputs)
        return PRMTrainer(model, args, train_dataset=rows, processing_class=tokenizer, **options)

    return make
