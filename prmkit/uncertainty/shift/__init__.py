"""Whether a solution looks unlike the data that a model learnt from."""
