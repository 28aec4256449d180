"""One file of tables per kind of benchmark, and what all tables share."""
