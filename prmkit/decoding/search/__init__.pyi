from ._beam_search import beam_search as beam_search, diverse_beam_search as diverse_beam_search
from ._best_of_n import best_of_n as best_of_n
from ._certified import certified_search as certified_search
from ._display import SearchDisplay as SearchDisplay
from ._particle_filter import particle_filter as particle_filter
from ._simulated_search import lookahead_search as lookahead_search, rollout_search as rollout_search
from ._step_expander import step_expander as step_expander
from .results import (
    Candidate as Candidate,
    SearchCost as SearchCost,
    SearchProgress as SearchProgress,
    SearchResult as SearchResult,
)

__all__ = [
    "Candidate",
    "SearchCost",
    "SearchDisplay",
    "SearchProgress",
    "SearchResult",
    "beam_search",
    "best_of_n",
    "certified_search",
    "diverse_beam_search",
    "lookahead_search",
    "particle_filter",
    "rollout_search",
    "step_expander",
]
