"""Where each step of a text begins and ends: the one rule by which texts are cut into steps."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

_Unit: TypeAlias = Literal["paragraph", "line", "enumeration", "sentence"]
By: TypeAlias = _Unit | Callable[[str], Sequence[str]]
"""The unit that becomes a step, or a function of a text that returns its steps."""
Think: TypeAlias = Literal["keep", "drop", "only"]
BY: tuple[_Unit, ...] = get_args(_Unit)

_Span: TypeAlias = tuple[int, int]
# Vertical tab and form feed are left out: in published files they are what is left of "\vec" and "\frac".
_NEWLINE = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_THINK_TAG = re.compile("<(/?)think>")
_FENCE = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?(`{3,}|~{3,})([^\r\n]*)")
# A pair of backslashes is a line break of LaTeX, so "\\[2pt]" opens nothing.
_MARK = re.compile(r"\\(begin|end)[ \t]?\{([A-Za-z]{1,30}\*?)\}|\\.|\$\$?|`+")
# No part of these can be read in two ways, so the time grows with the text alone.
_BEFORE = r"[ \t>]*(?:[-*+][ \t]+)?(?:#{1,6}[ \t]*)?[*_]{0,3}"
_WORDS = re.compile(r"[ \t,.;:]*(?:[a-z]{2,}[ \t,.;:]+)*")
_BRACKETS = {r"\[": ("[]", True), r"\]": ("[]", False), r"\(": ("()", True), r"\)": ("()", False)}
# Language models write "## Step 1: …", "**Step 1.** …", "STEP 1 - …" and their like.
_STEP = re.compile(
    _BEFORE + r"\[?step[ \t]*(?:[#-][ \t]*)?\d+(?:[ \t]*[*_]{1,3})?[ \t]*(?:[]:.)\uff1a\u2013\u2014-]|$)", re.IGNORECASE
)
_NUMBER = re.compile(_BEFORE + r"\(?\d{1,3}\\?[.)](?=[*_]{0,3}[ \t]+\S)")
_SENTENCE_END = re.compile(
    r"(?<![.!?\u2026])([.!?\u2026]+)(?:[*_\"'\u201d\u2019\u00bb)\]}$]|\\[)\]])*(?=\s+([^\W\d_]{1,12}|\S)?)"
    r"|(?<![\u3002\uff01\uff1f])[\u3002\uff01\uff1f]+[\u201d\u2019\u300d\u300f\uff09)]*"
)
_LAST_WORD = re.compile(r"(?<![\w\\^])(?:[^\W\d_]+\.)*[^\W\d_]+\Z")
_ABBREVIATIONS = re.compile(r"e\.g|i\.e|cf|vs|viz|approx|resp|al|dr|mrs?|ms|prof|st|figs?|eqs?|eqn", re.IGNORECASE)
_BEFORE_NUMBERS = re.compile(
    r"nos?|pp?|ch|sec|vol|ex|thm|def|lem|prop|cor|refs?|ca|ft|hr|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
_NO_START = frozenset([*",;:.!?)]}=+/^<>|&%", ""])
_INITIALS = re.compile(r"[A-Z](?:\.[A-Z])*")
_STARTERS = re.compile(
    "A|After|All|An|And|As|At|Because|Both|But|By|Each|Finally|First|For|From|Hence|Here|How|However|I|If|In|Its?|Let|"
    "Next|No|Now|On|Once|One|Second|Similarly|Since|So|Step|That|The|Then|There|Therefore|These|They|This|Those|Thus|"
    "To|Using|We|What|When|Which|While|With|You"
)
"""Words that begin a sentence behind one capital letter ("the point A. Then"), which is else an initial."""


def split_steps(text: str, by: By = "paragraph", *, think: Think = "keep") -> list[str]:
    r"""Cut a text into steps.

    Parameters
    ----------
    text : str
        Solution as a language model wrote it.
    by : {"paragraph", "line", "enumeration", "sentence"} or callable, default="paragraph"
        Unit that becomes a step.

        - "paragraph": the text between blank lines.
        - "line": a line.
        - "enumeration": the text from one heading "Step 1" to the next, also in capitals or Markdown ("## Step 1:",
          "**STEP 2.**"). A text without such headings is cut at its numbered lines: "1.", "2)", "(3)". Lists inside
          an item are not cut. The text before the first heading is a step.
        - "sentence": a sentence. Every line ends one. Decimals, initials and abbreviations do not.
        - A function of a text returns its steps, which stand in the text in this order. It may leave out text.

        Display formulas (``$$…$$``, ``\[…\]``, ``\begin{…}…\end{…}``), code between fences and Markdown tables stay
        whole, also over blank lines.
    think : {"keep", "drop", "only"}, default="keep"
        What happens to thoughts between ``<think>`` and ``</think>``. "keep" cuts them like all else, and a tag ends a
        step. "drop" leaves them out. "only" keeps nothing but them, without the tags. A thought without an end lasts
        until the end of the text. One without a beginning starts at the beginning of the text or behind the thought
        before it, since many chat templates write ``<think>`` into the prompt.

    Returns
    -------
    list of str
        Text of each step, without white space at its ends. No step is blank. A blank text has no steps.

    Raises
    ------
    TypeError
        If ``text`` is no string, or if the function returns anything but a list of strings.
    ValueError
        If ``by`` or ``think`` is unknown, or if a step of the function does not stand in the text.

    See Also
    --------
    step_offsets : Where the steps stand in the text.
    Solution.from_text : The steps as a solution.

    Examples
    --------
    >>> text = "## Step 1: multiply\n3 * 4 = 12.\n\n## Step 2: add\n2 + 12 = 14."
    >>> split_steps(text)
    ['## Step 1: multiply\n3 * 4 = 12.', '## Step 2: add\n2 + 12 = 14.']
    >>> split_steps(text, by="line")
    ['## Step 1: multiply', '3 * 4 = 12.', '## Step 2: add', '2 + 12 = 14.']
    >>> split_steps("<think>Is it 20? No.</think>It is 14.", think="drop")
    ['It is 14.']
    >>> split_steps("3 * 4 = 12; 2 + 12 = 14", by=lambda text: text.split(";"))
    ['3 * 4 = 12', '2 + 12 = 14']
    """
    return [text[start:end] for start, end in step_offsets(text, by, think=think)]


def step_offsets(text: str, by: By = "paragraph", *, think: Think = "keep") -> list[tuple[int, int]]:
    r"""Return where the steps of a text begin and end.

    Parameters
    ----------
    text : str
        Solution as a language model wrote it.
    by : {"paragraph", "line", "enumeration", "sentence"} or callable, default="paragraph"
        Unit that becomes a step: see `split_steps`.
    think : {"keep", "drop", "only"}, default="keep"
        What happens to thoughts between ``<think>`` and ``</think>``: see `split_steps`.

    Returns
    -------
    list of (int, int)
        Start and end of each step: ``text[start:end]`` is the step. They count the characters of a Python string. They
        are in order and do not overlap. With ``think="keep"`` and a unit by name, they hold all that is not white
        space.

    Raises
    ------
    TypeError
        If ``text`` is no string, or if the function returns anything but a list of strings.
    ValueError
        If ``by`` or ``think`` is unknown, or if a step of the function does not stand in the text.

    Examples
    --------
    >>> step_offsets("3 * 4 = 12.\n\n2 + 12 = 14.\n")
    [(0, 11), (13, 25)]
    """
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}, expected a string: one text at a time")
    check_by(by)
    if think not in get_args(Think):
        raise ValueError(f"think is {think!r}, expected one of {', '.join(map(repr, get_args(Think)))}")
    if callable(by) and think == "keep":
        return list(_found(text, _Part(0, 0, len(text), len(text), False), by))
    offsets: list[_Span] = []
    for part in _parts(text):
        if think != "keep" and part.is_thought == (think == "drop"):
            continue
        steps = list(_found(text, part, by) if callable(by) else _stripped(text, part, _RULES[by](text, part)))
        if think == "keep" and part.is_thought:  # the tags go to the first and the last step of the thought
            ends = [*(end for _, end in steps[:-1]), part.outer_end]
            steps = list(zip([part.outer_start, *(start for start, _ in steps[1:])], ends, strict=True))
        offsets += steps
    return offsets


def check_by(by: object) -> None:
    """Raise a ValueError if a text cannot be cut by this."""
    if not callable(by) and by not in BY:
        raise ValueError(f"by is {by!r}, expected one of {', '.join(map(repr, BY))}, or a function of a text")


class _Part(NamedTuple):
    """A thought or the text between two, without and with the tags."""

    outer_start: int
    start: int
    end: int
    outer_end: int
    is_thought: bool


def _parts(text: str) -> Iterator[_Part]:
    opened: tuple[int, int] | None = None
    done = 0
    for tag in _THINK_TAG.finditer(text):
        start, end = tag.span()
        if tag[1]:
            before = text[done:start]
            outer, inner = opened or (start - len(before.lstrip()), done)
            yield _Part(outer, inner, start, end, True)
            opened, done = None, end
        elif opened is None:
            yield _Part(done, done, start, start, False)
            opened = (start, end)
    if opened is None:
        yield _Part(done, done, len(text), len(text), False)
    else:
        yield _Part(*opened, len(text), len(text.rstrip()), True)


def _found(text: str, part: _Part, by: Callable[[str], Sequence[str]]) -> Iterator[_Span]:
    """Find the steps that a function returns."""
    piece = text[part.start : part.end]
    steps = by(piece) if piece.strip() else []
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise TypeError(f"the function of by returned {type(steps).__name__}, expected a list of strings")
    done = part.start
    for i, step in enumerate(steps):
        if not isinstance(step, str):
            raise TypeError(f"the function of by returned {type(step).__name__} as step {i}, expected a string")
        if not (step := step.strip()):
            continue
        start = text.find(step, done, part.end)
        if start < 0:
            raise ValueError(
                f"step {i} of the function of by does not stand in the text behind the steps before it: {step[:60]!r}. "
                "Return parts of the text, in order and unchanged"
            )
        done = start + len(step)
        yield start, done


def _stripped(text: str, part: _Part, cuts: Iterable[int]) -> Iterator[_Span]:
    """Yield what lies between the cuts, without white space at its ends, and nothing that is blank."""
    last = part.start
    for cut in (*cuts, part.end):
        piece = text[last:cut]
        if not piece.isspace() and piece:
            yield cut - len(piece.lstrip()), last + len(piece.rstrip())
        last = cut


def _lines(text: str, part: _Part) -> Iterator[_Span]:
    start = part.start
    for newline in _NEWLINE.finditer(text, part.start, part.end):
        yield start, newline.start()
        start = newline.end()
    yield start, part.end


def _by_line(text: str, part: _Part) -> list[int]:
    lines = list(_lines(text, part))
    return _outside(_blocks(text, lines)[0], (start for start, _ in lines))


def _by_paragraph(text: str, part: _Part) -> list[int]:
    lines = list(_lines(text, part))
    # A paragraph separator of Unicode ends a paragraph by itself.
    cuts = (a for a, b in lines if not text[a:b] or text[a:b].isspace() or text[a - 1 : a] == "\u2029")
    return _outside(_blocks(text, lines)[0], cuts)


def _by_enumeration(text: str, part: _Part) -> list[int]:
    lines = list(_lines(text, part))
    ends = dict(lines)
    starts = _outside(_blocks(text, lines)[0], ends)
    if steps := [start for start in starts if _STEP.match(text, start, ends[start])]:
        return steps
    numbers = [start for start in starts if _NUMBER.match(text, start, ends[start])]
    numbered = [text[start : ends[start]] for start in numbers]
    indents = [len(line) - len(line.lstrip(" \t>")) for line in numbered]
    # " 9." and "10." are of one list. A list inside an item stands further to the right.
    furthest = min(indents, default=0) + 1
    return [start for start, indent in zip(numbers, indents, strict=True) if indent <= furthest]


def _by_sentence(text: str, part: _Part) -> list[int]:
    lines = list(_lines(text, part))
    blocks, inline = _blocks(text, lines)
    cuts: list[int] = []
    for start, end in lines:
        cuts.append(start)
        head = _STEP.match(text, start, end) or _NUMBER.match(text, start, end)
        # The point of "1." ends no sentence.
        ends = _SENTENCE_END.finditer(text, start if head is None else head.end(), end)
        cuts += [match.end() for match in ends if _ends_sentence(text, match, start)]
    return _outside(_merged(blocks + inline), cuts)


def _ends_sentence(text: str, match: re.Match[str], line: int) -> bool:
    marks, word = match.groups(default="")
    if not marks:  # the full stops of Chinese and Japanese need no space
        return True
    if marks[-1] == "\u2026" or marks.startswith(".."):
        return word[:1].isalpha() and not word[:1].islower()
    # "x" may begin a sentence, a word in small letters does not.
    if word in _NO_START or (word[:1].islower() and len(word) > 1):
        return False
    last = _LAST_WORD.search(text, max(line, match.start() - 20), match.start())
    if marks != "." or last is None:
        return True
    if _INITIALS.fullmatch(last[0]):
        return _STARTERS.fullmatch(word) is not None or not word[:1].isalpha()
    return not (_ABBREVIATIONS.fullmatch(last[0]) or (_BEFORE_NUMBERS.fullmatch(last[0]) and word[:1].isdigit()))


_RULES = {"paragraph": _by_paragraph, "line": _by_line, "enumeration": _by_enumeration, "sentence": _by_sentence}


def _outside(blocks: list[_Span], cuts: Iterable[int]) -> list[int]:
    """Return the cuts that do not fall inside a block."""
    starts = [start for start, _ in blocks]
    return [cut for cut in cuts if not (i := bisect_left(starts, cut)) or blocks[i - 1][1] <= cut]


def _merged(blocks: Iterable[_Span]) -> list[_Span]:
    merged: list[_Span] = []
    for start, end in sorted(blocks):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _blocks(text: str, lines: list[_Span]) -> tuple[list[_Span], list[_Span]]:
    """Return what stays whole: blocks of code, tables and formulas, and what a sentence does not end in."""
    start, end = lines[0][0], lines[-1][1]
    if all(text.find(mark, start, end) < 0 for mark in "`~|$\\"):
        return [], []
    blocks, others = _code_and_tables(text, lines)
    formulas, inline = _formulas(text, others)
    return _merged(blocks + formulas), inline


def _code_and_tables(text: str, lines: list[_Span]) -> tuple[list[_Span], list[_Span]]:
    """Return the blocks of code and the tables, and the lines that are no code."""
    blocks, others = [], []
    fence: tuple[int, str] | None = None
    table: int | None = None
    row: int | None = None  # start of the line before, if it may be the head of a table
    for start, end in lines:
        line = text[start:end]
        mark = _FENCE.match(line)
        if fence is not None:
            if mark and mark[1].startswith(fence[1]) and not mark[2].strip():
                blocks.append((fence[0], end))
                fence = None
            continue
        if mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence, table, row = (start, mark[1]), None, None
            continue
        others.append((start, end))
        has_bar = "|" in line
        if row is not None and table is None and has_bar and "-" in line and set(line) <= set("|:- \t>"):
            table = row
        table = table if has_bar else None
        row = start if has_bar else None
        if table is not None:
            blocks.append((table, end))
    if fence is not None:
        blocks.append((fence[0], lines[-1][1]))
    return blocks, others


def _formulas(text: str, lines: list[_Span]) -> tuple[list[_Span], list[_Span]]:
    """Return the display formulas, and the formulas and the code inside lines."""
    blocks: list[_Span] = []
    inline: list[_Span] = []
    opened: dict[str, list[int]] = defaultdict(list)
    display: int | None = None
    for start, end in lines:
        doubles: list[int] = []
        singles: dict[str, int] = {}
        for mark in _MARK.finditer(text, start, end):
            what, (first, last) = mark[0], mark.span()
            name, opens = (mark[2], mark[1] == "begin") if mark[2] else _BRACKETS.get(what, ("", False))
            if opens:
                opened[name].append(first)
            elif name and opened[name]:
                (inline if name == "()" else blocks).append((opened[name].pop(), last))
            elif what == "$$":
                doubles.append(first)
            elif what[0] != "\\":
                # As Pandoc reads it, so that "$5 and $6" are amounts of money.
                before, behind = text[first - 1 : first], text[last : last + 1]
                if what in singles and (what[0] == "`" or not (before.isspace() or behind.isdigit())):
                    inline.append((singles.pop(what), last))
                elif what[0] == "`" or not behind.isspace():
                    singles[what] = first
        if display is not None and doubles:
            # "$$ and $$" ends a formula and begins one. "$$x = 1$$" is a formula: what was opened before it never ends.
            if len(doubles) % 2 or _WORDS.fullmatch(text, doubles[0] + 2, doubles[1]):
                blocks.append((display, doubles.pop(0) + 2))
            display = None
        blocks += [(first, last + 2) for first, last in zip(doubles[::2], doubles[1::2], strict=False)]
        # A formula over several lines begins or ends a line, else "$$" opens nothing.
        if len(doubles) % 2 and not (text[start : doubles[-1]].strip() and text[doubles[-1] + 2 : end].strip()):
            display = doubles[-1]
    return blocks, inline
