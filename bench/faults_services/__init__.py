"""Three services for ``bench.faults``: one help desk, written for FastAPI, Flask and Django, each with faults that an environment variable switches on."""
