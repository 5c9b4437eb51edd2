"""The command line, run inside of a test."""

from __future__ import annotations

import signal

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
