"""``prmkit train``: the options of a training run, and what they are called in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_DATA, _MODEL, _LEARNT = "Data", "Model", "What is learnt, and where it is read"
_RUN, _OUT = "Training", "Output"


def _option(panel: str, *names: str, text: str, value: str | None = None) -> Any:
    return typer.Option(*names, help=text, metavar=value, rich_help_panel=panel, show_default=False)


Text = str | None
Number = int | None
Real = float | None


def train(
    model: Annotated[
        str,
        _option(
            _MODEL,
            "--model",
            value="NAME_OR_FOLDER",
            text="A BERT-family encoder or a decoder-only language model: a local folder, a name on the Hugging Face "
            "hub, or all-MiniLM-L6-v2 of the extra 'offline'.",
        ),
    ],
    data: Annotated[
        list[str],
        _option(
            _DATA,
            "--data",
            value="FILE",
            text="What to learn from; may be given several times. JSON lines, JSON or Parquet, also gzipped, of rows "
            "with prompt, completions and labels; PRM800K's files or their folder; or the name owner/name of a "
            "Hugging Face data set. The content tells which it is.",
        ),
    ],
    output: Annotated[
        Path, _option(_OUT, "--output", value="FOLDER", text="Where checkpoints and the model go.")
    ],
    eval_data: Annotated[
        list[str] | None,
        _option(_DATA, "--eval-data", value="FILE", text="What to evaluate on; read as --data is."),
    ] = None,
    eval_fraction: Annotated[
        Real,
        _option(
            _DATA,
            "--eval-fraction",
            value="SHARE",
            text="Without --eval-data: share of the problems that is kept from training and evaluated on. Split by "
            "problem, drawn by --seed. Default: 0.1; 0 learns from everything.",
        ),
    ] = None,
    split: Annotated[
        Text,
        _option(_DATA, "--split", value="NAME", text="Split of a Hugging Face data set. Default: train."),
    ] = None,
    view: Annotated[
        str,
        _option(
            _DATA,
            "--view",
            value="prefixes|trajectories",
            text="Of PRM800K: every rated step, alternatives as rows of their own (prefixes, the default), or only "
            "the solution that each record follows.",
        ),
    ] = "prefixes",
    streaming: Annotated[
        bool,
        _option(_DATA, "--streaming", text="Read while training, for data beyond memory. Needs --max-steps."),
    ] = False,
    initialization: Annotated[
        Text,
        _option(
            _MODEL,
            "--initialization",
            value="pretrained|random",
            text="Whether the model keeps its weights. Default: pretrained.",
        ),
    ] = None,
    model_option: Annotated[
        list[str] | None,
        _option(
            _MODEL,
            "--model-option",
            value="KEY=VALUE",
            text="A setting of the model's configuration to change, such as num_hidden_layers=2.",
        ),
    ] = None,
    lora: Annotated[
        Number,
        _option(
            _MODEL,
            "--lora",
            value="RANK",
            text="Train adapters of this rank at all linear layers, and the head. Needs the package peft.",
        ),
    ] = None,
    loss: Annotated[
        Text,
        _option(
            _LEARNT,
            "--loss",
            value="NAME",
            text="cross_entropy (the default), reward_token, soft_cross_entropy, bce, mse, orm, rank, theory_rank or "
            "ablate_rank.",
        ),
    ] = None,
    zeta: Annotated[
        Real,
        _option(
            _LEARNT,
            "--zeta",
            value="NUMBER",
            text="Margin of the rank losses. The same as --loss-option zeta=…",
        ),
    ] = None,
    loss_option: Annotated[
        list[str] | None,
        _option(
            _LEARNT,
            "--loss-option",
            value="KEY=VALUE",
            text="An option of the loss, such as class_weight='\\[2, 1, 1]' (worst class first).",
        ),
    ] = None,
    scheme: Annotated[
        Text,
        _option(
            _LEARNT,
            "--scheme",
            value="NAME",
            text="separator (the default): a classifier at the end of each step. special_token: the same at a token "
            "added to the vocabulary. reward_tokens: a language model's logits of two or three tokens. prefix: one "
            "row per step, for models that cannot be kept from looking ahead.",
        ),
    ] = None,
    separator: Annotated[
        Text,
        _option(
            _LEARNT,
            "--separator",
            value="TEXT",
            text="What closes a step; \\n is read as a line break. Default: a line break, or the tokenizer's own "
            "separator where it drops white space, as BERT's does.",
        ),
    ] = None,
    reward_tokens: Annotated[
        Text,
        _option(
            _LEARNT,
            "--reward-tokens",
            value="WORST,…,BEST",
            text="One token per class. Default: -,+ or -,0,+.",
        ),
    ] = None,
    neutral: Annotated[
        Text,
        _option(
            _LEARNT,
            "--neutral",
            value="positive|negative|drop",
            text="What a neutral step counts as in a loss that knows right and wrong alone. Default: positive.",
        ),
    ] = None,
    label_order: Annotated[
        Text,
        _option(
            _LEARNT,
            "--label-order",
            value="WORST,…,BEST",
            text="The labels of the data, where they are neither true and false nor 0 and 1, such as -1,0,1.",
        ),
    ] = None,
    max_length: Annotated[
        Number,
        _option(
            _LEARNT,
            "--max-length",
            value="TOKENS",
            text="Of problem and steps. Steps that do not fit are left out whole, and counted. Default: 1024, or what "
            "the model has positions for.",
        ),
    ] = None,
    epochs: Annotated[
        Real, _option(_RUN, "--epochs", value="NUMBER", text="Passes over the data. Default: 3.")
    ] = None,
    max_steps: Annotated[
        Number, _option(_RUN, "--max-steps", value="NUMBER", text="Updates, in place of --epochs.")
    ] = None,
    learning_rate: Annotated[
        Real,
        _option(
            _RUN,
            "--learning-rate",
            value="NUMBER",
            text="Default: 1e-5, for language models; small encoders and adapters want 1e-4.",
        ),
    ] = None,
    tokens_per_batch: Annotated[
        Number,
        _option(
            _RUN,
            "--tokens-per-batch",
            value="TOKENS",
            text="Per device and pass; solutions of like length go together. Default: 8192.",
        ),
    ] = None,
    bf16: Annotated[
        bool | None,
        _option(_RUN, "--bf16/--no-bf16", text="bfloat16. Default: on a GPU that computes in it."),
    ] = None,
    seed: Annotated[
        int,
        _option(_RUN, "--seed", value="NUMBER", text="Of new weights, batches and the split. Default: 0."),
    ] = 0,
    more: Annotated[
        list[str] | None,
        _option(
            _RUN,
            "--set",
            value="KEY=VALUE",
            text="Any other setting of prmkit.models.PRMTrainingConfig, and so of transformers' TrainingArguments, "
            "such as gradient_accumulation_steps=4 or save_strategy=no.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        _option(_OUT, "--resume", text="Go on from the last checkpoint in --output, with the same options."),
    ] = False,
    overwrite: Annotated[
        bool, _option(_OUT, "--overwrite", text="Start anew in a folder that holds an earlier run.")
    ] = False,
    push_to_hub: Annotated[
        bool,
        _option(
            _OUT,
            "--push-to-hub",
            text="Upload the model when it is trained; --set hub_model_id=owner/name says where.",
        ),
    ] = False,
    report_to: Annotated[
        str,
        _option(_OUT, "--report-to", value="NAME", text="tensorboard, wandb, … Default: none."),
    ] = "none",
) -> None:
    r"""Fine-tune a model as a process reward model: it then says of each step how right it is.

    Rows hold a problem (prompt), its steps (completions) and a label for each step
    (labels: true or false, 0 or 1, a probability such as 0.7, or null for none).
    A share of the problems is kept from training for the evaluation, and what is
    cut off is counted. PRMClassifier.from_pretrained(FOLDER) reads what comes out.

    A small encoder on PRM800K, on a laptop, with the extra 'offline':
      prmkit train --model all-MiniLM-L6-v2 --data phase2_train.jsonl \
        --learning-rate 1e-4 --output prm

    Adapters of a language model, with PQM's ranking loss:
      prmkit train --model Qwen/Qwen2.5-0.5B --data steps.jsonl \
        --loss rank --zeta 4 --lora 16 --output prm

    On all GPUs of a machine, from a stream (after an interruption: with --resume):
      accelerate launch -m prmkit.cli train --model Qwen/Qwen2.5-0.5B \
        --data trl-lib/math_shepherd --streaming --max-steps 2000 --output prm
    """
    options = dict(locals())
    from prmkit.cli._train_run import run

    run(options)
