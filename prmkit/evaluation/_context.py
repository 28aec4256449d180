"""What every table is made from: a benchmark, its systems, and the settings of the run."""

from __future__ import annotations

from dataclasses import dataclass

from prmkit.evaluation._benchmark import Benchmark
from prmkit.evaluation._systems import System
from prmkit.evaluation._thresholds import ThresholdData


@dataclass(frozen=True, eq=False)
class Context:
    """A benchmark with the scores of all systems, models first.

    Parameters
    ----------
    benchmark : Benchmark
    systems : list of System
    threshold_data : ThresholdData or None
    n_resamples : int
    random_state : int
    quoted : bool
        Whether published numbers stand beside.
    cautions : tuple of str
        What to know before believing any number, such as problems that a model was trained on.
    """

    benchmark: Benchmark
    systems: list[System]
    threshold_data: ThresholdData | None = None
    n_resamples: int = 1000
    random_state: int = 0
    quoted: bool = False
    cautions: tuple[str, ...] = ()

    @property
    def compared_with(self) -> str | None:
        """The first of several models, which is subtracted from the others; None where there is one alone."""
        models = [system.name for system in self.systems if not system.baseline]
        return models[0] if len(models) > 1 else None

    def note(self, *sentences: str) -> str:
        """Return the note of a table: what it says, and what stands in brackets."""
        intervals = (
            [
                f"[ ]: 95% intervals from {self.n_resamples:,} resamples of the {self.benchmark.n_problems:,} problems"
            ]
            if self.n_resamples and self.benchmark.n_problems > 1
            else []
        )
        return ". ".join([*self.cautions, *sentences, *intervals]) + "."
