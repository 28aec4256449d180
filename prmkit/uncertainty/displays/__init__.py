"""Pictures of guarantees and of single paths, in the manner of scikit-learn's displays."""
