from ._report import SelectionDisplay as SelectionDisplay, selection_report as selection_report
from .best_of_n import best_of_n_accuracy as best_of_n_accuracy, pass_at_k as pass_at_k
from .subsets import vote_accuracy as vote_accuracy
from .votes import select as select, vote as vote, vote_is_decided as vote_is_decided

__all__ = [
    "SelectionDisplay",
    "best_of_n_accuracy",
    "pass_at_k",
    "select",
    "selection_report",
    "vote",
    "vote_accuracy",
    "vote_is_decided",
]
