"""Published process reward models: their layouts as data, and how they are loaded."""
