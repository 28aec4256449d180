"""Resuming: which checkpoint is whole after a run was killed, and whether it belongs to this run."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

from prmkit.models.tokens._model_files import ModelDescription, read_description

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
