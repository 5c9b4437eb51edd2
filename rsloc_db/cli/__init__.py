"""The command line: parse, call, print. Results go to stdout, progress and errors to stderr.

What a command works with is loaded when it runs, so that help and errors come at once.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer
from rich.text import Text

from rsloc_db import __version__
from rsloc_db.cli import (
    common,
    db,
    demo,
    evaluate,
    exports,
    galleries,
    localize,
    maps,
    match,
    queries,
    runs,
    serve,
    synth,
    tiles,
    truth,
)
from rsloc_db.errors import RslocError

INTERRUPTED = 130
RESUMED = {"ingest", "localize", "synth", "demo"}
"""Commands that go on where they were stopped."""
UsageError = typer.BadParameter.__mro__[1]
"""What is wrong with the words themselves, by the name that Typer has for it."""

WAY, HAND_ON, TRY, KEEP = "The way of a query", "Hand on", "Try and test", "Look after"

app = typer.Typer(
    name="rsloc-db",
    help="Find where an overhead image was taken, in a gallery kept in PostgreSQL.",
    epilog="Begin with `rsloc-db demo`; or with `rsloc-db db upgrade`, `rsloc-db ingest GALLERY` and "
    "`rsloc-db localize IMAGE`.\n\n"
    "Results go to stdout, progress and errors to stderr. Exit codes: 0 done; 1 not done: the server, the system, or "
    "an image failed; 2 the words or files given are at fault; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=galleries.EXAMPLES, rich_help_panel=WAY)(galleries.ingest)
app.command(epilog=localize.EXAMPLES, rich_help_panel=WAY)(localize.localize)
app.command(epilog=evaluate.EVALUATE_EXAMPLES, rich_help_panel=WAY)(evaluate.evaluate)
app.command(epilog=evaluate.COMPARE_EXAMPLES, rich_help_panel=WAY)(evaluate.compare)
app.add_typer(truth.app, name="truth", rich_help_panel=WAY)
app.command("map", epilog=maps.EXAMPLES, rich_help_panel=HAND_ON)(maps.draw)
app.command(epilog=exports.REPORT_EXAMPLES, rich_help_panel=HAND_ON)(exports.report)
app.command(epilog=exports.EXPORT_EXAMPLES, rich_help_panel=HAND_ON)(exports.export)
app.command(epilog=exports.GEOREFERENCE_EXAMPLES, rich_help_panel=HAND_ON)(exports.georeference)
app.command(epilog=exports.QGIS_EXAMPLES, rich_help_panel=HAND_ON)(exports.qgis)
app.command(epilog=serve.EXAMPLES, rich_help_panel=HAND_ON)(serve.serve)
app.command(epilog=demo.EXAMPLES, rich_help_panel=TRY)(demo.demo)
app.command(epilog=match.EXAMPLES, rich_help_panel=TRY)(match.match)
app.add_typer(queries.app, name="queries", rich_help_panel=TRY)
app.command(epilog=synth.EXAMPLES, rich_help_panel=TRY)(synth.synth)
app.add_typer(galleries.app, name="galleries", rich_help_panel=KEEP)
app.add_typer(runs.app, name="runs", rich_help_panel=KEEP)
app.add_typer(tiles.app, name="tiles", rich_help_panel=KEEP)
app.add_typer(db.app, name="db", rich_help_panel=KEEP)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rsloc-db {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Show no progress, whatever the command."),
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Show the version and exit."
    ),
) -> None:
    common.DEBUG.set(debug)
    common.QUIET.set(quiet)


def main() -> None:
    """Run the command line; what goes wrong is one line on stderr, which says what to do, and an exit code."""
    try:
        code = app(prog_name=app.info.name, standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except typer.Abort:
        _print_error("stopped: nothing was changed")
        sys.exit(1)
    except Exception as error:  # a traceback tells a user nothing; --debug shows it to whoever can read it
        if common.DEBUG.get():
            raise
        _fail(error)
    if code == INTERRUPTED:
        goes_on = RESUMED & {*sys.argv}
        _print_error("interrupted" + (": the same command goes on from here" if goes_on else ""))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: Exception) -> NoReturn:
    """Print an error as one line and exit as it says."""
    if isinstance(error, BrokenPipeError):
        # whoever read our output has enough; nothing is left to be flushed into it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if isinstance(error, UsageError):
        if str(error):  # without words to complain of, the help has been printed
            _print_error(_usage(error))
        sys.exit(2)
    if isinstance(error, RslocError):
        _print_error(str(error))
        sys.exit(error.exit_code)
    import psycopg

    if isinstance(error, OSError | psycopg.Error):
        _print_error((str(error).strip().splitlines() or [repr(error)])[0])
    else:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        _print_error(f"this should not happen: {what}; `rsloc-db --debug ...` shows where, for a report of the mistake")
    sys.exit(1)


def _usage(error: Exception) -> str:
    """Return what is wrong with the words given, and where to read what is expected."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "rsloc-db"
    told: str = error.format_message()  # type: ignore[attr-defined]
    text = " ".join(told.split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}{' See' if text.endswith('?') else '; see'} `{command} --help`"


def _print_error(reason: str) -> None:
    common.stderr.print(Text("error:", "bold red"), reason, soft_wrap=True)
