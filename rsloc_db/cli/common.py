"""What all commands share: consoles, JSON output and the progress bar."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from rsloc_db.types import Progress, Silent

DEBUG: ContextVar[bool] = ContextVar("debug", default=False)
# where there is no terminal, a table is not squeezed into 80 columns: names would be cut. No markup: a file may well be
# called scene[1].tif
stdout = Console(
    highlight=False, markup=False, emoji=False, soft_wrap=True, width=shutil.get_terminal_size((180, 50)).columns
)
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print one JSON object to stdout, and nothing else."""
    sys.stdout.write(json.dumps(value, allow_nan=False, default=_plain) + "\n")


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> str:
        return f"{task.speed:,.0f}/s" if task.speed else ""


class _Bar:
    """A ``Progress`` as a bar with rate and time left on stderr."""

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def task(self, name: str, total: int | None = None, done: int = 0) -> None:
        if self._task is not None:
            self._bar.stop_task(self._task)
        self._task = self._bar.add_task(name, total=total, completed=done)

    def advance(self, steps: int = 1) -> None:
        if self._task is not None:
            self._bar.advance(self._task, steps)

    def stage(self, name: str) -> None:
        """Ignore: a step of the bar is a whole query."""

    def note(self, text: str) -> None:
        self._bar.console.print(text, style="dim")


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Yield a progress bar on stderr, or a silent one."""
    if quiet:
        yield Silent()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=stderr) as bar:
        yield _Bar(bar)
