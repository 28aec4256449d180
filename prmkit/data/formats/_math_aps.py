"""Math-APS of OpenR: a search tree of solutions of each question, with the success of rollouts from each node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields
from prmkit.data.formats.label_words import Rating, probability
from prmkit.data.jsonlines import MalformedRecordError

_NODES, _VALUE = "reasoning_steps", "mc_value"


@dataclass
class _Node:
    """A step, the share of rollouts from it that reached the answer, and the steps that follow it."""

    text: str
    value: float | None
    children: list[_Node] = field(default_factory=list)


def _parse(record: Record, solution_id: str, counts: Counter[str]) -> list[LabelledSolution]:
    """Return a solution for each leaf of the tree. A step of several solutions is labelled in the first of them.

    The layouts are those of github.com/openreasoner/openr (arXiv:2410.09671): all nodes, each as the whole text up to
    it
    (``preprocess/tests/samples_math-aps-v2.jsonl``), or nodes within each other (``samples_math-aps-v2_tree.jsonl``).
    ``data/omegaPRM_v2/omegaprm.py`` computes ``MC(s) = c / k``, with c the number of correct rollouts, and
    ``preprocess/src/preprocessors/math_aps.py`` takes + for more than 0.5. So values are P(the answer is reached).
    """
    question, nodes = record.text("question"), record.value(_NODES)
    if isinstance(nodes, list):
        roots = _tree_of([Record(node) for node in nodes], question, counts)
    else:
        root = _node(Record(nodes), counts)
        if root.text != question.strip():
            raise MalformedRecordError(
                "the root is no question", f"text is {root.text!r:.60}, question {question!r:.60}"
            )
        roots = root.children
        counts["values of a question as a whole, left out"] += root.value is not None
    meta = {"answer": record.note("final_answer"), "record_id": record.note("question_id")}
    parsed = []
    seen: set[int] = set()
    for number, path in enumerate(path for root in roots for path in _paths(root)):
        ratings: list[Rating] = [None if id(node) in seen else node.value for node in path]
        counts["steps of several solutions, labelled in the first"] += sum(id(node) in seen for node in path)
        seen.update(map(id, path))
        parsed.append(from_ratings(question, [node.text for node in path], ratings, f"{solution_id}/{number}", meta))
    if not parsed:
        raise MalformedRecordError("no steps", f"{_NODES} holds the question alone")
    return parsed


def _paths(node: _Node) -> Iterator[list[_Node]]:
    if not node.children:
        yield [node]
    for child in node.children:
        for path in _paths(child):
            yield [node, *path]


def _node(record: Record, counts: Counter[str]) -> _Node:
    children = record.array("children") if "children" in record else []
    inside = [_node(Record(child), counts) for child in children]
    return _Node(record.text("text").strip(), _value(record), inside)


def _value(record: Record) -> float | None:
    value = record.value(_VALUE)
    return None if value is None else probability(value, _VALUE)


def _tree_of(states: Sequence[Record], question: str, counts: Counter[str]) -> list[_Node]:
    """Return the first steps of the tree whose nodes are given as the whole text up to each of them.

    The parent of a node is the longest text that begins it and ends with a line.
    """
    nodes: dict[str, _Node] = {}
    roots: list[_Node] = []
    whole = [(state.text("solution_prefix").strip().removeprefix(question.strip()).strip(), state) for state in states]
    for text, state in sorted(whole, key=lambda pair: len(pair[0])):
        value = _value(state)
        if not text:
            counts["values of a question as a whole, left out"] += value is not None
            continue
        begin = max((known for known in nodes if _continues(text, known)), key=len, default="")
        node = _Node(text.removeprefix(begin).strip(), value)
        (nodes[begin].children if begin else roots).append(node)
        # Equal texts are samples of their own. The first of them is the parent of what follows.
        nodes.setdefault(text, node)
    return roots


def _continues(text: str, begin: str) -> bool:
    rest = text[len(begin) :]
    return text.startswith(begin) and rest[: len(rest) - len(rest.lstrip())].count("\n") > 0


def _labels_of(record: Mapping[str, Any]) -> Sequence[object]:
    inside, labels = [record.get(_NODES)], []
    while inside:
        value = inside.pop()
        if isinstance(value, Mapping):
            labels.append(value.get(_VALUE))
            inside.append(value.get("children"))
        elif isinstance(value, list):
            inside += value
    return [label for label in labels if isinstance(label, (int, float))]


MATH_APS = Format(
    name="math_aps",
    description="OpenR's Math-APS, all nodes or a tree: the share of rollouts from each step that reach the answer",
    recognises=has_fields({"question": str, _NODES: (list, dict)}),
    parse=_parse,
    labels_of=_labels_of,
)
