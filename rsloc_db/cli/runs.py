"""rsloc-db runs: list and delete runs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

import rsloc_db
from rsloc_db.cli.common import examples, print_json, stdout

app = typer.Typer(
    help="List runs, newest first, or delete one.",
    invoke_without_command=True,
    epilog=examples("rsloc-db runs", "rsloc-db runs --json", "rsloc-db runs delete 3"),
)


@app.callback()
def runs(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List runs, newest first, or delete one."""
    if context.invoked_subcommand:
        return
    found = rsloc_db.runs()
    if json:
        print_json({"runs": found})
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Run", "Queries of", "Began", "Galleries", "Model", "Done", "Accepted", "Failed"):
        table.add_column(column, no_wrap=True)
    for row in found:
        done = f"{row['queries'] - row['pending']} of {row['queries']}"
        galleries = ", ".join(row["galleries"] or ["-"])
        began = row["created_at"][:16].replace("T", " ")
        counts = (done, str(row["accepted"]), str(row["failed"]))
        table.add_row(str(row["run"]), row["query_set"], began, galleries, row["model"] or "-", *counts)
    stdout.print(table if found else "no run yet: `rsloc-db localize PATH` makes one")


@app.command(epilog=examples("rsloc-db runs delete 3"))
def delete(run: Annotated[int, typer.Argument(help="Number of the run.")]) -> None:
    """Forget a run and all that it found; its queries and their truth stay."""
    from rsloc_db.evaluation import delete_run

    delete_run(run)
    stdout.print(f"run {run} deleted")
