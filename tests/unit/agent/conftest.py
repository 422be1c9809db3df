"""The services' files are run, not collected."""

collect_ignore = ["threaded_service.py", "async_service.py"]
