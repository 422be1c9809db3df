"""The shop under load, looked at and not looked at."""
