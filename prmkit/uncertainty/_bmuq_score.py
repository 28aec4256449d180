"""What a method of BMUq says about a step: a number from 0 to 1, with what is known beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class UncertaintyScore:
    """A number from 0 to 1 about a step, and what is known beside it; the fields are BMUq's.

    Parameters
    ----------
    value : float
        In [0, 1]. What a high value means, ``metadata["higher_is"]`` says.
    method : str
        Name of the method that gave it.
    metadata : mapping
    confidence_interval : (float, float), optional
        In [0, 1], the lower end first. None: nothing tells how sure the value is.

    Raises
    ------
    ValueError
        If a number is NaN or outside [0, 1], or the interval ends before it begins.

    Examples
    --------
    >>> UncertaintyScore(0.9, "prm_validity", confidence_interval=(0.8, 0.95)).value
    0.9
    """

    value: float
    method: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    confidence_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ValueError(f"value is {self.value!r}, expected a number from 0 to 1")
        if self.confidence_interval is not None:
            low, high = self.confidence_interval
            if not 0.0 <= low <= high <= 1.0:
                raise ValueError(
                    f"confidence_interval is {self.confidence_interval!r}, expected (low, high) from 0 to 1"
                )
