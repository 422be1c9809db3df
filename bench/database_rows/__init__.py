"""One file per group of rows: ``rows(options)`` returns them, measured."""
