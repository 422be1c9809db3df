"""Rows of ``make bench-load``, a file for each part; every one has ``rows() -> list[Row]``."""
