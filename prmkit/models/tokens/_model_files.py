"""What stands beside the weights of a token-level model: scheme, class order, limits, versions, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from prmkit.marking.encoding import fingerprint
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.tokens._one_pass import Readout
from prmkit.utils.versions import installed_version

FILE = "prmkit.json"
_FORMAT = 2
# Format 1, of prmkit before its first release, had other names for two fields of the scheme.
_RENAMED = {"marker": "step_separator", "max_problem_length": "max_prompt_length"}


@dataclass(frozen=True)
class ModelDescription:
    """What scoring needs to know of a token-level model.

    Parameters
    ----------
    scheme : MarkingScheme
    classes : tuple
        Labels that the outputs stand for, worst first.
    loss, reads : str
        The loss it was trained with, and what that reads of the model (see :class:`Readout`).
    loss_options : dict or None
    by_blocks : bool
        Whether its attention is block-causal.
    max_length : int or None
    fingerprint : str
        Digest of how the tokenizer encodes a fixed text: a changed tokenizer is noticed on loading.
    versions : dict of str to str
    """

    scheme: MarkingScheme
    classes: tuple[Any, ...]
    loss: str
    reads: str
    by_blocks: bool
    max_length: int | None
    fingerprint: str
    versions: dict[str, str | None]
    loss_options: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        *,
        scheme: MarkingScheme,
        tokenizer: Any,
        readout: Readout,
        classes: tuple[Any, ...],
        loss: str,
        max_length: int | None,
        loss_options: dict[str, Any] | None = None,
    ) -> ModelDescription:
        """Describe a model as it is, with the versions in use."""
        return cls(
            scheme=scheme,
            classes=classes,
            loss=loss,
            reads=readout.reads,
            by_blocks=readout.by_blocks,
            max_length=max_length,
            fingerprint=fingerprint(tokenizer, scheme),
            versions={
                name: installed_version(name) for name in ("prmkit", "torch", "transformers", "tokenizers")
            },
            loss_options=None if not loss_options else json.loads(json.dumps(loss_options)),
        )


def write_description(folder: str | Path, description: ModelDescription) -> None:
    """Write ``prmkit.json`` into a model's folder, in one move."""
    folder = Path(folder)
    fields = {
        "format": _FORMAT,
        **asdict(description),
        "classes": [_plain(label) for label in description.classes],
    }
    part = folder / f".{FILE}-{uuid4().hex}"
    try:
        part.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        part.replace(folder / FILE)
    finally:
        part.unlink(missing_ok=True)  # where the writing was interrupted


def read_description(folder: str | Path) -> ModelDescription | None:
    """Read ``prmkit.json`` from a model's folder; None if there is none.

    Raises
    ------
    ValueError
        If it is damaged, or of a later format.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        return None
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        found = fields.pop("format")
        if found not in (1, _FORMAT):
            raise ValueError(f"format {found}, this prmkit reads 1 to {_FORMAT}")
        scheme = {_RENAMED.get(name, name): value for name, value in fields["scheme"].items()}
        fields["scheme"] = MarkingScheme.from_dict(scheme)
        description = ModelDescription(**fields)
        return replace(description, classes=tuple(description.classes))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}): save the model again, or pass layout=…"
        ) from error


def check_tokenizer(tokenizer: Any, description: ModelDescription, folder: str | Path) -> None:
    """Compare how the tokenizer encodes with how it did when the model was saved.

    Raises
    ------
    ValueError
        If it encodes otherwise.
    """
    if fingerprint(tokenizer, description.scheme) != description.fingerprint:
        raise ValueError(
            f"the tokenizer in {folder} encodes a text otherwise than when the model was saved (with tokenizers "
            f"{description.versions.get('tokenizers')}): its scores would mean nothing. Restore the tokenizer's files"
        )


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label
