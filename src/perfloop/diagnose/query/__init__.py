"""Why one query is slow, or slower than it was: pure functions of its evidence, one for each cause, and their order."""
