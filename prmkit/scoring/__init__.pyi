from .blocks import iter_scores as iter_scores
from .incremental import IncrementalScorer as IncrementalScorer
from .scored_solution import ScoredSolution as ScoredSolution
from .scoring import score_solutions as score_solutions
from .solution_display import PathDisplay as PathDisplay
from .tables import score_frame as score_frame

__all__ = ["IncrementalScorer", "PathDisplay", "ScoredSolution", "iter_scores", "score_frame", "score_solutions"]
