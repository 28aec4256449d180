"""Ways to compute a text encoder: torch, and converted models where their runtime is installed."""
