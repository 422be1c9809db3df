"""How far it goes: a scalability law fitted to measured points, its limits said, and Little's law as a check of a window."""
