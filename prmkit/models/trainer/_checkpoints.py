"""Resuming: which checkpoint is whole after a run was killed, and whether it belongs to this run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prmkit.marking.encoding import encode_solution
from prmkit.marking.scheme import MarkingScheme
from prmkit.marking.scheme import EXAMPLE, separator_text
from prmkit.models.tokens._model_files import ModelDescription, read_description

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
scored = clf.score_solutions([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])[0]
print(scored, scored.rewards)
```

Outputs, worst first: {classes}. `prmkit.json` holds the scheme, the order of the classes and the versions it was
trained with. A step is scored from the problem and the steps up to it alone.
{pipeline}"""
_SAME_SCORES = """
`transformers.pipeline("token-classification")` gives the same scores at the last token of each separator.
"""
_OTHER_TOKENS = """
Score with prmkit: the text of a solution as one string has other tokens for this tokenizer than problem, steps and
separators apart, so that `transformers.pipeline("token-classification")` gives somewhat other scores.
"""
_LOOKS_AHEAD = """
Score with prmkit, which keeps the attention of this encoder block-causal. In
`transformers.pipeline("token-classification")` it is not: there a step sees the later ones, and scores differ.
"""


def write_model_card(
    trainer: Any,
    name: str | None = None,
    dataset: str | None = None,
    tags: str | Iterable[str] | None = None,
    license: str | None = None,  # noqa: A002
    language: str | None = None,
) -> None:
    """Write ``README.md`` into the trainer's output folder."""
    args, config = trainer.args, trainer.model.config
    base = getattr(config, "_name_or_path", "") or ""
    extra = [tags] if isinstance(tags, str) else list(tags or ())
    fields = {
        "base_model": None if Path(base).exists() else base,  # "" exists, as the current folder
        "datasets": dataset,
        "license": license,
        "language": language,
    }
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    text = _CARD.format(
        library="peft" if hasattr(trainer.model, "peft_config") else "transformers",
        fields="".join(f"{key}: {value}\n" for key, value in fields.items() if value),
        tags="\n".join(
            f"- {tag}" for tag in dict.fromkeys(["prm", "process-reward-model", "prmkit", *extra])
        ),
        name=name or trainer.hub_model_id or folder.resolve().name,
        source=trainer.hub_model_id or name or folder.resolve().name,
        loss=trainer.step_loss.name,
        scheme=trainer.scheme.name,
        classes=", ".join(f"`{label}`" for label in trainer.targets.output_classes),
        pipeline=_of_pipeline(trainer),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _of_pipeline(trainer: Any) -> str:
    if trainer.readout.by_blocks:
        return _LOOKS_AHEAD
    if trainer.readout.kind != "tokens" or trainer.targets.head_size == 1:
        return ""
    return _SAME_SCORES if _reads_text_alike(trainer.processing_class, trainer.scheme) else _OTHER_TOKENS


def _reads_text_alike(tokenizer: Any, scheme: MarkingScheme) -> bool:
    """Whether the plain text of a solution has the tokens that the model was trained on."""
    marker = separator_text(tokenizer, scheme)
    text = EXAMPLE.problem + "".join(step + marker for step in EXAMPLE.steps)
    ids = encode_solution(tokenizer, EXAMPLE, EXAMPLE.n_steps, scheme).input_ids
    return tokenizer(text)["input_ids"] == ids.tolist()


_LAST_FILE = "trainer_state.json"
"""The trainer writes it when the rest of a checkpoint is on disk."""


def last_checkpoint(folder: str | Path) -> str:
    """Return the newest checkpoint in a folder that was written to its end.

    Raises
    ------
    ValueError
        If there is none.

    Warns
    -----
    UserWarning
        If a later one is passed over, since its writing was interrupted.
    """
    found = [path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[-1].isdigit()]
    found.sort(key=lambda path: int(path.name.split("-")[-1]))
    while found:
        checkpoint = found.pop()
        if _is_whole(checkpoint):
            return str(checkpoint)
        warnings.warn(f"{checkpoint} was not written to its end, and is passed over", stacklevel=3)
    raise ValueError(
        f"no checkpoint in {folder}: leave resume_from_checkpoint out to start from the beginning"
    )


def check_checkpoint(folder: str | Path, current: ModelDescription) -> None:
    """Compare what a checkpoint was trained for with the run that is to go on from it.

    Raises
    ------
    ValueError
        If scheme, classes, kind of output, loss or tokenizer differ.
    """
    saved = read_description(folder)
    if saved is None:
        raise ValueError(
            f"{folder} was not saved by PRMTrainer (no prmkit.json): pass it as model, to start from it"
        )
    for name in ("scheme", "classes", "reads", "loss", "loss_options", "fingerprint"):
        found, expected = getattr(saved, name), getattr(current, name)
        if found != expected:
            raise ValueError(
                f"{folder} was trained with {name} {found}, and this run has {expected}: resume with the settings it "
                "was started with, or pass the folder as model, to start anew from its weights"
            )


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / _LAST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
