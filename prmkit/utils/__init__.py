"""What every other room stands on: lazy imports, scikit-learn's private pieces, the estimator checks."""
