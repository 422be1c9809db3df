"""Changes: what each kind plans, applies, verifies and undoes. Only ``loop`` decides when."""
