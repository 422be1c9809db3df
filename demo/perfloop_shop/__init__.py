"""The demo shop: a real web service, its supplier and its PostgreSQL, with problems that are switched on by name."""
