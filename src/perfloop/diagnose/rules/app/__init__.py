"""Rules about the application."""
