"""Existing PRMs become fitted heads: prmkit's own folders, and published layouts by preset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prmkit.features._model_path import resolve_model
from prmkit.models.tokens._links import Link
from prmkit.models.tokens._model_files import check_tokenizer, read_description
from prmkit.models.tokens._presets import PRESETS, get_preset
from prmkit.models.tokens._scorer import TokenScorer
from prmkit.models.tokens._weights_origin import WeightsOrigin


def load_head(
    cls: Any,
    name: str | Path,
    scheme: str | None,
    *,
    classes: Sequence[Any] | None,
    dtype: Any,
    options: Any,
) -> Any:
    """Make a fitted ``TokenPRM`` of a published model; see ``PRMClassifier.from_pretrained``.

    Raises
    ------
    TypeError
        For an option that is no parameter of it.
    ValueError
        For classes that are not as many as the model's, or not distinct.
    """
    known = cls._get_param_names()
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(
            f"from_pretrained has no option {', '.join(unknown)}: expected dtype, or a parameter of {cls.__name__} "
            "such as max_length, too_long, device"
        )
    cls(**options)._validate_params()  # before gigabytes are read
    limit = options.get("max_length")
    scorer, link = _load(name, scheme, dtype, limit)
    order = scorer.classes if classes is None else tuple(classes)
    if len(order) != len(scorer.classes) or len(set(order)) < len(order):
        raise ValueError(
            f"classes={list(order)!r} for a model that tells {len(scorer.classes)} classes apart, worst first: "
            f"{list(scorer.classes)}"
        )
    as_read = {
        "scheme": scorer.scheme.name,
        "step_separator": scorer.scheme.marker,
        "reward_tokens": scorer.scheme.reward_tokens,
        "max_length": scorer.max_length,
    }
    head = cls(backbone=str(name), label_order=list(order), **{**as_read, **options})
    head.classes_ = np.unique(np.array(order))
    head.link_ = link.reordered(np.array([order.index(label) for label in head.classes_.tolist()]))
    head.loss_curve_ = []
    head.take_weights(WeightsOrigin.of(name, scheme, dtype, limit), scorer)
    return head


def load_scorer(name: str | Path, scheme: str | None, dtype: Any, max_length: int | None) -> TokenScorer:
    """Read a model, its tokenizer and its scheme, the length cut to ``max_length`` where that is less."""
    return _load(name, scheme, dtype, max_length)[0]


def _load(
    name: str | Path, scheme: str | None, dtype: Any, max_length: int | None
) -> tuple[TokenScorer, Link]:
    scorer, link = _load_own(name, dtype) if scheme is None else _load_published(name, scheme, dtype)
    known = [length for length in (scorer.max_length, max_length) if length is not None]
    return replace(scorer, max_length=min(known, default=None)), link


def _load_published(name: str | Path, scheme: str, dtype: Any) -> tuple[TokenScorer, Link]:
    from prmkit.models.tokens._loading import make_readout, token_limit
    from prmkit.models.tokens._published import load_published

    preset = get_preset(scheme)
    model, tokenizer = load_published(name, preset, dtype=dtype)
    one_output = preset.head is not None and preset.head.n_outputs == 1
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=preset.scheme,
        readout=make_readout(model, tokenizer, preset.scheme, "reward" if one_output else "classes"),
        max_length=token_limit(model, None),
        classes=preset.classes,
    )
    return scorer, Link("softmax" if preset.activation == "softmax" else "sigmoid")


def _load_own(name: str | Path, dtype: Any) -> tuple[TokenScorer, Link]:
    from prmkit.models.tokens._loading import adapt_model, load_token_model, load_tokenizer, make_readout

    folder = Path(name).expanduser()
    folder = folder if (folder / "adapter_config.json").is_file() else resolve_model(name)
    description = read_description(folder)
    if description is None:
        raise ValueError(
            f"{name} was not saved by prmkit (no prmkit.json): name its layout, scheme= one of "
            f"{', '.join(sorted(PRESETS))}"
        )
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer, description, folder)
    reads_reward = description.reads == "reward" and not description.scheme.reads_language_model
    width = 1 if reads_reward else len(description.classes)
    base = _base_of_adapter(folder)
    model = load_token_model(
        base or folder, description.scheme, width, dtype=dtype or "auto", whole=base is None
    )
    if base is not None:
        adapt_model(model, tokenizer, description.scheme)
        model = _with_saved_adapter(model, folder)
    readout = make_readout(model, tokenizer, description.scheme, description.reads).for_scoring()
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=description.scheme,
        readout=readout,
        max_length=description.max_length,
        classes=description.classes,
    )
    return scorer, Link("sigmoid" if readout.reads == "reward" else "softmax")


def _base_of_adapter(folder: Path) -> str | None:
    """Name the model that an adapter belongs to; None where the folder holds a whole model."""
    config = folder / "adapter_config.json"
    if not config.is_file():
        return None
    return json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]


def _with_saved_adapter(model: Any, folder: Path) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError(f"{folder} holds an adapter: pip install 'prmkit[peft]'") from error
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
