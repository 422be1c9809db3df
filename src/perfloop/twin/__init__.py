"""A planner without data: a private, empty PostgreSQL that plans a query as the target would, to ask what an index would change."""
