"""The report as one HTML file that needs a browser, and neither this package nor a network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from prmkit.evaluation._page._curves import figure
from prmkit.evaluation._page._data import embed_solutions
from prmkit.utils.files import replacing

__all__ = ["write_page"]


def write_page(
    path: str | Path,
    result: Mapping[str, Any],
    solutions: Iterable[Mapping[str, Any]],
    *,
    title: str = "Evaluation of process reward models",
) -> None:
    """Write the report page: tables, plots and an error browser in one HTML file.

    The file loads nothing from elsewhere, and its own content security policy forbids it. Every text is escaped.
    Equal input gives equal bytes. Tables and plots need no script. The error browser unpacks a solution when
    somebody looks at it.

    Parameters
    ----------
    path : str or Path
        File to write. An older file is replaced only when the new one is complete.
    result : mapping
        The dictionary that ``Evaluation.to_dict`` returns. It holds ``models`` (``name``, ``kind``, ``path``),
        ``benchmarks`` (``name``, ``kind``, ``n_solutions``, ``n_problems``, ``description``), ``tables`` (``title``,
        ``benchmark``, ``note``, ``columns`` and ``rows``) and ``curves`` (``title``, ``benchmark``, ``kind``,
        ``x_label``, ``y_label`` and ``series``). A row has ``system``, ``baseline``, ``quoted``, ``source`` and
        ``values``. A value is a mapping of ``value``, ``low`` and ``high``, or a number, a text or None. A ``kind``
        of curve is "reliability", "best_of_n" or "risk_coverage". A series has ``name``, ``x``, ``y``, ``low``,
        ``high`` and ``baseline``. An undefined number is None.
    solutions : iterable of mapping
        One mapping per solution, read once and in order. It holds ``benchmark``, ``id``, ``problem``, ``steps``,
        ``risks`` (model name to P(step is wrong) per step), ``gold`` (index of the first wrong step, -1 for no error,
        None for unknown), ``ratings`` (one per step, None for unrated), ``predicted`` (model name to the index of the
        first error, -1 for none), ``error_type`` and ``answer_correct`` (None for unknown).
    title : str, default="Evaluation of process reward models"
        Heading of the page.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, a risk lies outside [0, 1], a solution has not one risk per step, an index
        lies beyond the last step, or a model is not among ``models``.

    Examples
    --------
    >>> import tempfile
    >>> result = {"models": [{"name": "my PRM", "kind": "prmkit", "path": "prm/"}], "benchmarks": [], "curves": []}
    >>> result["tables"] = [{
    ...     "title": "First errors", "benchmark": "made up", "note": "", "columns": ["F1"],
    ...     "rows": [{"system": "my PRM", "baseline": False, "quoted": False, "source": None,
    ...               "values": {"F1": {"value": 0.5, "low": 0.4, "high": 0.6}}}],
    ... }]
    >>> solution = {
    ...     "benchmark": "made up", "id": "1", "problem": "1 + 1?", "steps": ["1 + 1 = 3"], "risks": {"my PRM": [0.9]},
    ...     "gold": 0, "ratings": [-1], "predicted": {"my PRM": 0}, "error_type": None, "answer_correct": False,
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_page(f"{folder}/report.html", result, [solution])
    ...     "0.500" in Path(folder, "report.html").read_text(encoding="utf-8")
    True
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    # Every text is escaped, except for the parts that are marked as HTML here.
    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = shown_number
    style, script = _part("page.css"), _part("page.js")
    index, packs = embed_solutions(solutions, result)
    page = environment.get_template("page.html").render(
        title=title,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        result=result,
        figures=[figure(curve) for curve in result["curves"]],
        index=Markup(index),
        packs=map(Markup, packs),
    )
    with replacing(Path(path)) as unfinished:
        # A lone surrogate is no character. It is written as a reference, which a browser shows as a replacement sign.
        unfinished.write_bytes(page.encode("utf-8", errors="xmlcharrefreplace"))


def shown_number(value: float | str | bool | None) -> str:
    """Return a value as the page shows it, a dash for None.

    Examples
    --------
    >>> [shown_number(value) for value in (0.61234, 82.38, 3400, None, "F1")]
    ['0.612', '82.4', '3,400', '–', 'F1']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        raise ValueError(f"found {value} where the page shows a number: undefined numbers are None")
    if float(value).is_integer() and not isinstance(value, float):
        return f"{value:,}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _part(name: str) -> str:
    return (files("prmkit.evaluation._page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
