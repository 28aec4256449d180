"""Where the weights of a model lie: what a pickle holds in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prmkit.features._model_path import file_sha256

if TYPE_CHECKING:
    from prmkit.models.tokens._scorer import TokenScorer


@dataclass(frozen=True)
class WeightsOrigin:
    """A folder or hub name, and how weights are read from it.

    Parameters
    ----------
    name : str
        A local folder by its absolute path, so that it is found from any working directory; or a name on the hub.
    scheme : str or None
        The published layout; None for a folder that prmkit wrote.
    dtype : str, torch.dtype or None
    max_length : int or None
    settings : mapping of str to object
        What was asked for of the marking scheme: ``step_separator``, ``reward_tokens``, ``max_problem_length``.
    digests : tuple of (str, str) or None
        Name and SHA-256 of each file of weights, where the origin was sealed.

    Examples
    --------
    >>> WeightsOrigin.of("org/name").name
    'org/name'
    """

    name: str
    scheme: str | None = None
    dtype: Any = None
    max_length: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    digests: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def of(cls, name: str | Path, scheme: str | None = None, **reading: Any) -> WeightsOrigin:
        """Describe where a model is read from."""
        folder = Path(name).expanduser()
        is_local = folder.is_dir() or isinstance(name, Path)
        return cls(str(folder.resolve()) if is_local else str(name), scheme, **reading)

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
        from prmkit.models.tokens._pretrained import load_scorer

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
