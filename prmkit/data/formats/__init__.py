"""Every layout that the field publishes step labels in: one file per layout, one way of reading them all."""
