"""The optional built-in agent: a model plans with the same tools, under the same guards, within budgets."""
