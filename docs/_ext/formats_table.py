"""The directive ``formats``: a table of all formats, made when the site is built.

The docstrings of ``load`` and ``write`` list the registered formats. The table is read from them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from prmkit.data import load, write


def listed_formats(function: Callable[..., Any]) -> dict[str, str]:
    """Return the formats that the Notes of a docstring list, with their descriptions."""
    return dict(re.findall(r"^- (\w+): (.+)$", inspect.getdoc(function) or "", flags=re.MULTILINE))


class FormatsTable(SphinxDirective):
    """A row per format: its name, its fields, and whether prmkit writes it."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        rows = [("Format", "Fields and labels", "Written")]
        written = listed_formats(write)
        rows += [(name, text, "yes" if name in written else "no") for name, text in listed_formats(load).items()]
        table, group = nodes.table(), nodes.tgroup(cols=3)
        table += group
        for width in (2, 6, 1):
            group += nodes.colspec(colwidth=width)
        for part, lines in ((nodes.thead(), rows[:1]), (nodes.tbody(), rows[1:])):
            group += part
            for line in lines:
                row = nodes.row()
                part += row
                for column, text in enumerate(line):
                    entry = nodes.entry()
                    row += entry
                    is_name = column == 0 and isinstance(part, nodes.tbody)
                    paragraph = nodes.paragraph()
                    paragraph += nodes.literal(text=text) if is_name else nodes.Text(text)
                    entry += paragraph
        return [table]


def setup(app: Any) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("formats", FormatsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
