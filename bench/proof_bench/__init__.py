"""What the proof claims about itself: simulated tests, change points, claims, live campaigns, tuning."""
