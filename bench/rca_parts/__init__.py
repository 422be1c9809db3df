"""The parts of the root-cause bench: synthetic services to tune on, public cases to report on, and the published peers."""
