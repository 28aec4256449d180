"""Published PRMs as data: the text that each was trained on, where its scores are read, the names of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from prmkit.marking.scheme import MarkingScheme


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """Names and shapes of a scoring head in a checkpoint: linear layers, first to last, with a ReLU between two.

    ``backbones`` are the possible beginnings of the names of the transformer's weights, the published one first. If
    ``bias`` is None, the checkpoint decides.
    """

    layers: tuple[str, ...]
    n_outputs: int
    backbones: tuple[str, ...] = ("model.",)
    bias: bool | None = True


@dataclass(frozen=True, slots=True)
class Preset:
    """One published layout of a PRM.

    ``kind`` is "classifier" (of tokens or, with prefixes, of rows), "causal_lm" or "value_head" (a transformer with a
    ``head`` of its own). ``classes`` label the outputs, worst first, for a causal language model in the order of
    ``scheme.reward_tokens``. A head with one output scores the last class. ``activation`` turns outputs into
    probabilities: "softmax", "sigmoid", or "none" for a raw reward that was trained to rank, whose sigmoid is a
    probability by convention only. ``source`` is the publication. ``bos``: whether the text begins with the
    tokenizer's BOS token.
    """

    name: str
    scheme: MarkingScheme
    kind: str
    source: str
    classes: tuple[int, ...] | tuple[str, ...] = (0, 1)
    head: HeadLayout | None = None
    activation: str = "softmax"
    bos: bool = True


# Steps are joined by a line break and each closed by it; column 1 is LABEL_1, "right".
_TRL = Preset(
    name="trl",
    scheme=MarkingScheme("separator", step_separator="\n"),
    kind="classifier",
    source="huggingface/trl, PRMTrainer (default step_separator); AutoModelForTokenClassification",
)

# "<problem> Step 1: … ки\nStep 2: … ки" is tokenised as one. The scores are the logits of "+" and "-" at the tag. The
# original upload has pickled weights only. Convert it, or use a copy in safetensors.
_MATH_SHEPHERD = Preset(
    name="math-shepherd",
    scheme=MarkingScheme(
        "reward_tokens",
        step_separator=" ки",
        reward_tokens=(" -", " +"),
        opening="{problem} ",
        step="Step {number}: {step}",
        between="\n",
        joint=True,
    ),
    kind="causal_lm",
    source="peiyi9979/math-shepherd-mistral-7b-prm (model card); data card peiyi9979/Math-Shepherd; arXiv:2312.08935",
)

# The first user's message holds problem and first step, with a space between them. Each verdict in the text is "+",
# whatever the model would say. The logits are those of the token before the verdict.
_RLHFLOW = Preset(
    name="rlhflow",
    scheme=MarkingScheme("reward_tokens", step_separator="", reward_tokens=("-", "+"), chat="turns"),
    kind="causal_lm",
    source="RLHFlow/Llama3.1-8B-PRM-Deepseek-Data; RLHFlow/RLHF-Reward-Modeling, math-rm/prm_evaluate.py",
)

# Column 1 is "right". The repository's own modelling code is not needed: its transformer is a plain Qwen2.
_QWEN = Preset(
    name="qwen2.5-math-prm",
    scheme=MarkingScheme(
        "special_token",
        step_separator="<extra_0>",
        joint=True,
        chat="answer",
        system="Please reason step by step, and put your final answer within \\boxed{}.",
    ),
    kind="value_head",
    head=HeadLayout(layers=("score.0", "score.2"), n_outputs=2),
    source="Qwen/Qwen2.5-Math-PRM-7B (model card, config.json); arXiv:2501.07301",
)

# The upload holds only model.safetensors, in zeta-2 and zeta-4. Put it into a folder beside config and tokenizer of
# deepseek-ai/deepseek-math-7b-base. "[PRM]" is then added as the last token, as in training. There is no BOS.
_PQM = Preset(
    name="pqm",
    scheme=MarkingScheme(
        "special_token",
        step_separator="[PRM]",
        opening=(
            "Below is an instruction that describes a task.\nWrite a response that appropriately completes the request."
            "\n\n### Instruction:\n{problem}\n\n### Response: Let's think step by step\n"
        ),
        step="Step {number}: {step} ",
        between="\n",
        joint=True,
    ),
    kind="value_head",
    head=HeadLayout(layers=("v_head.summary",), n_outputs=1, backbones=("pretrained_model.model.", "model.")),
    activation="none",
    source="Windy0822/PQM; WindyLee0822/Process_Q_Model, train_main.py and bon_eval_hf.py; arXiv:2410.11287",
    bos=False,
)

# Problem, steps and line breaks are tokenised apart. The published loader takes one line as one step.
_SKYWORK = Preset(
    name="skywork",
    scheme=MarkingScheme("separator", step_separator="\n", opening="{bos}{problem}\n"),
    kind="value_head",
    head=HeadLayout(layers=("v_head.summary",), n_outputs=1, backbones=("model.", "pretrained_model.model.")),
    activation="sigmoid",
    source="Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B (model card, config.json); SkyworkAI/skywork-o1-prm-inference",
)

# The published code puts pad tokens between the steps, tokenises, and takes them out again. So the model sees none, and
# a step is read at its own last token. (Its branch for the 7B model then shifts all positions by one, to the token
# before the last. The branch for the 34B model does not.)
_REASONEVAL = Preset(
    name="reasoneval",
    scheme=MarkingScheme(
        "separator", step_separator="", opening="Question:\n{problem}\nAnswer:\nLet's think step by step.\n"
    ),
    kind="value_head",
    classes=("negative", "neutral", "positive"),
    head=HeadLayout(layers=("score_head",), n_outputs=3, bias=None),
    source="GAIR/ReasonEval-7B and -34B; GAIR-NLP/ReasonEval, codes/examples.py; arXiv:2404.05692",
)

OWN = "own"
"""The name of a layout that a user describes by a ``MarkingScheme``."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for preset in (_TRL, _MATH_SHEPHERD, _RLHFLOW, _QWEN, _PQM, _SKYWORK, _REASONEVAL)}
)


def get_preset(name: str | MarkingScheme) -> Preset:
    """Return the record of a published layout, or one for a marking scheme of the user's own."""
    if isinstance(name, MarkingScheme):
        kind = "causal_lm" if name.reads_language_model else "classifier"
        if name.reads_language_model and name.reward_tokens is None:
            raise ValueError("layout=MarkingScheme('reward_tokens') needs reward_tokens=(worst, …, best) to read")
        return Preset(OWN, name, kind, "the user's own marking", tuple(range(len(name.reward_tokens or ""))))
    if name not in PRESETS:
        raise ValueError(f"no layout {name!r}: choose one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]
