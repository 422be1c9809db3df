"""What each kind of test answers, from windows that were measured; pure functions, one file a kind."""
