"""The format of the package sdiehl/prm: input, value and label, where + is right and - is wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields, labels_at, signs_of
from prmkit.data.formats.label_words import rating_of_sign
from prmkit.data.formats.reading import read, reads
from prmkit.data.formats.sources import OnError, Source


def _parse(record: Record, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps = record.text("input"), record.texts("value")
    labels = record.texts("label")
    ratings = [rating_of_sign(label, f"label[{i}]") for i, label in enumerate(labels)]
    return [from_ratings(problem, steps, ratings, solution_id)]


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    steps, signs = signs_of(labelled)
    return {"input": labelled.solution.problem, "value": steps, "label": signs}


SDIEHL = Format(
    name="sdiehl",
    description="sdiehl/prm's input, value, label: + or - per step, also after an error",
    recognises=has_fields({"input": str, "value": list, "label": list}),
    parse=_parse,
    write=_write,
    labels_of=labels_at("label"),
)


@reads
def load_sdiehl(
    source: Source, *, on_error: OnError = "raise", limit: int | None = None, split: str | None = None
) -> StepDataset:
    """Load rows of the package sdiehl/prm.

    ``{"input": "2 + 3 * 4?", "value": ["3 * 4 = 12.", "2 + 12 = 15."], "label": ["+", "-"]}``

    Returns
    -------
    StepDataset
        ``y`` holds +1 for "+" and -1 for "-". Steps after an error are rated on their own.

    Examples
    --------
    >>> row = {"input": "2 + 3 * 4?", "value": ["3 * 4 = 12.", "2 + 12 = 15."], "label": ["+", "-"]}
    >>> X, y = load_sdiehl([row])
    >>> X[1].text, y
    ('2 + 12 = 15.', array([ 1, -1]))
    """
    return read(source, SDIEHL, on_error=on_error, limit=limit, split=split)
