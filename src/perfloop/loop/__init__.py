"""The order of things: the only floor that decides what is measured, changed, kept or undone, and when."""
