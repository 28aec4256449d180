from ._best_of_n import best_of_n as best_of_n
from ._certified import certified_search as certified_search
from .results import (
    Candidate as Candidate,
    SearchCost as SearchCost,
    SearchProgress as SearchProgress,
    SearchResult as SearchResult,
)

__all__ = ["Candidate", "SearchCost", "SearchProgress", "SearchResult", "best_of_n", "certified_search"]
