"""`mahavishnu` and `python -m mahavishnu`."""

from __future__ import annotations

import sys

from mahavishnu.cli.root import run

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
