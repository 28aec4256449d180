from ._classifier import PathClassifier as PathClassifier

__all__ = ["PathClassifier"]
