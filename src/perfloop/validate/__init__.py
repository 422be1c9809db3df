"""Did it help: comparisons of paired rounds and of stored runs, the order of rounds, and promises against measurements."""
