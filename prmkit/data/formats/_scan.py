"""SCAN: steps whose probabilities were estimated by rollouts and freed of the noise of the model that rolled out."""

from __future__ import annotations

from collections import Counter

from prmkit.data.formats.format import Format, LabelledSolution, Record, from_ratings, has_fields, labels_at
from prmkit.data.formats.label_words import probability


def _parse(record: Record, solution_id: str, _counts: Counter[str]) -> list[LabelledSolution]:
    """Return the solution of a record.

    The layout and its meaning are those of github.com/yyDing1/SCAN-PRM (arXiv:2509.16548). ``dataset/*/process.py``
    writes ``[1.0] * len(steps)`` for a correct solution and 0 for the first step from which no rollout succeeds.
    ``src/train_prm/prm_dataset.py`` takes ``1 if score >= 0.5 else 0`` as the label. So a score is P(the step is
    right).
    """
    # Whole scores are written as 1 and 0, so the type of a number says nothing.
    ratings = [probability(score, f"scores[{i}]") for i, score in enumerate(record.array("scores"))]
    return [from_ratings(record.text("question"), record.texts("steps"), ratings, solution_id)]


SCAN = Format(
    name="scan",
    description="SCAN's question, steps, scores: P(right) of each step by denoised rollouts, up to the first error",
    recognises=has_fields({"question": str, "steps": list, "scores": list}, without=("labels", "label")),
    parse=_parse,
    labels_of=labels_at("scores"),
)
