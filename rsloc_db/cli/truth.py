"""rsloc-db truth: load where queries really are, for evaluation alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import rsloc_db
from rsloc_db.cli.common import examples, print_json, stdout

EXAMPLES = examples("rsloc-db truth load RSimages/test400", "rsloc-db truth load scenes --real")
app = typer.Typer(help="Load where queries really are. Evaluation alone reads it.", no_args_is_help=True)


@app.callback()
def _truth() -> None:
    """Keep `load` a word of its own, though it is the only command."""


@app.command(epilog=EXAMPLES)
def load(
    paths: Annotated[list[Path], typer.Argument(help="Query sets, folders or files, as for `rsloc-db localize`.")],
    simulated: Annotated[
        bool | None,
        typer.Option("--simulated/--real", help="Whether a program made their appearance, where the CSV does not say."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Load true places from the CSV beside a set, or from the files' tags, for queries that were localized."""
    summary = rsloc_db.load_truth(paths, simulated=simulated)
    if json:
        print_json(summary.as_dict())
        return
    stdout.print(f"{summary.read} true places read, {summary.stored} of them are of queries in the database")
