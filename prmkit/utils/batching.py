"""Which texts go through the encoder together: each distinct text once, with texts of similar token count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], npt.NDArray[np.intp]]:
    """Return the distinct texts in order of appearance, and the position of each text among them.

    Examples
    --------
    >>> distinct_texts(["b", "a", "b"])
    (['b', 'a'], array([0, 1, 0]))
    """
    positions: dict[str, int] = {}
    inverse = np.empty(len(texts), dtype=np.intp)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"texts[{i}] is {type(text).__name__} ({text!r:.60}), expected str")
        inverse[i] = positions.setdefault(text, len(positions))
    return list(positions), inverse


def token_batches(n_tokens: npt.NDArray[np.integer], budget: int) -> Iterator[npt.NDArray[np.intp]]:
    """Yield indices of texts, longest first, so that no batch holds more than ``budget`` padded tokens.

    A text longer than the budget is a batch by itself. Equal lengths keep their order.

    Examples
    --------
    >>> [batch.tolist() for batch in token_batches(np.array([2, 9, 3, 3]), budget=6)]
    [[1], [2, 3], [0]]
    """
    order = np.argsort(-np.asarray(n_tokens), kind="stable")
    start = 0
    while start < len(order):
        longest = max(1, int(n_tokens[order[start]]))
        stop = start + max(1, budget // longest)
        yield order[start:stop]
        start = stop
