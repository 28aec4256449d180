from .generation import Generation as Generation, TextGenerator as TextGenerator
from .generators import (
    CallableGenerator as CallableGenerator,
    LoggedGenerator as LoggedGenerator,
    OpenAIGenerator as OpenAIGenerator,
    VLLMGenerator as VLLMGenerator,
)
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
    best_of_n as best_of_n,
    certified_search as certified_search,
)
from .verifiers import (
    AnswerVerifier as AnswerVerifier,
    LimitedVerifier as LimitedVerifier,
    UnitTestVerifier as UnitTestVerifier,
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
    "best_of_n",
    "certified_search",
]
