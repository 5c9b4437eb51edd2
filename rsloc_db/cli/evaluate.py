"""rsloc-db evaluate and rsloc-db compare: how good a run is, and what another one gained or lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as RichTable

import rsloc_db
from rsloc_db.cli.common import examples, print_json, stdout

if TYPE_CHECKING:
    from rsloc_db.export.tables import Table

EVALUATE_EXAMPLES = examples("rsloc-db evaluate", "rsloc-db evaluate 3 --queries", "rsloc-db evaluate 3 --json")
COMPARE_EXAMPLES = examples("rsloc-db compare 3 4", "rsloc-db compare 3 4 --json")
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def evaluate(
    run: Annotated[int | None, typer.Argument(help="Number of the run; the newest one if left out.")] = None,
    queries: Annotated[bool, typer.Option("--queries", help="List every query with its error.")] = False,
    json: AsJson = False,
) -> None:
    """Judge a run against the truth that is loaded (see `rsloc-db truth load`)."""
    from rsloc_db.export import tables

    found = rsloc_db.evaluate(run)
    if json:
        print_json(found.as_dict() | ({"per_query": found.queries} if queries else {}))
        return
    title, searched = tables.head(found.run)
    stdout.print(title, style="bold")
    stdout.print(searched)
    for note in tables.notes(found.run):
        stdout.print(note, style="yellow")
    shown = tables.figures(found)
    if all(query["state"] == "unlabelled" for query in found.queries):
        stdout.print(
            "no truth is loaded for them: `rsloc-db truth load PATH` does, and errors and shares are then shown"
        )
        shown = [shown[0], shown[-1]]
    for table in [*shown, *([tables.queries(found.queries)] if queries else [])]:
        stdout.print(_rich(table))


def compare(
    run_a: Annotated[int, typer.Argument(help="Number of the run to compare with.")],
    run_b: Annotated[int, typer.Argument(help="Number of the run to compare.")],
    json: AsJson = False,
) -> None:
    """Compare two runs query by query: what RUN_B gained and lost against RUN_A."""
    from rsloc_db.export.tables import Table, number

    rows = rsloc_db.compare(run_a, run_b)
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("gained", "lost")}
    if json:
        print_json({"run_a": run_a, "run_b": run_b, **counts, "queries": rows})
        return
    columns = ("Query", "Truth", f"Run {run_a}", f"Run {run_b}", "Error m", "Error m", "Change m", "Outcome")
    lines = []
    for row in rows:
        errors = [number(row[key]) for key in ("error_a_m", "error_b_m", "change_m")]
        lines.append(
            (row["name"], row["state"], row["verdict_a"] or "-", row["verdict_b"] or "-", *errors, row["outcome"])
        )
    stdout.print(_rich(Table("", columns, lines)))
    stdout.print(f"run {run_b} against run {run_a}: {counts['gained']} gained, {counts['lost']} lost")


def _rich(table: Table) -> RichTable:
    title = f"\n{table.title}" if table.title else None
    shown = RichTable(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        shown.add_column(column, no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    return shown
