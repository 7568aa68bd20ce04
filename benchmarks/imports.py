"""How long importing takes: `import mahavishnu` against what it builds on, and `mahavishnu --help`.

Run it with `python benchmarks/imports.py`. Each figure is the median of fresh processes, taken in turn; the
bytecode of both sides is compiled beforehand.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 15
HEAVY = ("prefect", "apscheduler", "rich", "sqlite3")


def seconds(*arguments: str) -> float:
    """Return the wall time of one fresh interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    return time.perf_counter() - begun


def medians(*commands: tuple[str, ...]) -> list[float]:
    """Return the median time of each command, run in turn."""
    for command in commands:
        seconds(*command)
    rounds = [[seconds(*command) for command in commands] for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def heavy_modules(statement: str) -> list[str]:
    """Return which heavy libraries a statement imports."""
    program = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()


def main() -> None:
    """Print the table."""
    bare, base, ours, app, help_ = medians(
        ("-c", "pass"),
        ("-c", "import apscheduler, msgspec"),
        ("-c", "import mahavishnu"),
        ("-c", "from mahavishnu import MahavishnuApp"),
        ("-m", "mahavishnu", "--help"),
    )
    print(f"{'python -c pass':44} {bare * 1e3:8.1f} ms")
    print(f"{'import apscheduler, msgspec':44} {base * 1e3:8.1f} ms   (above python: {(base - bare) * 1e3:.1f})")
    print(f"{'import mahavishnu':44} {ours * 1e3:8.1f} ms   ratio of the whole: {ours / base:.2f} (at most 1.5)")
    print(f"{'from mahavishnu import MahavishnuApp':44} {app * 1e3:8.1f} ms   ratio of the whole: {app / base:.2f}")
    print(f"{'mahavishnu --help':44} {help_ * 1e3:8.1f} ms   (at most 400)")
    for statement in ("import mahavishnu", "from mahavishnu import MahavishnuApp; MahavishnuApp()"):
        print(f"{statement!r} imports of {', '.join(HEAVY)}: {', '.join(heavy_modules(statement)) or 'none'}")


if __name__ == "__main__":
    main()
