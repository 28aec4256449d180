"""Several models in place of one, so that their disagreement can be read."""
