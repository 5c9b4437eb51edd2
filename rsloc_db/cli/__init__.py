"""The command line: parse, call, print. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from rsloc_db.cli import common, db, demo, evaluate, galleries, localize, maps, runs, tiles, truth
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
app.add_typer(runs.app, name="runs")
app.add_typer(tiles.app, name="tiles")
app.add_typer(truth.app, name="truth")
app.command()(demo.demo)
app.command()(evaluate.compare)
app.command()(evaluate.evaluate)
app.command(epilog=galleries.EXAMPLES)(galleries.ingest)
app.command()(localize.localize)
app.command("map")(maps.draw)


@app.callback()
def _main(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    common.DEBUG.set(debug)


def main() -> None:
    """Run the command line; an error made on purpose is one line on stderr."""
    try:
        app()
    except RslocError as error:
        if common.DEBUG.get():
            raise
        common.stderr.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
