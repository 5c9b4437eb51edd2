"""rsloc-db evaluate and rsloc-db compare: how good a run is, and what another one gained or lost."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from rsloc_db.cli.common import print_json, stdout
from rsloc_db.evaluation import Evaluation
from rsloc_db.evaluation import compare as compare_runs
from rsloc_db.evaluation import evaluate as evaluate_run
from rsloc_db.types import Json

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def evaluate(
    run: Annotated[int | None, typer.Argument(help="Number of the run; the newest one if left out.")] = None,
    queries: Annotated[bool, typer.Option("--queries", help="List every query with its error.")] = False,
    json: AsJson = False,
) -> None:
    """Judge a run against the truth that is loaded (see `rsloc-db truth load`)."""
    found = evaluate_run(run)
    if json:
        print_json(found.as_dict() | ({"per_query": found.queries} if queries else {}))
        return
    _print_head(found.run)
    stdout.print(_verdicts(found.run))
    stdout.print(_shares(found))
    stdout.print(_errors(found.run))
    if found.breakdown:
        stdout.print(_breakdown(found.breakdown))
    stdout.print(_seconds(found))
    if queries:
        stdout.print(_queries(found.queries))


def compare(
    run_a: Annotated[int, typer.Argument(help="Number of the run to compare with.")],
    run_b: Annotated[int, typer.Argument(help="Number of the run to compare.")],
    json: AsJson = False,
) -> None:
    """Compare two runs query by query: what RUN_B gained and lost against RUN_A."""
    rows = compare_runs(run_a, run_b)
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in ("gained", "lost")}
    if json:
        print_json({"run_a": run_a, "run_b": run_b, **counts, "queries": rows})
        return
    table = _table("Query", "Truth", f"Run {run_a}", f"Run {run_b}", "Error m", "Error m", "Change m", "Outcome")
    for row in rows:
        errors = [_number(row[key]) for key in ("error_a_m", "error_b_m", "change_m")]
        verdicts = [row["verdict_a"] or "-", row["verdict_b"] or "-"]
        table.add_row(row["name"], row["state"], *verdicts, *errors, row["outcome"])
    stdout.print(table)
    stdout.print(f"run {run_b} against run {run_a}: {counts['gained']} gained, {counts['lost']} lost")


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def _number(value: Any, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _share(part: int, total: int, low: float | None, high: float | None) -> str:
    """Write a share as "9 of 10, 90 % (60 to 98)"; the brackets hold its Wilson 95 % interval."""
    if not total or low is None or high is None:
        return f"{part} of {total}"
    return f"{part} of {total}, {part / total:.0%} ({100 * low:.0f} to {100 * high:.0f})".replace("%", " %")


def _print_head(run: Json) -> None:
    names = ", ".join(run["galleries"] or ["-"])
    tiles = run["gallery_tiles"] or 0
    stdout.print(f"Run {run['run_id']}: {run['queries']} queries of {run['query_set']}", style="bold")
    stdout.print(f"gallery {names}, {tiles:,} tiles; model {run['model'] or '-'}; rsloc-db {run['code_version']}")
    if run["pending"]:
        stdout.print(f"{run['pending']} queries are not done yet and left out", style="yellow")
    if run["missing_sets"]:
        gone = "a gallery of this run is gone: queries that no other covers count as without truth"
        stdout.print(gone, style="yellow")
    if run["unlabelled"]:
        stdout.print(f"{run['unlabelled']} queries have no truth and are left out of all shares", style="yellow")


def _verdicts(run: Json) -> Table:
    table = _table("Queries", "", title="\nWho counts")
    table.add_row("present in the gallery", str(run["present"]))
    table.add_row("absent from it", f"{run['absent']} ({run['uncovered']} of them uncovered by any tile)")
    kinds = ("accepted", "ambiguous", "not_here")
    table.add_row("verdicts", ", ".join(f"{run[kind]} {kind}" for kind in kinds))
    for name, total in (("failed", "queries"), ("false_places", "absent")):
        value = _share(run[name], run[total], run[f"{name}_low"], run[f"{name}_high"])
        table.add_row(name.replace("_", " "), value)
    table.add_row("misplaced", f"{run['misplaced']} (present, accepted a tile or more away)")
    return table


def _shares(found: Evaluation) -> Table:
    table = _table("Share", "Wilson 95 % in brackets", title="\nOf present queries")
    for row in found.located:
        value = _share(row["located"], row["present"], row["share_low"], row["share_high"])
        table.add_row(f"located within {row['limit_m']} m", value)
    for row in found.recall:
        value = _share(row["found"], row["present"], row["share_low"], row["share_high"])
        table.add_row(f"recall@{row['k']} after {row['stage']}", value)
    for row in found.calibration:
        kind = "simulated" if row["simulated"] else "real"
        value = _share(row["inside"], row["accepted"], row["share_low"], row["share_high"])
        table.add_row(f"accepted, inside the 95 % ellipse ({kind})", value)
    return table


def _errors(run: Json) -> Table:
    table = _table("Figure", "", title=f"\nErrors of accepted present queries ({run['failed']} failed)")
    table.add_row("median centre error", f"{_number(run['median_center_error_m'])} m")
    corner = [_number(run[f"{kind}_corner_error_m"]) for kind in ("median", "p90")]
    table.add_row("corner error, median and 90th percentile", f"{corner[0]} m, {corner[1]} m")
    for name, label in (("acc", "Acc"), ("acc_easy", "Acc_easy"), ("img_acc", "IMG_acc")):
        table.add_row(label, _number(run[name], 3))
    return table


def _breakdown(rows: list[Json]) -> Table:
    columns = ("By", "", "Present", "Absent", "Accepted", "Failed", "False", "< 25 m", "< 500 m", "Median m")
    table = _table(*columns, title="\nBreakdown")
    counts = ("present", "absent", "accepted", "failed", "false_places", "located_25_m", "located_500_m")
    for row in rows:
        values = [str(row[name]) for name in counts]
        table.add_row(row["kind"], row["value"], *values, _number(row["median_center_error_m"]))
    return table


def _seconds(found: Evaluation) -> Table:
    memory = found.run["peak_memory_mb"]
    title = "\nSeconds a query" + (f"; peak memory {memory:,.0f} MB" if memory else "")
    table = _table("Stage", "Queries", "Median", "90 %", "Longest", title=title)
    for row in found.seconds:
        times = [_number(row[name], 2) for name in ("p50", "p90", "longest")]
        table.add_row(row["stage"], str(row["queries"]), *times)
    return table


def _queries(rows: list[Json]) -> Table:
    columns = ("Query", "Truth", "Verdict", "Confidence", "Error m", "Corners m", "In ellipse", "Ranks", "Seconds")
    table = _table(*columns, title="\nQueries (ranks of the true place after retrieve, cliques, verify)")
    for row in rows:
        ranks = " ".join(str(row[f"{stage}_rank"] or "-") for stage in ("retrieve", "clique", "verify"))
        errors = [_number(row["confidence"], 3), _number(row["error_m"]), _number(row["corner_error_m"])]
        inside = {True: "yes", False: "no", None: "-"}[row["in_ellipse"]]
        table.add_row(row["name"], row["state"], row["verdict"], *errors, inside, ranks, _number(row["total_s"], 2))
    return table
