from .generation import Generation as Generation, TextGenerator as TextGenerator
from .generators import (
    CallableGenerator as CallableGenerator,
    LoggedGenerator as LoggedGenerator,
    OpenAIGenerator as OpenAIGenerator,
    VLLMGenerator as VLLMGenerator,
)
from .labelling import label_by_rollouts as label_by_rollouts
from .rewards import (
    AttributeRewardModel as AttributeRewardModel,
    AttributeScores as AttributeScores,
    PRMReward as PRMReward,
    StepRewards as StepRewards,
)
from .search import (
    Candidate as Candidate,
    SearchCost as SearchCost,
    SearchProgress as SearchProgress,
    SearchResult as SearchResult,
    beam_search as beam_search,
    best_of_n as best_of_n,
    certified_search as certified_search,
    diverse_beam_search as diverse_beam_search,
    lookahead_search as lookahead_search,
    particle_filter as particle_filter,
    rollout_search as rollout_search,
)
from .verifiers import (
    AnswerVerifier as AnswerVerifier,
    LimitedVerifier as LimitedVerifier,
    UnitTestVerifier as UnitTestVerifier,
    is_complete_process as is_complete_process,
    is_correct_process as is_correct_process,
    is_valid_process as is_valid_process,
    non_sequiturs as non_sequiturs,
)

__all__ = [
    "AnswerVerifier",
    "AttributeRewardModel",
    "AttributeScores",
    "CallableGenerator",
    "Candidate",
    "Generation",
    "LimitedVerifier",
    "LoggedGenerator",
    "OpenAIGenerator",
    "PRMReward",
    "SearchCost",
    "SearchProgress",
    "SearchResult",
    "StepRewards",
    "TextGenerator",
    "UnitTestVerifier",
    "VLLMGenerator",
    "beam_search",
    "best_of_n",
    "certified_search",
    "diverse_beam_search",
    "is_complete_process",
    "is_correct_process",
    "is_valid_process",
    "label_by_rollouts",
    "lookahead_search",
    "non_sequiturs",
    "particle_filter",
    "rollout_search",
]
