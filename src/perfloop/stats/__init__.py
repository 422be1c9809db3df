"""The only maths: histograms, intervals and sequential tests. Pure: no I/O, no clock, no randomness of its own."""
