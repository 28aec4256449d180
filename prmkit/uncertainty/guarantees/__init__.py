"""Guarantees with the problem as unit: what may be kept, flagged or accepted at a stated risk."""
