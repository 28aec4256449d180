"""Tables of numbers with intervals: as text, Markdown, HTML and DataFrame, and the base class of all reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from prmkit.metrics.bootstrap import Interval
from prmkit.utils.environment import as_printed, import_optional

if TYPE_CHECKING:
    import jinja2
    import pandas as pd

Rows: TypeAlias = Sequence[Sequence[str]]
Metrics: TypeAlias = Mapping[str, Mapping[str, Interval]]

_HTML = """
{%- macro lines(texts) -%}
<p>{% for text in texts %}{{ text }}{% if not loop.last %}<br>{% endif %}{% endfor %}</p>
{%- endmacro -%}
{%- set left = "style='text-align:left;white-space:nowrap'" | safe -%}
<div>{{ lines(before) }}<table>
{%- for row in rows -%}
<tr>
{%- for cell in row -%}
{%- set tag = "th" if loop.first or rows[0] is sameas row else "td" -%}
<{{ tag }} {{ left }}>{{ cell }}</{{ tag }}>
{%- endfor -%}
</tr>
{%- endfor -%}
</table>{{ lines(after) }}</div>"""


def align_columns(rows: Rows) -> list[str]:
    """Return one line of text per row, with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown_table(rows: Rows) -> list[str]:
    """Return the lines of a Markdown table. All columns but the first are aligned to the right."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]]


def html_table(rows: Rows, before: Sequence[str] = (), after: Sequence[str] = ()) -> str:
    """Return a table as HTML between lines of text, all of them escaped."""
    return _html_template().render(rows=rows, before=before, after=after)


@cache
def _html_template() -> jinja2.Template:
    from jinja2 import Environment

    return Environment(autoescape=True).from_string(_HTML)


@dataclass(frozen=True)
class Record:
    """Base of the frozen dataclasses that hold results."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON.

        Returns
        -------
        dict
            One entry per field. Labels that are keys become strings.
        """
        return {name: _plain(value) for name, value in asdict(self).items()}


@dataclass(frozen=True, repr=False, kw_only=True)
class Comparison(Record):
    """Several systems compared by several metrics with intervals. The base of all reports.

    Parameters
    ----------
    metrics : dict of str to dict of str to Interval
        The numbers by system and metric: ``metrics["model"]["auroc"]``.
    differences : dict of str to dict of str to Interval
        Differences between two systems, resampled in pairs. Each report says which system is subtracted from which.
    n_problems : int or None
        Number of problems. None if no groups were passed, so that there are no intervals.
    n_resamples : int
        Number of resamples of problems behind the intervals.
    confidence_level : float
        Level of the intervals.
    """

    metrics: Metrics
    differences: Metrics
    n_problems: int | None
    n_resamples: int
    confidence_level: float

    # The arguments that give the problem of each row.
    _groups_argument: ClassVar[str] = "groups or steps"

    def to_frame(self) -> pd.DataFrame:
        """Return the metrics as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One row per metric, and columns (system, value), (system, low), (system, high), (system, n_undefined).
        """
        pandas = import_optional("pandas", "to_frame, unlike to_dict,")
        columns = {
            (system, part): [getattr(interval, part) for interval in numbers.values()]
            for system, numbers in self.metrics.items()
            for part in ("value", "low", "high", "n_undefined")
        }
        names = pandas.Index(next(iter(self.metrics.values())), name="metric")
        frame: pd.DataFrame = pandas.DataFrame(columns, index=names)
        return frame

    def __str__(self) -> str:
        parts = [self._head(), align_columns(self._rows(self.metrics))]
        if shown := self._shown_differences():
            parts.append(align_columns(self._rows(shown)))
        return as_printed("\n\n".join("\n".join(lines) for lines in [*parts, self._notes()]))

    def _repr_html_(self) -> str:
        return html_table(self._rows(self.metrics), self._head(), self._notes())

    def _rows(self, metrics: Metrics) -> Rows:
        """Return the cells of a table with one column per system and one row per metric that all systems have."""
        names = [name for name in next(iter(self.metrics.values())) if all(name in m for m in metrics.values())]
        rows = [[self._shown_name(name), *(str(m[name]) for m in metrics.values())] for name in names]
        return [["", *metrics], *rows]

    def _head(self) -> list[str]:
        """Return the lines above the table."""
        return []

    def _notes(self) -> list[str]:
        """Return the lines below the table. The last of them is about the intervals."""
        if self.n_problems is None:
            return [f"no intervals: pass {self._groups_argument}, so that problems can be resampled"]
        if not self.n_resamples:
            return []
        return [f"[ ]: {self.confidence_level:.0%} interval from {self.n_resamples:,} resamples of problems"]

    def _shown_name(self, metric: str) -> str:
        """Return the name of a metric for readers."""
        return metric

    def _shown_differences(self) -> Metrics:
        """Return the differences that are printed, under names that say what is subtracted from what."""
        return {}

    def _of_problems(self) -> str:
        return "" if self.n_problems is None else f" of {self.n_problems:,} problems"


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    # JSON has no infinity and no NaN.
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return str(value)
    return value
