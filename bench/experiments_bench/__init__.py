"""Services and truths for ``bench.experiments``."""
