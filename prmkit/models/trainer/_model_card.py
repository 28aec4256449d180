"""The README beside a trained model: what it is, how it was trained, how to score with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prmkit.features.marking._records import encode_solution
from prmkit.features.marking._scheme import MarkingScheme
from prmkit.features.marking._text import EXAMPLE, marker_text

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
    marker = marker_text(tokenizer, scheme)
    text = EXAMPLE.problem + "".join(step + marker for step in EXAMPLE.steps)
    ids = encode_solution(tokenizer, EXAMPLE, EXAMPLE.n_steps, scheme).input_ids
    return tokenizer(text)["input_ids"] == ids.tolist()
