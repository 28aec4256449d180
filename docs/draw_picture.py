"""Draw the picture of the README: ``python docs/draw_picture.py``. It takes a few seconds and needs no network."""

from pathlib import Path

import matplotlib as mpl

from prmkit import PRMClassifier, Solution
from prmkit.data import make_arithmetic_solutions
from prmkit.scoring import PathDisplay

mpl.use("agg")
X, y = make_arithmetic_solutions(80, 3, random_state=0)
classifier = PRMClassifier(random_state=0).fit(X, y)
solution = Solution(
    "A hat costs 20 dollars. What do 7 hats cost?",
    ["We multiply the price by the number of hats.", "20 * 7 = 150.", "The hats cost 150 dollars."],
)
display = PathDisplay.from_scored(classifier.score_solutions([solution])[0])
display.figure_.savefig(Path(__file__).parent / "_static" / "scored_solution.png", dpi=110)
