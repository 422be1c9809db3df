"""Rules about the operating system."""
