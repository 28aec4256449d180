from .scored_solution import ScoredSolution
from .scoring import score_solutions
from .solution_display import PathDisplay

__all__ = ["PathDisplay", "ScoredSolution", "score_solutions"]
