"""The shop's web service: FastAPI, SQLAlchemy with a pool, and an HTTP client for the supplier."""
