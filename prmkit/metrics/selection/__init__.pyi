from .best_of_n import best_of_n_accuracy, pass_at_k
from .votes import VoteAccuracy, combine_vote, vote, vote_accuracy

__all__ = ["VoteAccuracy", "best_of_n_accuracy", "combine_vote", "pass_at_k", "vote", "vote_accuracy"]
