"""Stored runs in a browser: on 127.0.0.1 only, behind a random token, read-only."""
