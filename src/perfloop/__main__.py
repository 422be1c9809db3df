"""``python -m perfloop`` is the command line."""

from perfloop.cli.main import main

if __name__ == "__main__":
    main()
