"""The guide for coding agents, as text."""
