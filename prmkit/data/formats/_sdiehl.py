"""The layout of the package sdiehl/prm: input, value and label, where + is right and - is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prmkit.data.dataset import StepDataset
from prmkit.data.formats._step_labels import from_ratings, rating_of_sign, signs_of
from prmkit.data.formats.format import Format, LabelledSolution, text_field, texts_field
from prmkit.data.formats.reading import read


def _recognises(record: Any) -> bool:
    return (
        isinstance(record, Mapping)
        and isinstance(record.get("input"), str)
        and isinstance(record.get("value"), list)
        and isinstance(record.get("label"), list)
    )


def _parse(record: Any, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    problem, steps, labels = (
        text_field(record, "input"),
        texts_field(record, "value"),
        texts_field(record, "label"),
    )
    ratings = [rating_of_sign(label, f"label[{i}]") for i, label in enumerate(labels)]
    return [from_ratings(problem, steps, ratings, solution_id)]


def _write(labelled: LabelledSolution) -> dict[str, Any]:
    steps, signs = signs_of(labelled)
    return {"input": labelled.solution.problem, "value": steps, "label": signs}


SDIEHL = Format(
    name="sdiehl",
    description="sdiehl/prm's input, value, label: + or - per step, also after an error",
    recognises=_recognises,
    parse=_parse,
    write=_write,
)


def load_sdiehl(
    path_or_list: Any, *, on_error: str = "raise", limit: int | None = None, split: str = "train"
) -> StepDataset:
    """Load rows of the package sdiehl/prm.

    ``{"input": "2 + 3 * 4?", "value": ["3 * 4 = 12.", "2 + 12 = 15."], "label": ["+", "-"]}``

    Parameters
    ----------
    path_or_list : path, list of dict, ``datasets.Dataset`` or name on the Hugging Face hub
        A file (JSON lines, a JSON array, Parquet; also gzipped) or a folder of such.
    on_error : {"raise", "skip"}, default="raise"
        What to do with a record that breaks the layout; skipped ones are counted and warned about.
    limit : int, optional
        Read this many records at most.
    split : str, default="train"
        Of a data set on the hub.

    Returns
    -------
    StepDataset
        ``y`` holds +1 for "+" and -1 for "-"; steps after an error are rated on their own.

    Raises
    ------
    FileNotFoundError, ConnectionError
        If the source cannot be read.
    ValueError
        For a label other than "+" and "-" (white space around them aside), or unequal numbers of labels and steps.

    Examples
    --------
    >>> row = {"input": "2 + 3 * 4?", "value": ["3 * 4 = 12.", "2 + 12 = 15."], "label": ["+", "-"]}
    >>> X, y = load_sdiehl([row])
    >>> X[1].text, y
    ('2 + 12 = 15.', array([ 1, -1]))
    """
    return read(path_or_list, SDIEHL, on_error=on_error, limit=limit, split=split)
