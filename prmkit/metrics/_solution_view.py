"""How a scored solution looks: coloured steps in a terminal and a notebook, readable without colour too."""

from __future__ import annotations

import io
import os
import sys
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prmkit.metrics._scored_solution import ScoredSolution

# Teal, amber, red: told apart by people who do not tell red from green.
_SCALE = ((42, 157, 143), (233, 160, 59), (209, 44, 60))
_BAR_CELLS = 8
_HTML_BAR = "flex:none;align-self:center;width:4em;height:.55em;background:rgba(128,128,128,.25)"
_EIGHTHS = " ▏▎▍▌▋▊▉"
# Steps are somebody else's text: a control character must not reach the terminal.
_VISIBLE_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {
    127: 0x2421,
    155: 0x241B,
}


def risk_rgb(risk: float) -> tuple[int, int, int]:
    """Return the colour of a risk in [0, 1], from teal (0) over amber (0.5) to red (1)."""
    part = min(max(float(risk), 0.0), 1.0) * (len(_SCALE) - 1)
    left = min(int(part), len(_SCALE) - 2)
    red, green, blue = (
        round(a + (b - a) * (part - left)) for a, b in zip(_SCALE[left], _SCALE[left + 1], strict=True)
    )
    return red, green, blue


def risk_bar(risk: float) -> str:
    """Return a bar of eight cells, drawn to an eighth of a cell."""
    eighths = round(float(risk) * _BAR_CELLS * 8)
    bar = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return bar.ljust(_BAR_CELLS)


def solution_text(scored: ScoredSolution, color: bool | None = None, width: int | None = None) -> str:
    """Return a scored solution as a table of its steps; see :meth:`ScoredSolution.to_text`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if color is None:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    table = Table(box=None, padding=(0, 1), pad_edge=True, header_style="dim")
    for name in ("step", "risk", "", "entropy", "first error"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    table.add_column("text", ratio=1, overflow="fold")
    rows = zip(
        scored.solution.steps, scored.risks, scored.entropy, scored.first_error_distribution, strict=False
    )
    for index, (text, risk, entropy, first) in enumerate(rows):
        style = "rgb({},{},{})".format(*risk_rgb(risk))
        table.add_row(
            str(index),
            Text(f"{risk:.2f}", style=f"bold {style}"),
            Text(risk_bar(risk), style=style),
            f"{entropy:.2f}",
            f"{first:.2f}",
            Text(_printable(text) or "(empty step)", style=style if risk >= 0.5 else ""),
        )
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=bool(color),
        force_jupyter=False,
        color_system="auto" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
    )
    if scored.solution.problem:
        console.print(Text.assemble(("Problem  ", "dim"), _printable(scored.solution.problem)), end="\n\n")
    console.print(table)
    console.print()
    console.print(Text("\n".join(_summary(scored))))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def solution_html(scored: ScoredSolution) -> str:
    """Return a scored solution as HTML that stands alone: inline styles, no script, every text escaped."""
    steps = []
    first_error = scored.first_error_distribution
    rows = zip(scored.solution.steps, scored.proba, scored.risks, scored.entropy, strict=True)
    for index, (text, proba, risk, entropy) in enumerate(rows):
        rgb = "{},{},{}".format(*risk_rgb(risk))
        said = "\n".join(f"P({label}) = {p:.3f}" for label, p in zip(scored.classes, proba, strict=True))
        tooltip = (
            f"step {index}: risk {risk:.3f}, entropy {entropy:.3f} nats\n{said}\n"
            f"P(first error here) = {first_error[index]:.3f}"
        )
        steps.append(
            f'<div title="{escape(tooltip)}" style="display:flex;gap:.7em;margin:2px 0;padding:3px 8px;cursor:help;'
            f'border-left:4px solid rgb({rgb});background:rgba({rgb},{0.08 + 0.22 * risk:.2f})">'
            f'<span style="opacity:.6;min-width:1.6em;text-align:right">{index}</span>'
            f'<span style="min-width:2.6em;font-variant-numeric:tabular-nums">{risk:.2f}</span>'
            f'<span style="{_HTML_BAR}">'
            f'<span style="display:block;height:100%;width:{100 * risk:.0f}%;background:rgb({rgb})">'
            "</span></span>"
            f'<span style="white-space:pre-wrap;overflow-wrap:anywhere">'
            f"{escape(text) or '<i>(empty step)</i>'}</span></div>"
        )
    problem = scored.solution.problem
    head = f'<div style="white-space:pre-wrap;margin-bottom:.5em"><b>Problem</b> {escape(problem)}</div>'
    legend = '<div style="opacity:.6;font-size:.85em">step, risk (hover for all probabilities)</div>'
    foot = "<br>".join(map(escape, _summary(scored)))
    return (
        '<div class="prmkit-path" style="max-width:60em;line-height:1.45">'
        f"{head if problem else ''}{legend}{''.join(steps)}"
        f'<div style="opacity:.8;font-size:.9em;margin-top:.4em">{foot}</div></div>'
    )


def _summary(scored: ScoredSolution) -> list[str]:
    first = scored.first_error_distribution
    likely = int(first[:-1].argmax())
    return [
        f"P(no error) {first[-1]:.2f}, most likely first error: step {likely} ({first[likely]:.2f})",
        "rewards: " + ", ".join(f"{rule.replace('_', ' ')} {v:.2f}" for rule, v in scored.aggregates.items()),
    ]


def _printable(text: str) -> str:
    return text.translate(_VISIBLE_CONTROLS)
