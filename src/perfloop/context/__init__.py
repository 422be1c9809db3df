"""What is there: the configuration, the target behind a URL, and what may be done to it here."""
