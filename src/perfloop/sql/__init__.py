"""SQL: what a text does, what it looks for, and connections that cannot write."""
