"""The parts of the capacity bench: pure oracles, real services, and the shop under a limit."""
