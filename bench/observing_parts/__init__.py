"""The parts of the bench of what looking costs."""
