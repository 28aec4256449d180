"""Fitted models on the Hugging Face hub: upload with a card, and the way from a name to a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin

from prmkit import __version__
from prmkit.features.encoding.model_path import HUB_NAME
from prmkit.saving.folder import CARD, CONFIG, holds_saved_model, place_of
from prmkit.utils.saved import SavedModel

HUB_OPTIONS = ("revision", "token", "cache_dir", "force_download", "local_files_only")
# What tells the folder of a language model from that of a classifier.
LANGUAGE_MODEL_FILES = ("prmkit.json", "adapter_config.json")
# Neither pickled weights nor code is downloaded.
_FILES = ["*.json", "*.safetensors", "*.skops", "*.txt", "*.model", "*.jinja", CARD]
_CARD = """
---
{{ card_data }}
---

# {{ title }}

A process reward model. For each step of a solution it gives the probability of {{ labels }}{{ order }}.

```python
from prmkit import PRMClassifier, Solution

clf = PRMClassifier.from_pretrained("{{ repo_id }}")
clf.score_solutions([Solution("What is 2 + 3 * 4?", ("3 * 4 = 12.", "2 + 12 = 15."))])
```

- Head: {{ head }}
- Features: {{ featurizer }}
- Training: {{ n_problems }} problems. `evaluate` and the calibrations of prmkit refuse them.
- Saved by prmkit {{ version }}. Loading runs no code from this repository.
{% if views %}
What each view of a step adds to those above it, on problems that were not learnt:

{{ views }}
{% endif %}"""


class HubModel(
    SavedModel,
    ModelHubMixin,
    library_name="prmkit",
    pipeline_tag="text-classification",
    tags=["prmkit", "process-reward-model", "reasoning"],
    model_card_template=_CARD,
):
    """Mixin of classifiers that can be shared on the hub, in the folder that ``save`` writes, with a card."""

    # Anything but None keeps the parent from writing a configuration of its own into the estimator.
    _hub_mixin_config: Any = {}

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: object = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Save the fitted model to a folder with a card, ``README.md``, and upload it if that is asked.

        Parameters
        ----------
        save_directory : str or path
            Folder to write, as in ``save``. A card that stands there is kept.
        config : object, default=None
            Ignored. ``huggingface_hub`` passes it.
        repo_id : str or None, default=None
            Name of the repository on the hub, ``owner/name``. If ``None``, the name of the folder.
        push_to_hub : bool, default=False
            Whether to upload the model.
        model_card_kwargs : dict or None, default=None
            Fields of the card to replace, such as ``title``.
        **push_to_hub_kwargs
            Options of ``push_to_hub``.

        Returns
        -------
        str or None
            Address of the commit, if the model was uploaded.

        Raises
        ------
        FileExistsError, TypeError, ValueError
            As ``save``.
        """
        self.save(save_directory)
        folder = Path(save_directory).expanduser()
        repo_id, fields = repo_id or folder.name, dict(model_card_kwargs or {})
        if not (folder / CARD).exists():
            self.generate_model_card(**{"repo_id": repo_id, **fields}).save(folder / CARD)
        return self.push_to_hub(repo_id, model_card_kwargs=fields, **push_to_hub_kwargs) if push_to_hub else None

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the fitted model with a card to the Hugging Face hub.

        Parameters
        ----------
        repo_id : str
            Name of the repository, ``owner/name``. It is made if it does not exist.
        **options
            Options of ``huggingface_hub.ModelHubMixin.push_to_hub``: ``commit_message``, ``private``, ``token``,
            ``branch``, ``create_pr``, ``model_card_kwargs``.

        Returns
        -------
        str
            Address of the commit.
        """
        fields = {"repo_id": repo_id, **(options.pop("model_card_kwargs", None) or {})}
        address: str = super().push_to_hub(repo_id, model_card_kwargs=fields, **options)
        return address

    def generate_model_card(self, *args: Any, **fields: Any) -> ModelCard:
        """Return the card of the fitted model.

        Parameters
        ----------
        *args
            Ignored.
        **fields
            Fields of the card to replace, such as ``title`` or ``repo_id``.

        Returns
        -------
        huggingface_hub.ModelCard
            The card.
        """
        return super().generate_model_card(**{"version": __version__, **self._card_fields(), **fields})

    def _card_fields(self) -> dict[str, Any]:
        """Return what the card says of the fitted model; raise NotFittedError before ``fit``."""
        raise NotImplementedError


def saved_folder(name_or_path: str | Path, options: dict[str, Any]) -> Path | None:
    """Return the folder of a model that prmkit saved, here or on the hub. None says that it is another model's.

    From the hub one small file is fetched, which tells, and the rest if it is one. A copy in the local cache is taken
    without network.
    """
    from huggingface_hub import hf_hub_download

    folder = place_of(name_or_path)
    if folder.is_dir():
        return folder if holds_saved_model(folder) else None
    if not is_hub_name(name_or_path):
        return None
    name, asked = str(name_or_path), options.get("local_files_only") or options.get("force_download")
    other = {key: value for key, value in options.items() if key != "local_files_only"}
    for offline in (bool(options.get("local_files_only")),) if asked else (True, False):
        try:
            config = Path(hf_hub_download(name, CONFIG, local_files_only=offline, **other))
            if not holds_saved_model(config.parent):
                return None
            folder = fetch(name, {"local_files_only": offline, **other})
        except (OSError, ValueError):
            # The name is unknown, private or malformed, or the hub cannot be reached: TokenPRM says which.
            continue
        files = json.loads(config.read_text(encoding="utf-8")).get("files", {})
        # Other programs may cache a part of a model.
        if not offline or all((folder / file).is_file() for file in files):
            return folder
    return None


def fetch(name: str, options: dict[str, Any]) -> Path:
    """Return the folder with the data files of a repository. ``options`` are some of ``HUB_OPTIONS``."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=_FILES, **options))


def is_hub_name(name: str | Path) -> bool:
    """Whether a name may be that of a repository, ``owner/name``, and is no folder."""
    return isinstance(name, str) and name.count("/") == 1 and bool(HUB_NAME.fullmatch(name)) and not Path(name).exists()
