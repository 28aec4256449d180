from .blocks import iter_scores as iter_scores
from .files import merge_scores as merge_scores, score_file as score_file
from .incremental import IncrementalScorer as IncrementalScorer
from .scored_solution import ScoredSolution as ScoredSolution
from .scoring import score_solutions as score_solutions
from .solution_display import PathDisplay as PathDisplay
from .states import extract_states as extract_states
from .tables import score_frame as score_frame

__all__ = [
    "IncrementalScorer",
    "PathDisplay",
    "ScoredSolution",
    "extract_states",
    "iter_scores",
    "merge_scores",
    "score_file",
    "score_frame",
    "score_solutions",
]
