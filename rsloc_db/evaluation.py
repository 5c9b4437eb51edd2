"""Judge stored runs against the truth, which is loaded here and nowhere else. The figures are the database's views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsloc_db.db import evaluation
from rsloc_db.db.connection import Connection, connect, require_schema
from rsloc_db.queries.truth import Truth, read_truth
from rsloc_db.types import Json

STAGES = ("retrieve", "cliques", "verify")


@dataclass(frozen=True)
class TruthSummary:
    """What became of a truth file: rows read, and rows of queries that the database knows and now has the truth of."""

    read: int
    stored: int

    def as_dict(self) -> Json:
        """Return it as a JSON object."""
        return {"read": self.read, "stored": self.stored}


@dataclass(frozen=True)
class Evaluation:
    """Figures of a run; every list holds rows of the view ``evaluation_<its name>``, whose comments define them.

    Attributes:
        run: one row: who counts, verdicts, errors in ground metres, Acc, Acc_easy, IMG_acc.
        located: per limit in metres.
        recall: per stage and number of candidates.
        calibration: real and simulated queries.
        breakdown: by landscape, provider, latitude, level and query size.
        precision: against coverage, per threshold of confidence.
        seconds: per stage and in all.
        queries: each query.
    """

    run: Json
    located: list[Json]
    recall: list[Json]
    calibration: list[Json]
    breakdown: list[Json]
    precision: list[Json]
    seconds: list[Json]
    queries: list[Json]

    def as_dict(self) -> Json:
        """Return the evaluation as one JSON object; null stands for what is undefined, such as a share of nothing."""
        seconds = {row["stage"]: {"p50": row["p50"], "p90": row["p90"]} for row in self.seconds}
        return {
            **{name: _plain(value) for name, value in self.run.items() if name not in ("id", "run_id")},
            "run": self.run["run_id"],
            "located_at_m": {str(row["limit_m"]): row["located"] for row in self.located},
            "recall": {
                stage: {str(row["k"]): row["share"] for row in self.recall if row["stage"] == stage} for stage in STAGES
            },
            "seconds_per_query": seconds.pop("total", {"p50": None, "p90": None}),
            "seconds_per_stage": seconds,
            "intervals": {"located": self.located, "recall": self.recall},
            "calibration": self.calibration,
            "breakdown": self.breakdown,
            "precision": self.precision,
        }


def evaluate(run: int | None = None, *, url: str | None = None) -> Evaluation:
    """Judge a run against the truth that is loaded.

    Args:
        run: number of the run; None for the newest.
        url: PostgreSQL URL; None for the settings' own.

    Raises:
        RunError: there is no such run.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    with _open(url) as conn:
        number = evaluation.find_run(conn, run)
        parts = {
            part: evaluation.rows(conn, f"evaluation_{part}", run=number)
            for part in ("located", "recall", "calibration", "breakdown", "precision", "seconds", "queries")
        }
        (figures,) = evaluation.rows(conn, "evaluation_run", run=number)
    return Evaluation(run=figures, **parts)


def compare(run_a: int, run_b: int, *, url: str | None = None) -> list[Json]:
    """Compare two runs query by query: verdicts, errors in ground metres, and what b gained or lost against a.

    Raises:
        RunError: there is no such run.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    with _open(url) as conn:
        a, b = evaluation.find_run(conn, run_a), evaluation.find_run(conn, run_b)
        return evaluation.rows(conn, "compare_runs", a=a, b=b)


def runs(*, url: str | None = None) -> list[Json]:
    """List all runs, newest first.

    Raises:
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    with _open(url) as conn:
        return [{name: _plain(value) for name, value in row.items()} for row in evaluation.rows(conn, "list_runs")]


def delete_run(run: int, *, url: str | None = None) -> None:
    """Forget a run and all that it found; its queries and their truth stay.

    Raises:
        RunError: there is no such run.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    with _open(url) as conn:
        evaluation.delete_run(conn, run)


def load_truth(paths: Sequence[str | Path], *, simulated: bool | None = None, url: str | None = None) -> TruthSummary:
    """Load where queries really are, for evaluation alone; loading again replaces what was there.

    Args:
        paths: query sets, folders or files as for ``localize``; truth is read from the CSV beside a set, or from tags.
        simulated: whether the queries' appearance was made by a program, where the CSV does not say; None leaves what
            was said before.
        url: PostgreSQL URL; None for the settings' own.

    Raises:
        QueryError: a path is missing, or a place is half empty, no number or not on Earth.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    truths = read_truth([Path(path) for path in paths], simulated=simulated)
    with _open(url) as conn:
        stored = evaluation.store_truth(conn, [_row(truth) for truth in truths])
    return TruthSummary(read=len(truths), stored=stored)


def _open(url: str | None) -> Connection:
    conn = connect(url)
    try:
        require_schema(conn)
    except BaseException:
        conn.close()
        raise
    return conn


def _row(truth: Truth) -> Json:
    lon, lat = truth.center or (None, None)
    corners = truth.corners
    return {
        **{
            name: getattr(truth, name) for name in ("query_set", "name", "provider", "landscape", "simulated", "source")
        },
        "lon": lon,
        "lat": lat,
        "ring": f"LINESTRING({_points(_unwrapped((*corners, corners[0])))})" if corners else None,
        "corners": f"MULTIPOINT({_points(corners)})" if corners else None,
    }


def _unwrapped(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Let longitudes run on past 180 degrees where an outline crosses the antimeridian."""
    first = points[0][0]
    return [(first + (lon - first + 180) % 360 - 180, lat) for lon, lat in points]


def _points(points: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{lon!r} {lat!r}" for lon, lat in points)


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
