"""Existing PRMs become fitted heads: prmkit's own folders, and published layouts by preset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.features.encoding.model_path import file_sha256, resolve_model
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.pretrained._presets import PRESETS, get_preset
from prmkit.models.tokens._model_files import check_tokenizer, read_description
from prmkit.models.tokens.links import Link
from prmkit.models.tokens.scorer import TokenScorer

if TYPE_CHECKING:
    from prmkit.models.tokens.scorer import TokenScorer


@dataclass(frozen=True)
class WeightsOrigin:
    """A folder or hub name, and how weights are read from it.

    Parameters
    ----------
    name : str
        A local folder by its absolute path, so that it is found from any working directory; or a name on the hub.
    layout : str or None
        The published layout; None for a folder that prmkit wrote.
    dtype : str, torch.dtype or None
    max_length : int or None
    settings : mapping of str to object
        What was asked for of the marking scheme: ``step_separator``, ``reward_tokens``, ``max_prompt_length``.
    digests : tuple of (str, str) or None
        Name and SHA-256 of each file of weights, where the origin was sealed.

    Examples
    --------
    >>> WeightsOrigin.of("org/name").name
    'org/name'
    """

    name: str
    layout: str | None = None
    dtype: Any = None
    max_length: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    digests: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def of(cls, name: str | Path, layout: str | None = None, **reading: Any) -> WeightsOrigin:
        """Describe where a model is read from."""
        folder = Path(name).expanduser()
        is_local = folder.is_dir() or isinstance(name, Path)
        return cls(str(folder.resolve()) if is_local else str(name), layout, **reading)

    def sealed(self) -> WeightsOrigin:
        """Return the same with the digests of the files as they are now; a hub name stays as it is."""
        return replace(self, digests=_digests(Path(self.name))) if Path(self.name).is_dir() else self

    def read(self) -> TokenScorer:
        """Read the weights.

        Raises
        ------
        FileNotFoundError
            If the folder is gone.
        ValueError
            If the files are others than when the origin was sealed.
        """

        folder = Path(self.name)
        if folder.is_absolute() and not folder.is_dir():
            raise FileNotFoundError(
                f"the weights of this model lay in {folder}, which is gone: put it back, load the model from where it "
                "is now, or pickle it with store_weights_in_pickle=True"
            )
        if self.digests is not None and _digests(folder) != self.digests:
            raise ValueError(
                f"the weights in {folder} are not those that this model was pickled with: load the model anew, or "
                "pickle it with store_weights_in_pickle=True"
            )
        return load_scorer(self)


def _digests(folder: Path) -> tuple[tuple[str, str], ...]:
    return tuple((file.name, file_sha256(file)) for file in sorted(folder.glob("*.safetensors")))


_SETTINGS = ("step_separator", "reward_tokens", "max_prompt_length")
"""The parameters of ``TokenPRM`` that say how a solution is written; a scheme has them by the same names."""

_CHOSEN_IN_TRAINING = {"trl": ("step_separator", "max_prompt_length")}
"""What users of a layout chose by themselves, and no file of theirs records."""

_ARGUMENTS = ("model", "scheme", "label_order")  # name, layout= and classes= of from_pretrained


def load_head(
    cls: Any,
    name: str | Path,
    layout: str | None,
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
        For classes that are not as many as the model's, or not distinct, and for settings of the marking scheme that
        it was not trained with.
    """
    known = set(cls._get_param_names()) - set(_ARGUMENTS)
    if unknown := sorted(set(options) - known):
        raise TypeError(
            f"from_pretrained has no option {', '.join(unknown)}: expected dtype, or a parameter of {cls.__name__} "
            "such as max_length, too_long, device"
        )
    cls(**options)._validate_params()  # before gigabytes are read
    settings = {key: options[key] for key in _SETTINGS if options.get(key) is not None}
    options = {key: value for key, value in options.items() if key not in _SETTINGS}
    origin = WeightsOrigin.of(
        name, layout, dtype=dtype, max_length=options.get("max_length"), settings=settings
    )
    scorer, link, loss = _load(origin)
    order = scorer.classes if classes is None else tuple(classes)
    if len(order) != len(scorer.classes) or len(set(order)) < len(order):
        raise ValueError(
            f"classes={list(order)!r} for a model that tells {len(scorer.classes)} classes apart, worst first: "
            f"{list(scorer.classes)}"
        )
    as_read = {key: getattr(scorer.scheme, key) for key in _SETTINGS}
    as_read |= {"scheme": _scheme_parameter(scorer.scheme), "max_length": scorer.max_length, "loss": loss}
    head = cls(model=str(name), label_order=list(order), **{**as_read, **options})
    head.classes_ = np.unique(np.array(order))
    head.link_ = link.reordered(np.array([order.index(label) for label in head.classes_.tolist()]))
    head.loss_curve_ = []
    head.take_weights(origin, scorer)
    return head


def load_scorer(origin: WeightsOrigin) -> TokenScorer:
    """Read a model, its tokenizer and its scheme, the length cut to the origin's where that is less."""
    return _load(origin)[0]


def _load(origin: WeightsOrigin) -> tuple[TokenScorer, Link, str]:
    """Read scorer, link, and the loss to go on training with."""
    scorer, link, loss = (
        _load_own(origin) if origin.layout is None else _load_published(origin, origin.layout)
    )
    known = [length for length in (scorer.max_length, origin.max_length) if length is not None]
    return replace(scorer, max_length=min(known, default=None)), link, loss


def _with_settings(
    scheme: MarkingScheme, settings: Mapping[str, Any], name: str, *, free: Sequence[str] = ()
) -> MarkingScheme:
    """Apply the settings that may be chosen; the others must be what the model was trained with."""
    for key, value in settings.items():
        asked: Any = value if isinstance(value, str | int) else tuple(value)
        found = getattr(scheme, key)
        if asked != found and key not in free:
            raise ValueError(f"{key}={value!r} for {name}, which was trained with {found!r}: leave {key} out")
        scheme = replace(scheme, **{key: asked})
    return scheme


def _scheme_parameter(scheme: MarkingScheme) -> str:
    """Return what stands for a scheme among the parameters of ``TokenPRM``.

    A layout that they cannot express goes by its own name: it can score, and ``fit`` refuses the name, where the scheme
    nearest to it would train another text than the model knows.
    """
    plain = MarkingScheme(scheme.name, **{key: getattr(scheme, key) for key in _SETTINGS})
    if plain == scheme:
        return scheme.name
    return next((preset.name for preset in PRESETS.values() if preset.scheme == scheme), "published")


def _load_published(origin: WeightsOrigin, layout: str) -> tuple[TokenScorer, Link, str]:
    from prmkit.models.pretrained._published import load_published
    from prmkit.models.tokens._loading import damage_named, make_readout, token_limit

    preset = get_preset(layout)
    scheme = _with_settings(
        preset.scheme, origin.settings, origin.name, free=_CHOSEN_IN_TRAINING.get(layout, ())
    )
    with damage_named(resolve_model(origin.name)):
        model, tokenizer = load_published(origin.name, replace(preset, scheme=scheme), dtype=origin.dtype)
    one_output = preset.head is not None and preset.head.n_outputs == 1
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=scheme,
        readout=make_readout(model, tokenizer, scheme, "reward" if one_output else "classes"),
        max_length=token_limit(model, None),
        classes=preset.classes,
    )
    return scorer, Link("softmax" if preset.activation == "softmax" else "sigmoid"), "cross_entropy"


def _load_own(origin: WeightsOrigin) -> tuple[TokenScorer, Link, str]:
    from prmkit.models.tokens._loading import load_token_model, load_tokenizer, make_readout

    folder = Path(origin.name)
    folder = folder if (folder / "adapter_config.json").is_file() else resolve_model(origin.name)
    description = read_description(folder)
    if description is None:
        raise ValueError(
            f"{origin.name} was not saved by prmkit (no prmkit.json): pass layout=, one of "
            f"{', '.join(sorted(PRESETS))}"
        )
    scheme = _with_settings(description.scheme, origin.settings, origin.name)
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer, description, folder)
    reads_reward = description.reads == "reward" and not scheme.reads_language_model
    width = 1 if reads_reward else len(description.classes)
    dtype = origin.dtype or "auto"
    if (folder / "adapter_config.json").is_file():
        model = _load_adapter(folder, tokenizer, scheme, width, dtype)
    else:
        model = load_token_model(folder, scheme, width, dtype=dtype, whole=True)
    readout = make_readout(model, tokenizer, scheme, description.reads).for_scoring()
    scorer = TokenScorer(
        model=model,
        tokenizer=tokenizer,
        scheme=scheme,
        readout=readout,
        max_length=description.max_length,
        classes=description.classes,
    )
    return scorer, Link("sigmoid" if readout.reads == "reward" else "softmax"), description.loss


def _load_adapter(folder: Path, tokenizer: Any, scheme: MarkingScheme, width: int, dtype: Any) -> Any:
    """Load the base model that an adapter names, and merge the adapter into it."""
    from prmkit.models.tokens._loading import adapt_model, damage_named, load_token_model

    file = folder / "adapter_config.json"
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise ValueError(
            f"{file} names no base model: the adapter was trained on a model object. Write its folder or name there as "
            "base_model_name_or_path; or, where it was trained, save the merged model: trainer.model = "
            "trainer.model.merge_and_unload(); trainer.save_model(another_folder)"
        )
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError(f"{folder} holds an adapter: pip install 'prmkit[peft]'") from error
    try:
        model = load_token_model(base, scheme, width, dtype=dtype)
        adapt_model(model, tokenizer, scheme)
        with damage_named(folder):
            return PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"the adapter in {folder} does not load onto its base {base}: {error}") from error
