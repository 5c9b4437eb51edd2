"""OGC API Features (Part 1: Core, 17-069r4) over the views to draw, so that QGIS and others connect.

In house, as it is little and reads what is there already: tipg, the library for it, brings a second database driver,
makes functions of its own in every session, which a reader may not, and has pages that need the network.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse

from rsloc_db.db.export import view_comment
from rsloc_db.db.features import COLLECTIONS, Collection, read_features
from rsloc_db.service.access import Reader, Responses, problems
from rsloc_db.service.galleries import read_box
from rsloc_db.service.nouns import MAX_BIG_KEY, MAX_KEY, feature_of
from rsloc_db.types import Json

router = APIRouter(prefix="/ogc", tags=["features"])

CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
CONFORMANCE = [
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
MAX_LIMIT = 10_000
Name = Literal[
    "localizations",
    "queries",
    "ellipses",
    "places",
    "cliques",
    "votes",
    "matches",
    "outcomes",
    "errors",
    "truth",
    "coverage",
]


class GeoJson(JSONResponse):
    """An answer of type application/geo+json."""

    media_type = "application/geo+json"


def _only_known(request: Request) -> None:
    """Refuse parameters that the API does not define, as the standard wants it (requirement 8)."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise HTTPException(400, f"unknown parameter {unknown[0]!r}: expected {', '.join(sorted(known)) or 'none'}")


FEATURES: Responses = {200: {"content": {GeoJson.media_type: {}}}}
STRICT = [Depends(_only_known)]


@router.get("", responses=problems(), dependencies=STRICT)
def landing(request: Request) -> Json:
    """Return the landing page: where everything is."""
    return {
        "title": "rsloc-db",
        "description": "Where overhead images were taken: answers and all that led to them",
        "links": [
            _link(request, "", "self", "This page"),
            _link(request, "/conformance", "conformance", "What is conformed to"),
            _link(request, "/collections", "data", "The collections"),
            {
                "href": str(request.url_for("openapi")),
                "rel": "service-desc",
                "type": "application/vnd.oai.openapi+json;version=3.1",
                "title": "The API",
            },
        ],
    }


@router.get("/conformance", responses=problems(), dependencies=STRICT)
def conformance() -> Json:
    """Return what the service conforms to."""
    return {"conformsTo": CONFORMANCE}


@router.get("/collections", responses=problems(), dependencies=STRICT)
def collections(request: Request, conn: Reader) -> Json:
    """List the collections."""
    found = [_describe(request, each, view_comment(conn, each.view)) for each in COLLECTIONS.values()]
    return {"links": [_link(request, "/collections", "self", "The collections")], "collections": found}


@router.get("/collections/{collection}", responses=problems(404), dependencies=STRICT)
def collection(request: Request, conn: Reader, collection: Name) -> Json:
    """Tell of one collection."""
    found = COLLECTIONS[collection]
    return _describe(request, found, view_comment(conn, found.view))


@router.get("/collections/{collection}/items", responses={**problems(404), **FEATURES}, dependencies=STRICT)
def items(
    request: Request,
    conn: Reader,
    collection: Name,
    limit: Annotated[int, Query(ge=1, description=f"At most {MAX_LIMIT} are returned")] = 1000,
    after: Annotated[int | None, Query(ge=0, le=MAX_BIG_KEY, description="Only features of greater keys")] = None,
    bbox: Annotated[str | None, Query(description="west,south,east,north in degrees")] = None,
    datetime: Annotated[str | None, Query(description="Features have no time: all of them match")] = None,
    run_id: Annotated[int | None, Query(ge=1, le=MAX_KEY)] = None,
    query_set: str | None = None,
    name: str | None = None,
    verdict: str | None = None,
    gallery: str | None = None,
) -> GeoJson:
    """Return some features of a collection, with a link to the next ones."""
    given = {"run_id": run_id, "query_set": query_set, "name": name, "verdict": verdict, "gallery": gallery}
    filters = {column: value for column, value in given.items() if value is not None}
    limit = min(limit, MAX_LIMIT)
    box = None if bbox is None else read_box(_flat(bbox))
    page = read_features(
        conn, COLLECTIONS[collection], filters, box=box, limit=limit, after=after or 0, count=after is None
    )
    here = f"/collections/{collection}/items"
    links = [_link(request, here, "self", "These features", GeoJson.media_type, dict(request.query_params))]
    if len(page.features) == limit and page.matched != limit:
        following = {**request.query_params, "limit": limit, "after": page.features[-1][0]}
        links.append(_link(request, here, "next", "The next features", GeoJson.media_type, following))
    answer: Json = {
        "type": "FeatureCollection",
        "features": [_feature(*row) for row in page.features],
        "links": links,
        "timeStamp": _now(),
        "numberReturned": len(page.features),
    }
    return GeoJson(answer if page.matched is None else {**answer, "numberMatched": page.matched})


@router.get("/collections/{collection}/items/{feature}", responses={**problems(404), **FEATURES}, dependencies=STRICT)
def item(
    request: Request, conn: Reader, collection: Name, feature: Annotated[int, Path(ge=1, le=MAX_BIG_KEY)]
) -> GeoJson:
    """Return one feature."""
    page = read_features(conn, COLLECTIONS[collection], {"id": feature}, limit=1, count=False)
    if not page.features:
        raise HTTPException(404, f"{collection} has no feature {feature}")
    here = f"/collections/{collection}"
    links = [
        _link(request, f"{here}/items/{feature}", "self", "This feature", GeoJson.media_type),
        _link(request, here, "collection", "Its collection"),
    ]
    return GeoJson({**_feature(*page.features[0]), "links": links})


def _feature(key: int, shape: str | None, properties: Json) -> Json:
    return feature_of({"id": key, "geometry": shape, **properties}).model_dump()


def _flat(bbox: str) -> str:
    """Return a box without its heights, where it has any (west,south,low,east,north,high)."""
    parts = bbox.split(",")
    return ",".join((*parts[:2], *parts[3:5])) if len(parts) == 6 else bbox


def _describe(request: Request, found: Collection, comment: str) -> Json:
    here = f"/collections/{found.name}"
    return {
        "id": found.name,
        "title": found.name.capitalize(),
        "description": comment,
        "itemType": "feature",
        "crs": [CRS84],
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]], "crs": CRS84}},
        "links": [
            _link(request, here, "self", "This collection"),
            _link(request, f"{here}/items", "items", "Its features", GeoJson.media_type),
        ],
    }


def _link(
    request: Request,
    path: str,
    rel: str,
    title: str,
    kind: str | None = "application/json",
    parameters: dict[str, Any] | None = None,
) -> Json:
    query = f"?{urlencode(parameters)}" if parameters else ""
    return {"href": f"{request.url_for('landing')}{path}{query}", "rel": rel, "type": kind, "title": title}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
