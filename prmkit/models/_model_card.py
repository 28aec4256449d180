"""The README beside a trained model: what it is, how it was trained, how to score with it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CARD = """\
---
library_name: transformers
{base}{data}tags:
{tags}
---

# {name}

A process reward model: it reads a problem and a solution step by step, and says of each step how right it is.
Trained with [prmkit](https://pypi.org/project/prmkit/), loss `{loss}`, marking scheme `{scheme}`.

```python
from prmkit import PRMClassifier, Solution

clf = PRMClassifier.from_pretrained("{name}")
scored = clf.score_solutions([Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])])[0]
print(scored, scored.rewards)
```

Outputs, worst first: {classes}. `prmkit.json` holds the scheme, the order of the classes and the versions it was
trained with. A step is scored from the problem and the steps up to it alone.
"""


def write_model_card(
    trainer: Any, name: str | None = None, dataset: str | None = None, tags: str | Iterable[str] | None = None
) -> None:
    """Write ``README.md`` into the trainer's output folder."""
    args, config = trainer.args, trainer.model.config
    base = getattr(config, "_name_or_path", "") or ""
    extra = [tags] if isinstance(tags, str) else list(tags or ())
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    text = _CARD.format(
        base=f"base_model: {base}\n" if base and not Path(base).exists() else "",
        data=f"datasets: {dataset}\n" if dataset else "",
        tags="\n".join(
            f"- {tag}" for tag in dict.fromkeys(["prm", "process-reward-model", "prmkit", *extra])
        ),
        name=name or trainer.hub_model_id or folder.resolve().name,
        loss=trainer.step_loss.name,
        scheme=trainer.scheme.name,
        classes=", ".join(f"`{label}`" for label in trainer.targets.output_classes),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
