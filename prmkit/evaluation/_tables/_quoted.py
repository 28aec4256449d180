"""Published numbers of known models. They are quoted, and not computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROCESSBENCH_SPLITS = ("gsm8k", "math", "olympiadbench", "omnimath")
PRMBENCH_COLUMNS = ("overall", "simplicity", "soundness", "sensitivity")
_PAPER = "arXiv:2412.06559v4, Table 3"
_LESSONS = "arXiv:2501.07301, quoted second hand"
_SEARCH = "huggingface/search-and-learn"
_NOTEBOOK = "notebook in ssmisya/PRMBench"
_RLHFLOW = "RLHFlow/RLHF-Reward-Modeling, math-rm README"


@dataclass(frozen=True)
class Quoted:
    """A published row. Its values are shares and not per cent."""

    system: str
    values: Mapping[str, float]
    source: str


def _rows(names: tuple[str, ...], *rows: tuple[Any, ...]) -> tuple[Quoted, ...]:
    return tuple(
        Quoted(system, {name: round(value / 100, 5) for name, value in zip(names, values, strict=True)}, source)
        for system, *values, source in rows
    )


PROCESSBENCH = _rows(
    PROCESSBENCH_SPLITS,
    ("Math-Shepherd-PRM-7B", 47.9, 29.5, 24.8, 23.8, _PAPER),
    ("RLHFlow-PRM-Mistral-8B", 50.4, 33.4, 13.8, 15.8, _PAPER),
    ("RLHFlow-PRM-Deepseek-8B", 38.8, 33.8, 16.9, 16.9, _PAPER),
    ("Skywork-PRM-1.5B", 59.0, 48.0, 19.3, 19.2, _PAPER),
    ("Skywork-PRM-7B", 70.8, 53.6, 22.9, 21.0, _PAPER),
    ("Qwen2.5-Math-7B-PRM800K", 68.2, 62.6, 50.7, 44.3, _PAPER),
    ("Qwen2.5-7B-Instruct (critic)", 36.5, 36.6, 29.7, 27.4, _PAPER),
    ("GPT-4o-0806 (critic)", 79.2, 63.6, 51.4, 53.5, _PAPER),
    ("QwQ-32B-Preview (critic)", 88.0, 78.7, 57.8, 61.3, _PAPER),
    ("o1-mini (critic)", 93.2, 88.9, 87.2, 82.4, _PAPER),
    ("Qwen2.5-Math-PRM-7B", 82.4, 77.6, 67.5, 66.3, _LESSONS),
    ("Qwen2.5-Math-PRM-72B", 87.3, 80.6, 74.3, 71.1, _LESSONS),
    ("Qwen2.5-Math-7B-Math-Shepherd", 62.5, 31.6, 13.7, 7.7, _LESSONS),
    ("Qwen2.5-Math-1.5B-PRM-0.2", 36.6, 49.6, 36.1, 37.0, _SEARCH),
    ("Qwen2.5-Math-7B-PRM-0.2", 70.8, 62.6, 47.1, 48.0, _SEARCH),
)
PRMBENCH = _rows(
    PRMBENCH_COLUMNS,
    ("Llemma-PRM800K-7B", 52.0, 51.4, 50.9, 66.0, _NOTEBOOK),
    ("MATHMinos-Mistral-7B", 54.2, 51.4, 54.4, 66.5, _NOTEBOOK),
    ("MathShepherd-Mistral-7B", 47.0, 47.1, 45.7, 60.7, _NOTEBOOK),
    ("ReasonEval-7B", 60.0, 55.5, 63.9, 71.0, _NOTEBOOK),
    ("ReasonEval-34B", 60.5, 51.5, 63.0, 73.1, _NOTEBOOK),
    ("RLHFlow-PRM-Mistral-8B", 54.4, 46.7, 57.5, 68.5, _NOTEBOOK),
    ("RLHFlow-PRM-Deepseek-8B", 54.2, 47.6, 57.5, 68.1, _NOTEBOOK),
    ("Qwen2.5-Math-PRM-7B", 65.5, 52.1, 71.0, 75.5, _NOTEBOOK),
    ("Qwen2.5-Math-PRM-72B", 68.2, 54.6, 73.9, 77.0, _NOTEBOOK),
    ("Pure-PRM-7B", 65.3, 52.2, 70.2, 75.8, _NOTEBOOK),
    ("GPT-4o", 66.8, 59.7, 70.9, 75.8, _NOTEBOOK),
    ("o1-mini", 68.8, 64.6, 72.1, 75.5, _NOTEBOOK),
    ("Gemini-2.0-thinking", 68.8, 66.2, 71.8, 75.3, _NOTEBOOK),
)
BEST_OF_1024 = _rows(
    ("gsm8k", "math"),
    ("Mistral generator, pass@1", 77.9, 28.4, _RLHFLOW),
    ("Mistral generator, majority of 1024", 84.2, 36.8, _RLHFLOW),
    ("Mistral generator, ORM best of 1024", 90.1, 43.6, _RLHFLOW),
    ("Mistral generator, PRM best of 1024", 92.4, 46.3, _RLHFLOW),
    ("Deepseek generator, pass@1", 83.9, 42.4, _RLHFLOW),
    ("Deepseek generator, majority of 1024", 89.7, 57.4, _RLHFLOW),
    ("Deepseek generator, ORM best of 1024", 93.4, 52.4, _RLHFLOW),
    ("Deepseek generator, PRM best of 1024", 93.0, 58.1, _RLHFLOW),
    ("Deepseek generator, Mistral-trained PRM best of 1024", 91.9, 56.9, _RLHFLOW),
)
BEST_OF_8 = _rows(
    ("mean of seven sets",),
    ("pass@8", 74.7, f"{_LESSONS}, Table 6"),
    ("majority of 8", 66.2, f"{_LESSONS}, Table 6"),
    ("Math-Shepherd", 64.2, f"{_LESSONS}, Table 6"),
    ("Skywork-PRM-7B", 64.8, f"{_LESSONS}, Table 6"),
    ("Qwen2.5-Math-7B-PRM800K", 64.9, f"{_LESSONS}, Table 6"),
    ("Qwen2.5-Math-PRM-7B", 67.6, f"{_LESSONS}, Table 6"),
    ("Qwen2.5-Math-PRM-72B", 70.7, f"{_LESSONS}, Table 6"),
)
