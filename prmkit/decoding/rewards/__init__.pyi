from ._attributes import AttributeRewardModel as AttributeRewardModel, AttributeScores as AttributeScores
from ._prm_reward import PRMReward as PRMReward
from ._step_rewards import StepRewards as StepRewards

__all__ = ["AttributeRewardModel", "AttributeScores", "PRMReward", "StepRewards"]
