"""Runs: the list, their queries, two of them side by side, and files to take away."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from rsloc_db.db import evaluation, service
from rsloc_db.db.features import COLLECTIONS, read_features
from rsloc_db.export.vector import export_run
from rsloc_db.service.access import Reader, RunKey, problems
from rsloc_db.service.nouns import (
    ComparedQuery,
    FeatureCollection,
    QueryPage,
    QueryRow,
    Run,
    RunDetail,
    Verdict,
    feature_of,
)
from rsloc_db.types import Json

router = APIRouter(prefix="/api", tags=["runs"])

MAX_ROWS = 1000
MAX_FEATURES = 20_000
Outcome = Literal["false place", "misplaced", "missed", "failed", "right", "rightly refused", "unlabelled", "pending"]
Format = Literal["geojson", "gpkg", "csv"]
Layer = Literal["localizations", "ellipses", "places", "cliques", "votes", "matches", "truth", "errors", "coverage"]
"""What can be taken away: all layers of ``export`` but queries, which says where files are on this machine."""
TYPES = {"geojson": "application/geo+json", "gpkg": "application/geopackage+sqlite3", "csv": "text/csv"}
"""Format -> media type."""


@router.get("/runs", responses=problems())
def runs(conn: Reader) -> list[Run]:
    """List all runs, newest first."""
    return [Run(**row) for row in evaluation.rows(conn, "list_runs")]


@router.get("/runs/{run}", responses=problems(404))
def run(conn: Reader, run: RunKey) -> RunDetail:
    """Tell of one run: its settings and, where the truth is known, its figures."""
    number = evaluation.find_run(conn, run)
    listed = next(row for row in evaluation.rows(conn, "list_runs") if row["run"] == number)
    (figures,) = evaluation.rows(conn, "evaluation_run", run=number)
    (row,) = evaluation.rows(conn, "service_settings", run=number)
    return RunDetail(**listed, settings=row["settings"], figures=figures)


@router.get("/runs/{run}/queries", responses=problems(404))
def queries(
    conn: Reader,
    run: RunKey,
    verdict: Verdict | None = None,
    outcome: Outcome | None = None,
    name: Annotated[str | None, Query(max_length=200, description="Part of the name")] = None,
    order: service.Order = "name",
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> QueryPage:
    """List the queries of a run with their answers, judged where the truth is known."""
    number = evaluation.find_run(conn, run)
    rows, matched = service.run_queries(
        conn, number, verdict=verdict, outcome=outcome, name=name, order=order, limit=limit, offset=offset
    )
    return QueryPage(matched=matched, queries=[QueryRow(**row) for row in rows])


@router.get("/runs/{run}/localizations", responses=problems(404))
def localizations(conn: Reader, run: RunKey) -> FeatureCollection:
    """Return the answers of a run as GeoJSON: what each query covers, verdict, reason and confidence."""
    number = evaluation.find_run(conn, run)
    page = read_features(conn, COLLECTIONS["localizations"], {"run_id": number}, limit=MAX_FEATURES, count=False)
    return FeatureCollection(
        features=[feature_of({"id": key, "geometry": shape, **values}) for key, shape, values in page.features]
    )


@router.get("/runs/{a}/comparison/{b}", responses=problems(404))
def comparison(conn: Reader, a: RunKey, b: RunKey) -> list[ComparedQuery]:
    """Set two runs side by side, query by query: verdicts, places, and what b gained or lost against a."""
    first, second = evaluation.find_run(conn, a), evaluation.find_run(conn, b)
    judged = {row["query_id"]: row for row in evaluation.rows(conn, "compare_runs", a=first, b=second)}
    return [
        ComparedQuery(**{**row, **_judgement(judged.get(row["id"]))}) for row in service.comparison(conn, first, second)
    ]


def _judgement(row: Json | None) -> Json:
    if row is None:
        return {"error_a_m": None, "error_b_m": None, "outcome": "unlabelled"}
    return {name: row[name] for name in ("error_a_m", "error_b_m", "outcome")}


@router.get(
    "/runs/{run}/download",
    response_class=FileResponse,
    responses={**problems(404), 200: {"content": {kind: {} for kind in TYPES.values()}}},
)
def download(
    request: Request,
    run: RunKey,
    format: Format = "geojson",  # noqa: A002 (as the command's option)
    layer: Annotated[Layer | None, Query(description="By default localizations; all in a GeoPackage")] = None,
) -> FileResponse:
    """Take a run away as GeoJSON, GeoPackage or CSV: what ``rsloc-db export`` writes, but for the files' places."""
    chosen: list[str] | None = [layer] if layer else None
    if format == "gpkg" and chosen is None:
        chosen = [name for name in get_args(Layer) if name != "votes"]
    name = f"run{run}.{format}" if layer is None else f"run{run}-{layer}.{format}"
    folder = Path(tempfile.mkdtemp(prefix="rsloc-download-"))
    try:
        written = export_run(run, out=folder / name, layers=chosen, url=request.app.state.reader_url)
    except BaseException:
        shutil.rmtree(folder)
        raise
    after = BackgroundTask(shutil.rmtree, folder)
    return FileResponse(written.out, media_type=TYPES[format], filename=name, background=after)
