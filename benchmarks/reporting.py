"""What every benchmark states beside its figures."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence

import rsloc_db


def commit() -> str:
    """Return the commit that is measured, with a mark where files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or f"of version {rsloc_db.__version__}"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in markdown, row by row as rows come; all columns but the first are set right."""
    print("| " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * (len(columns) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
