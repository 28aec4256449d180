"""Probabilities brought in line with what is observed, for steps and for whole paths."""
