"""One result, rendered many ways: a format reads the stored result and computes nothing."""
