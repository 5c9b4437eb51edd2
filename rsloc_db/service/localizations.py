"""One query of a run: its answer, all that led to it, and its image where it was found."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from rsloc_db.db import evaluation, service
from rsloc_db.db.export import map_galleries
from rsloc_db.db.features import COLLECTIONS, query_features
from rsloc_db.errors import ImageError
from rsloc_db.service.access import Options, QueryKey, Reader, Responses, RunKey, problems
from rsloc_db.service.nouns import FeatureCollection, Overlay, Place, QueryDetail, collection_of
from rsloc_db.service.pictures import encode
from rsloc_db.service.warp import bounds_of, read_query_image, warp_of, warped
from rsloc_db.types import Json

router = APIRouter(prefix="/api", tags=["localizations"])

STAGES = ("retrieve", "cliques", "verify", "refine", "total")
Layer = Literal["localizations", "ellipses", "places", "cliques", "votes", "matches", "errors", "truth"]
PICTURE: Responses = {200: {"content": {"image/jpeg": {}, "image/png": {}}}}
KEEP = {"Cache-Control": "max-age=3600"}


@router.get("/runs/{run}/queries/{query}", responses=problems(404))
def query(conn: Reader, run: RunKey, query: QueryKey) -> QueryDetail:
    """Tell of one query of a run: verdict, reason, confidence, ellipse, candidate places, seconds of each stage."""
    found = service.get_query(conn, evaluation.find_run(conn, run), query)
    return QueryDetail(
        **{name: value for name, value in found.items() if name in QueryDetail.model_fields},
        run=run,
        seconds={stage: found[f"{stage}_s"] for stage in STAGES},
        places=[Place(**place) for place in service.query_places(conn, run, query)],
        overlay=_overlay(found),
        galleries=[name for name, _, _ in map_galleries(conn, run)],
    )


def _overlay(found: Json) -> Overlay | None:
    warp = warp_of(found)
    return None if warp is None else Overlay(**asdict(bounds_of(warp)))


@router.get("/runs/{run}/queries/{query}/layers/{layer}", responses=problems(404))
def layer(
    conn: Reader,
    run: RunKey,
    query: QueryKey,
    layer: Layer,
    limit: Annotated[int, Query(ge=1, le=20_000)] = 5000,
) -> FeatureCollection:
    """Return what led to an answer as GeoJSON: cliques and their votes, places, matches, the ellipse, the truth."""
    found = service.get_query(conn, evaluation.find_run(conn, run), query)
    return collection_of(query_features(conn, COLLECTIONS[layer], run, found, limit))


@router.get("/runs/{run}/queries/{query}/image", responses={**problems(404), **PICTURE}, response_class=Response)
def image(conn: Reader, options: Options, run: RunKey, query: QueryKey) -> Response:
    """Return the query's image, shrunk to the screen."""
    found = service.get_query(conn, evaluation.find_run(conn, run), query)
    data, kind = encode(*read_query_image(found, options.max_pixels))
    return Response(data, media_type=kind, headers=KEEP)


@router.get("/runs/{run}/queries/{query}/overlay", responses={**problems(404), **PICTURE}, response_class=Response)
def overlay(conn: Reader, options: Options, run: RunKey, query: QueryKey) -> Response:
    """Return the query's image as it lies on a Web Mercator map, within the query's ``overlay`` box."""
    found = service.get_query(conn, evaluation.find_run(conn, run), query)
    warp = warp_of(found)
    if warp is None:
        raise ImageError("the query was not placed: there is nothing to lay on the map")
    pixels, valid = read_query_image(found, options.max_pixels)
    data, kind = encode(*warped(pixels, valid, warp))
    return Response(data, media_type=kind, headers=KEEP)
