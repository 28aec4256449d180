"""The report as one HTML file: whoever gets it needs a browser, and neither this package nor a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from prmkit.evaluation._page._curves import curve_figures, result_tables, subject_lists
from prmkit.evaluation._page._data import embed_solutions

__all__ = ["write_page"]


def write_page(
    path: str | Path,
    result: Mapping[str, Any],
    solutions: Iterable[Mapping[str, Any]],
    *,
    title: str = "Evaluation of process reward models",
) -> None:
    """Write the report page: tables, plots and an error browser in one self-contained HTML file.

    The file loads nothing from anywhere (its own content security policy forbids it), escapes every text, and has the
    same bytes for the same input. Tables and plots are drawn here and need no script; the error browser unpacks
    solutions as they are looked at.

    Parameters
    ----------
    path : str or Path
        File to write; an older one is replaced only when the new one is complete.
    result : mapping
        ``models`` (``name``, ``kind``, ``path``), ``benchmarks`` (``name``, ``kind``, ``n_solutions``, ``n_problems``,
        ``description``), ``tables`` (``title``, ``benchmark``, ``note``, ``columns`` and ``rows`` of ``system``,
        ``baseline``, ``quoted``, ``source`` and ``values``, where a value is a mapping of ``value`` (None:
        undefined), ``low`` and ``high``, or a number, a text, or None: there is none) and ``curves`` (``title``,
        ``benchmark``, ``kind``: "reliability", "best_of_n" or "risk_coverage", ``x_label``, ``y_label`` and
        ``series`` of ``name``, ``x``, ``y``, ``low``, ``high`` and ``baseline``).
    solutions : iterable of mapping
        ``benchmark``, ``id``, ``problem``, ``steps``, ``risks`` (model name -> P(step is wrong) per step), ``gold``
        (index of the first wrong step, -1: no error, None: unknown), ``ratings`` (per step, None: not rated),
        ``predicted`` (model name -> index of the first error, -1: none), ``error_type`` and ``answer_correct``
        (None: unknown). Consumed once, in order.
    title : str, default="Evaluation of process reward models"
        Heading of the page.

    Raises
    ------
    ValueError
        If a number is NaN or infinite (undefined numbers are None), a risk lies outside [0, 1], a solution has another
        number of risks than of steps, an index lies beyond the last step, or a model is not among ``models``.

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
    style, script = _part("page.css"), _part("inflate.js") + _part("page.js")
    index, packs = embed_solutions(solutions, result)
    page = Template(_part("page.html")).substitute(
        title=escape(title),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        subjects=subject_lists(result),
        tables=result_tables(result["tables"]),
        curves=curve_figures(result["curves"]),
        index=index,
        packs="\n".join(
            f'<script type="application/json" id="pack-{number}">"{pack}"</script>'
            for number, pack in enumerate(packs)
        ),
    )
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    # A lone surrogate is no character: it is written as a reference, which a browser shows as a replacement sign.
    unfinished.write_bytes(page.encode("utf-8", errors="xmlcharrefreplace"))
    unfinished.replace(path)


def _part(name: str) -> str:
    return (files("prmkit.evaluation._page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
