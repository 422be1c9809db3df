"""The rules: one pure function of evidence per file, in a room by subject."""
