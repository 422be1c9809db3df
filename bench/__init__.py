"""What we measure about ourselves. ``make bench-NAME`` prints the table and writes ``bench/results/NAME.json``."""
