"""Examples that ship with the package: ``python -m prmkit.examples`` runs the main job."""
