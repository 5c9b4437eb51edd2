"""An evaluation as tables of text: what the command prints and the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsloc_db.evaluation import Evaluation
from rsloc_db.types import Json


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        columns: names of its columns.
        rows: their cells, one text a column.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def head(run: Json) -> list[str]:
    """Return what was searched for where, in two lines."""
    names = ", ".join(run["galleries"] or ["-"])
    return [
        f"Run {run['run_id']}: {run['queries']} queries of {run['query_set']}",
        f"gallery {names}, {run['gallery_tiles'] or 0:,} tiles; model {run['model'] or '-'}; "
        f"rsloc-db {run['code_version']}",
    ]


def notes(run: Json) -> list[str]:
    """Return what is left out of the figures, a sentence each."""
    found = []
    if run["pending"]:
        found.append(f"{run['pending']} queries are not done yet and left out")
    if run["missing_sets"]:
        found.append("a gallery of this run is gone: queries that no other covers count as without truth")
    if run["unlabelled"]:
        found.append(f"{run['unlabelled']} queries have no truth and are left out of all shares")
    return found


def figures(found: Evaluation) -> list[Table]:
    """Return the tables of a run's figures; those that would be empty are left out."""
    breakdown = [_breakdown(found.breakdown)] if found.breakdown else []
    return [_verdicts(found.run), _shares(found), _errors(found.run), *breakdown, _seconds(found)]


def queries(rows: list[Json]) -> Table:
    """Return the table of a run's queries."""
    columns = ("Query", "Truth", "Verdict", "Confidence", "Error m", "Corners m", "In ellipse", "Ranks", "Seconds")
    lines = []
    for row in rows:
        ranks = " ".join(str(row[f"{stage}_rank"] or "-") for stage in ("retrieve", "clique", "verify"))
        errors = (number(row["confidence"], 3), number(row["error_m"]), number(row["corner_error_m"]))
        inside = {True: "yes", False: "no", None: "-"}[row["in_ellipse"]]
        lines.append((row["name"], row["state"], row["verdict"], *errors, inside, ranks, number(row["total_s"], 2)))
    return Table("Queries (ranks of the true place after retrieve, cliques, verify)", columns, lines)


def number(value: Any, digits: int = 1) -> str:
    """Write a number, or a dash for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def share(part: int, total: int, low: float | None, high: float | None) -> str:
    """Write a share as "9 of 10, 90 % (60 to 98)"; the brackets hold its Wilson 95 % interval."""
    if not total or low is None or high is None:
        return f"{part} of {total}"
    return f"{part} of {total}, {part / total:.0%} ({100 * low:.0f} to {100 * high:.0f})".replace("%", " %")


def _verdicts(run: Json) -> Table:
    kinds = ("accepted", "ambiguous", "not_here")
    rows = [
        ("present in the gallery", str(run["present"])),
        ("absent from it", f"{run['absent']} ({run['uncovered']} of them uncovered by any tile)"),
        ("verdicts", ", ".join(f"{run[kind]} {kind}" for kind in kinds)),
    ]
    for name, total in (("failed", "queries"), ("false_places", "absent")):
        rows.append((name.replace("_", " "), share(run[name], run[total], run[f"{name}_low"], run[f"{name}_high"])))
    rows.append(("misplaced", f"{run['misplaced']} (present, accepted a tile or more away)"))
    return Table("Who counts", ("Queries", ""), rows)


def _shares(found: Evaluation) -> Table:
    rows = []
    for row in found.located:
        value = share(row["located"], row["present"], row["share_low"], row["share_high"])
        rows.append((f"located within {row['limit_m']} m", value))
    for row in found.recall:
        value = share(row["found"], row["present"], row["share_low"], row["share_high"])
        rows.append((f"recall@{row['k']} after {row['stage']}", value))
    for row in found.calibration:
        kind = "simulated" if row["simulated"] else "real"
        value = share(row["inside"], row["accepted"], row["share_low"], row["share_high"])
        rows.append((f"accepted, inside the 95 % ellipse ({kind})", value))
    return Table("Of present queries", ("Share", "Wilson 95 % in brackets"), rows)


def _errors(run: Json) -> Table:
    corner = [number(run[f"{kind}_corner_error_m"]) for kind in ("median", "p90")]
    rows = [
        ("median centre error", f"{number(run['median_center_error_m'])} m"),
        ("corner error, median and 90th percentile", f"{corner[0]} m, {corner[1]} m"),
    ]
    rows += [
        (label, number(run[name], 3))
        for name, label in (("acc", "Acc"), ("acc_easy", "Acc_easy"), ("img_acc", "IMG_acc"))
    ]
    return Table(f"Errors of accepted present queries ({run['failed']} failed)", ("Figure", ""), rows)


def _breakdown(rows: list[Json]) -> Table:
    columns = ("By", "", "Present", "Absent", "Accepted", "Failed", "False", "< 25 m", "< 500 m", "Median m")
    counts = ("present", "absent", "accepted", "failed", "false_places", "located_25_m", "located_500_m")
    lines = [
        (row["kind"], row["value"], *(str(row[name]) for name in counts), number(row["median_center_error_m"]))
        for row in rows
    ]
    return Table("Breakdown", columns, lines)


def _seconds(found: Evaluation) -> Table:
    memory = found.run["peak_memory_mb"]
    title = "Seconds a query" + (f"; peak memory {memory:,.0f} MB" if memory else "")
    rows = [
        (row["stage"], str(row["queries"]), *(number(row[name], 2) for name in ("p50", "p90", "longest")))
        for row in found.seconds
    ]
    return Table(title, ("Stage", "Queries", "Median", "90 %", "Longest"), rows)
