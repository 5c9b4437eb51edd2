"""What all commands share: consoles, examples, JSON output and the progress bar."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Annotated, Any

import typer
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
QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
MIN_WIDTH = 100
"""Columns of a table even on a narrower terminal: lines that it breaks can be read, cells that are cut cannot."""
# where there is no terminal, a table is not squeezed into 80 columns: names would be cut. No markup: a file may well be
# called scene[1].tif
stdout = Console(
    highlight=False,
    markup=False,
    emoji=False,
    soft_wrap=True,
    width=max(MIN_WIDTH, shutil.get_terminal_size((180, 50)).columns),
)
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)

Scheduler = Annotated[
    str | None,
    typer.Option(
        help="Run the work on a Dask cluster: tcp://HOST:PORT, or local:N for N processes.",
        show_default=False,
    ),
]


def examples(*lines: str) -> str:
    """Return the end of a command's help: how it is called."""
    return "\n\n".join(["Examples:", *(f"  {line}" for line in lines)])


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
        # not before: a command that fails at once leaves no empty line
        self._bar.start()
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


class _Lines:
    """A ``Progress`` as one line on stderr for each step that is over: for logs, which cannot be drawn over."""

    def __init__(self) -> None:
        self._name, self._done, self._began = "", 0, 0.0

    def task(self, name: str, total: int | None = None, done: int = 0) -> None:
        self.end()
        self._name, self._done, self._began = name, done, time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._done += steps

    def stage(self, name: str) -> None:
        """Say nothing: a query's stages take seconds."""

    def note(self, text: str) -> None:
        stderr.print(text, soft_wrap=True)

    def end(self) -> None:
        if self._name:
            stderr.print(f"{self._name}: {self._done:,}, {time.monotonic() - self._began:.1f} s", soft_wrap=True)


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Yield a progress bar on stderr, or lines where that is no terminal, or a silent one."""
    if quiet or QUIET.get():
        yield Silent()
    elif stderr.is_terminal:
        yield from _drawn()
    else:
        lines = _Lines()
        yield lines
        lines.end()


def _drawn() -> Iterator[Progress]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = RichProgress(*columns, console=stderr)
    try:
        yield _Bar(bar)
    except Exception:
        bar.live.transient = True  # the error's line is all that remains
        raise
    finally:
        if bar.live.is_started:
            bar.stop()
