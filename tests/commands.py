"""The command line, run inside of a test, and what tests of several processes wait with."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from rsloc_db.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line and return its exit code."""
    monkeypatch.setattr("sys.argv", ["rsloc-db", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def hear_interrupts() -> None:
    """Undo, as ``preexec_fn``, what a shell does to jobs in the background, whose interrupts it ignores."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition: Callable[[], bool], at_most_s: int = 30) -> None:
    """Wait until something has come about."""
    for _ in range(20 * at_most_s):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited for {at_most_s} s")
