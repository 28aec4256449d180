"""
Read PRM800K in both views
==========================

With a file or the folder of the official files: ``python 03_prm800k.py FILE_OR_FOLDER``. Without an argument the
script reads one record that it makes up.
"""

import json
import sys
import tempfile
from pathlib import Path

from prmkit import load_prm800k


def made_up(folder: str) -> Path:
    """Write one record in the layout of PRM800K: alternatives, a human step, an unrated and a wrong one."""

    def rated(*candidates):
        return [{"text": text, "rating": rating, "flagged": False} for text, rating in candidates]

    human = {"text": "3*4 = 12, by counting.", "rating": None, "source": "human", "flagged": False}
    steps = [
        {
            "completions": rated(("Let us see.", 0), ("Compute 3*4.", 1)),
            "human_completion": None,
            "chosen_completion": 1,
        },
        {"completions": rated(("3*4 = 13.", -1)), "human_completion": human, "chosen_completion": None},
        {"completions": rated(("Now add 5.", None)), "human_completion": None, "chosen_completion": 0},
        {
            "completions": rated(("12+5 = 18.", -1), ("12+5 = 17.", 1)),
            "human_completion": None,
            "chosen_completion": None,
        },
    ]
    record = {
        "labeler": "made up",
        "timestamp": "",
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "Compute 3*4+5.", "ground_truth_answer": "17"},
        "label": {"steps": steps, "total_time": 1, "finish_reason": "found_error"},
    }
    path = Path(folder) / "made_up.jsonl"
    path.write_text(json.dumps(record) + "\n")
    return path


# %%
# The view ``"prefixes"`` gives every rated step as a row, with the steps before it. The view ``"trajectories"``
# gives the solution that the record follows.

with tempfile.TemporaryDirectory() as folder:
    path = sys.argv[1] if len(sys.argv) > 1 else made_up(folder)
    for view in ("prefixes", "trajectories"):
        data = load_prm800k(path, view=view)
        print(f"\n{view}\n{data.description}\n{data!r}")
        for step, label in list(zip(data.X, data.y, strict=True))[:8]:
            print(f"  {label:+d}  after {len(step.prefix)} steps: {step.text!r:.70}")
        print("  first errors:", data.first_errors[:8])
