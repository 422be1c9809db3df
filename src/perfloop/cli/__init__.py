"""The command line: parses, calls the api, prints."""
