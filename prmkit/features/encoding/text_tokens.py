"""``TextTokens``: texts as token ids, made once, and cut into batches of any shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prmkit.utils.ragged import Ragged

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Texts that the tokenizer takes together. They have about the same length, and are padded to the longest.
_TOGETHER = 64


@dataclass(frozen=True, eq=False)
class TextTokens:
    """The tokens of some texts, as sentence-transformers makes them, without padding.

    Parameters
    ----------
    rows : dict of str to Ragged
        The values of every token, one row per text: ``input_ids``, and others that the model takes.
    truncated : ndarray of bool, shape (n_texts,)
        Whether a text was cut.
    extras : dict
        What the modules of the model want to know beside the tokens.
    fillers : dict of str to int
        What stands where a row is padded.
    on_the_left : bool
        Whether rows are padded on the left.
    """

    rows: dict[str, Ragged]
    truncated: npt.NDArray[np.bool_]
    extras: dict[str, Any]
    fillers: dict[str, int]
    on_the_left: bool

    @classmethod
    def of(cls, network: SentenceTransformer, texts: Sequence[str], limit: int | None) -> TextTokens | None:
        """Tokenise texts. Return None if the model has no tokens in rows, such as a bag of words."""
        order = np.argsort([-len(text) for text in texts], kind="stable")
        parts: dict[str, list[np.ndarray]] = {}
        lengths = np.zeros(len(texts), dtype=np.int64)
        extras: dict[str, Any] = {}
        for start in range(0, len(texts), _TOGETHER):
            chosen = order[start : start + _TOGETHER]
            features = _preprocess(network, [texts[i] for i in chosen])
            mask = features.pop("attention_mask", None)
            if mask is None or mask.shape[0] != len(chosen) or mask.ndim != 2:
                return None
            real = mask.numpy() > 0
            lengths[start : start + len(chosen)] = real.sum(axis=1)
            for name, value in features.items():
                if getattr(value, "shape", None) == mask.shape:
                    parts.setdefault(name, []).append(value.numpy()[real].astype(np.int32))
                else:
                    extras[name] = value
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        rows = {name: Ragged(np.concatenate(values), lengths).take(place) for name, values in parts.items()}
        tokenizer = network.tokenizer
        truncated = np.zeros(len(texts), dtype=bool)
        # A text that fills the limit exactly is not cut, so these are counted again in full.
        full = [] if limit is None else np.flatnonzero(lengths[place] >= limit).tolist()
        if limit is not None and full:
            whole = [_prompt(network) + texts[i] for i in full]
            ids = tokenizer(whole, truncation=False, verbose=False)["input_ids"]
            truncated[full] = [len(one) > limit for one in ids]
        fillers = {"input_ids": getattr(tokenizer, "pad_token_id", None) or 0}
        fillers["token_type_ids"] = getattr(tokenizer, "pad_token_type_id", 0)
        return cls(rows, truncated, extras, fillers, getattr(tokenizer, "padding_side", "right") == "left")

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each text."""
        return self.rows["input_ids"].lengths

    def batch(self, indices: npt.NDArray[np.intp], n_rows: int, width: int) -> dict[str, npt.NDArray[np.int64]]:
        """Return the tokens of some texts in tables of a shape, padded. Copies of the first text fill the rows."""
        chosen = np.concatenate([indices, np.repeat(indices[:1], n_rows - len(indices))])
        lengths = self.lengths[chosen]
        columns = np.arange(width)
        real = columns >= width - lengths[:, None] if self.on_the_left else columns < lengths[:, None]
        tables = {"attention_mask": real.astype(np.int64)}
        for name, row in self.rows.items():
            tables[name] = np.full(real.shape, self.fillers.get(name, 0), dtype=np.int64)
            tables[name][real] = row.values[row.places(chosen)]
        return tables


def _prompt(network: SentenceTransformer) -> str:
    """Return what the model puts in front of each text."""
    return (network.prompts or {}).get(network.default_prompt_name or "", "") or ""


def _preprocess(network: SentenceTransformer, texts: list[str]) -> dict[str, Any]:
    prompt = _prompt(network)
    model: Any = network
    if hasattr(model, "preprocess"):
        return dict(model.preprocess(texts, prompt=prompt or None))
    # In older versions of sentence-transformers ``encode`` itself puts the prompt in front.
    features = dict(model.tokenize([prompt + text for text in texts]))
    return {**features, "prompt_length": model._get_prompt_length(prompt)} if prompt else features
