from .best_of_n import best_of_n_accuracy as best_of_n_accuracy, pass_at_k as pass_at_k
from .votes import (
    VoteAccuracy as VoteAccuracy,
    combine_vote as combine_vote,
    vote as vote,
    vote_accuracy as vote_accuracy,
)

__all__ = ["VoteAccuracy", "best_of_n_accuracy", "combine_vote", "pass_at_k", "vote", "vote_accuracy"]
