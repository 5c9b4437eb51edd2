"""The command line: parse, call, print. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import sys

import psycopg
import typer
from rich.text import Text

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

app = typer.Typer(
    name="rsloc-db",
    help="Find where an overhead image was taken, in a gallery kept in PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(db.app, name="db")
app.add_typer(galleries.app, name="galleries")
app.add_typer(queries.app, name="queries")
app.add_typer(runs.app, name="runs")
app.add_typer(tiles.app, name="tiles")
app.add_typer(truth.app, name="truth")
app.command()(demo.demo)
app.command()(evaluate.compare)
app.command()(evaluate.evaluate)
app.command(epilog=exports.EXPORT_EXAMPLES)(exports.export)
app.command(epilog=exports.GEOREFERENCE_EXAMPLES)(exports.georeference)
app.command(epilog=galleries.EXAMPLES)(galleries.ingest)
app.command()(localize.localize)
app.command("map")(maps.draw)
app.command()(match.match)
app.command(epilog=exports.QGIS_EXAMPLES)(exports.qgis)
app.command(epilog=exports.REPORT_EXAMPLES)(exports.report)
app.command()(serve.serve)
app.command(epilog=synth.EXAMPLES)(synth.synth)


@app.callback()
def _main(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    common.DEBUG.set(debug)


def main() -> None:
    """Run the command line; what the user, the system or the server is at fault for is one line on stderr."""
    try:
        app()
    except (RslocError, OSError, psycopg.Error) as error:
        if common.DEBUG.get():
            raise
        reason = str(error) if isinstance(error, RslocError) else (str(error).strip().splitlines() or [repr(error)])[0]
        common.stderr.print(Text("error:", "bold red"), reason, soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, RslocError) else 1)
