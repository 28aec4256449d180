from .log_probs import LogProbFeatures as LogProbFeatures
from .token_states import TokenStates as TokenStates

__all__ = ["LogProbFeatures", "TokenStates"]
