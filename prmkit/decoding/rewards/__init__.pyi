from ._prm_reward import PRMReward as PRMReward
from ._step_rewards import StepRewards as StepRewards

__all__ = ["PRMReward", "StepRewards"]
