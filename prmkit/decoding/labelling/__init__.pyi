from ._label_by_rollouts import label_by_rollouts as label_by_rollouts

__all__ = ["label_by_rollouts"]
