"""How far the capacity plan can be trusted: the law, its bands, its refusals, and predictions that are then measured on real services.

python -m bench.capacity [--only oracles]
"""

from __future__ import annotations

import argparse
import sys

from bench.capacity_parts import oracles
from bench.table import finish


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    parser.parse_args()
    return finish("capacity", oracles.rows())


if __name__ == "__main__":
    sys.exit(main())
