"""Template of a format: one way of writing step labels in files.

In your own package: import this file. Its last line registers the format. Then ``load``, ``write`` and
``prmkit convert`` know it.

Inside prmkit, touch three files:

1. copy this file to ``prmkit/data/formats/_my_format.py``, and leave out the last line;
2. add the line ``"my_format": "_my_format"`` to the registry in ``prmkit/data/formats/registry.py``;
3. write its test in ``tests/data/formats/test_my_format.py``.

The help of the command line, the docstring of ``load`` and the documentation read the registry. The format needs no
function ``load_my_format``, because ``load(path, format="my_format")`` reads it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields
from prmkit.data.formats.registry import register_format


def parse(record: Record, solution_id: str, counts: Counter[str], *, strict: bool = True) -> list[LabelledSolution]:
    """Return the solutions of one record.

    The methods of `Record` read a field and raise an error that names the field if its type is wrong. A keyword-only
    argument becomes an option of the format: ``load(path, format="my_format", strict=False)``.

    Parameters
    ----------
    record : Record
        One JSON value of the file.
    solution_id : str
        Id for a solution that has none.
    counts : Counter
        Add to it whatever is left out or doubtful. The user sees it in ``description``.
    strict : bool, default=True
        Whether an unknown mark is an error. If False, its step has no label and is counted.

    Returns
    -------
    list of LabelledSolution
        One solution, or several.
    """
    # CHANGE: the names of the fields.
    problem = record.text("task")
    steps = record.texts("lines")
    ratings: list[int | None] = []
    for mark in record.array("marks"):
        # CHANGE: the labels. -1 is wrong, 0 is neutral, +1 is right, and None is a step that nobody judged.
        if mark in ("ok", "bad"):
            ratings.append(1 if mark == "ok" else -1)
        elif strict:
            raise ValueError(f"a mark is {mark!r}, expected 'ok' or 'bad'; strict=False leaves such steps unlabelled")
        else:
            counts["steps with an unknown mark"] += 1
            ratings.append(None)
    return [from_ratings(problem, steps, ratings, solution_id)]


def write(labelled: LabelledSolution) -> dict[str, Any]:
    """Return the record of a solution.

    The function is optional. prmkit reads each record back and reports what was lost.

    Parameters
    ----------
    labelled : LabelledSolution
        Solution and ratings.

    Returns
    -------
    dict
        The record.
    """
    marks = ["bad" if rating == -1 else "ok" if rating is not None else "?" for rating in labelled.ratings]
    return {"task": labelled.solution.problem, "lines": list(labelled.solution.steps), "marks": marks}


MY_FORMAT = Format(
    # CHANGE: the name, one line about the fields and labels, and the fields that tell this format from all others.
    name="my_format",
    description="task, lines and marks: ok or bad for each line",
    recognises=has_fields({"task": str, "lines": list, "marks": list}),
    parse=parse,
    write=write,
)

register_format(MY_FORMAT)
