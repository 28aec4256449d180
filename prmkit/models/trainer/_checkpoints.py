"""Checkpoints: which one is whole after a run was killed, whether it belongs to this run, and the model's card."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from prmkit.data.solution import Solution
from prmkit.marking.encoding import encode_solution
from prmkit.marking.scheme import EXAMPLE, MarkingScheme, SolutionWriter
from prmkit.models.tokens.model_folder import ModelDescription, read_description
from prmkit.models.tokens.scoring_pass import Readout

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

_SHOWN = Solution("What is 2 + 3 * 4?", ("3 * 4 = 12.", "2 + 12 = 15."))
"""The solution in the examples of the card."""
_CARD = """\
---
library_name: {library}
{fields}tags:
{tags}
---

# {name}

A process reward model: it reads a problem and a solution step by step, and says of each step how right it is.
Trained with [prmkit](https://pypi.org/project/prmkit/), loss `{loss}`, marking scheme `{scheme}`.

```python
from prmkit import PRMClassifier, Solution

clf = PRMClassifier.from_pretrained("{source}")
scored = clf.score_solutions([Solution("{problem}", {steps})])[0]
print(scored, scored.rewards)
```

Outputs, worst first: {classes}. `prmkit.json` holds the scheme, the order of the classes and the versions it was
trained with. A step is scored from the problem and the steps up to it alone.
{pipeline}"""
_SAME_SCORES = """
`transformers.pipeline` gives the same scores for exactly this text. It has no white space but what stands here, and
{separator} ends each step. Other solutions are written in the same way.

```python
from transformers import pipeline

text = {text}
ends = {ends}  # where the separator of each step ends
tokens = pipeline("token-classification", "{source}", ignore_labels=[])(text)
print([(token["entity"], token["score"]) for token in tokens if token["end"] in ends])  # the most probable output
```
"""
_OTHER_TOKENS = """
Score with prmkit: the text of a solution as one string has other tokens for this tokenizer, or for the one that a
pipeline takes by itself, than problem, steps and separators apart, so that
`transformers.pipeline("token-classification")` gives somewhat other scores.
"""
_LOOKS_AHEAD = """
Score with prmkit, which keeps the attention of this encoder block-causal. In
`transformers.pipeline("token-classification")` it is not: there a step sees the later ones, and scores differ.
"""


def model_card(
    description: ModelDescription,
    tokenizer: PreTrainedTokenizerBase,
    readout: Readout,
    config: PreTrainedConfig,
    *,
    name: str,
    source: str,
    is_adapter: bool,
    tags: str | Iterable[str] | None,
    **fields: str | None,
) -> str:
    """Return the README of a trained model in Markdown. The fields that are not empty stand in its header.

    ``source`` is the name or folder to load the model from, in the example.
    """
    extra = [tags] if isinstance(tags, str) else list(tags or ())
    all_tags = dict.fromkeys(["prm", "process-reward-model", "prmkit", *extra])
    return _CARD.format(
        library="peft" if is_adapter else "transformers",
        fields="".join(f"{key}: {value}\n" for key, value in fields.items() if value),
        tags="\n".join(f"- {tag}" for tag in all_tags),
        name=name,
        source=source,
        loss=description.loss,
        scheme=description.scheme.name,
        classes=", ".join(f"`{label}`" for label in description.classes),
        problem=_SHOWN.problem,
        steps=json.dumps(_SHOWN.steps),
        pipeline=_note_on_pipeline(description.scheme, tokenizer, readout, config, source),
    )


def _note_on_pipeline(
    scheme: MarkingScheme, tokenizer: PreTrainedTokenizerBase, readout: Readout, config: PreTrainedConfig, source: str
) -> str:
    """Say whether transformers' pipeline gives the same scores, and for which text."""
    from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, AutoTokenizer

    if readout.by_blocks:
        return _LOOKS_AHEAD
    if (
        readout.kind != "tokens"
        or readout.reads == "reward"
        or type(config) not in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    ):
        return ""
    writer, bos = SolutionWriter(tokenizer, scheme), getattr(tokenizer, "bos_token", None) or ""
    with TemporaryDirectory() as folder:
        for part in (tokenizer, config):
            part.save_pretrained(folder)
        # The pipeline may take another tokenizer than the one that was saved: the usual one of the architecture.
        taken = AutoTokenizer.from_pretrained(folder)
    for solution in (EXAMPLE, _SHOWN):
        # The pipeline writes the token of the beginning by itself.
        pieces = writer.write(solution, solution.n_steps).pieces
        pieces[0] = pieces[0].removeprefix(bos)
        ids = encode_solution(tokenizer, solution, solution.n_steps, scheme).input_ids
        if taken("".join(pieces))["input_ids"] != ids.tolist():
            return _OTHER_TOKENS
    ends = list(accumulate(map(len, pieces)))[1:]
    separator = f"`{writer.separator!r}`"
    return _SAME_SCORES.format(text=repr("".join(pieces)), ends=ends, separator=separator, source=source)


_LAST_FILE = "trainer_state.json"
"""The trainer writes it when the rest of a checkpoint is on disk."""


def last_checkpoint(folder: str | Path) -> str:
    """Return the newest checkpoint of a folder that was written to its end. A warning names an interrupted one."""
    numbered = {path.name.split("-")[-1]: path for path in Path(folder).glob("checkpoint-*")}
    for number in sorted(filter(str.isdigit, numbered), key=int, reverse=True):
        checkpoint = numbered[number]
        if _is_whole(checkpoint):
            return str(checkpoint)
        warnings.warn(f"{checkpoint} was not written to its end, and is passed over", stacklevel=3)
    raise ValueError(f"no checkpoint in {folder}: leave resume_from_checkpoint out to start from the beginning")


def check_checkpoint(folder: str | Path, current: ModelDescription) -> None:
    """Raise ValueError unless a run with these settings can go on from a checkpoint."""
    saved = read_description(folder)
    if saved is None:
        raise ValueError(f"{folder} was not saved by PRMTrainer (no prmkit.json): pass it as model, to start from it")
    for name in ("scheme", "classes", "reads", "loss", "loss_options", "objectives", "fingerprint"):
        before, now = getattr(saved, name), getattr(current, name)
        if before != now:
            raise ValueError(
                f"{folder} was trained with {name} {before}, and this run has {now}: resume with the settings it "
                "was started with, or pass the folder as model, to start anew from its weights"
            )


def _is_whole(checkpoint: Path) -> bool:
    """Whether the last file of a checkpoint can be read."""
    try:
        json.loads((checkpoint / _LAST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
