"""The nouns of the API, as OpenAPI shows them. Units are in the names; coordinates are lon, lat in degrees (WGS 84)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from rsloc_db.types import Json

MAX_KEY = 2**31 - 1
MAX_BIG_KEY = 2**63 - 1

Verdict = Literal["accepted", "ambiguous", "not_here", "failed", "pending"]


class Problem(BaseModel):
    """What went wrong, in one sentence."""

    detail: str


class EmbeddingSet(BaseModel):
    """What of a gallery can be searched."""

    model: str
    level: int
    window_tiles: int
    index_kind: str | None


class Gallery(BaseModel):
    """A gallery of georeferenced tiles."""

    name: str
    status: str = Field(description="ready, or loading until it can be searched")
    grid: str
    images: str = Field(description="stored in the database, or referenced in their source")
    attribution: str
    tiles: int
    cells: int
    levels: list[int]
    first_date: datetime | None
    last_date: datetime | None
    extent: list[float] | None = Field(description="west, south, east, north in degrees")
    embeddings: list[EmbeddingSet]
    failures: int = Field(description="tiles that were skipped")
    size_bytes: int


class TilesOfYear(BaseModel):
    """How many tiles of a level a gallery has of a year."""

    level: int
    year: int | None
    tiles: int


class GalleryDetail(Gallery):
    """A gallery with its tiles by level and year."""

    years: list[TilesOfYear]


class Feature(BaseModel):
    """A GeoJSON feature."""

    type: Literal["Feature"] = "Feature"
    id: int
    geometry: dict[str, Any] | None
    properties: dict[str, Any]


class FeatureCollection(BaseModel):
    """A GeoJSON feature collection (RFC 7946)."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: list[Feature]


class Run(BaseModel):
    """One localization of a set of queries under one configuration."""

    run: int
    query_set: str
    created_at: datetime
    finished_at: datetime | None
    code_version: str
    model: str | None
    galleries: list[str]
    queries: int
    pending: int
    failed: int
    accepted: int


class RunDetail(Run):
    """A run with its settings and, where the truth is known, its figures (see the view evaluation_run)."""

    settings: dict[str, Any]
    figures: dict[str, Any]


class QueryRow(BaseModel):
    """A query of a run in a list."""

    id: int
    query_set: str
    name: str
    verdict: Verdict
    reason: str
    confidence: float | None
    state: str
    outcome: str
    error_m: float | None
    total_s: float | None
    gallery: str | None
    level: int | None
    lon_deg: float | None
    lat_deg: float | None
    ellipse_a_m: float | None
    ellipse_b_m: float | None


class QueryPage(BaseModel):
    """Some queries of a run, and how many there are in all."""

    matched: int
    queries: list[QueryRow]


class Place(BaseModel):
    """A candidate place of a query."""

    rank: int
    correlation: float
    evidence: float
    level: int
    turn_deg: float
    zoom: float
    gallery: str | None
    lon_deg: float
    lat_deg: float
    chosen: bool


class Overlay(BaseModel):
    """Where the query's image lies when it is warped to Web Mercator: a picture between two parallels and meridians."""

    west_deg: float
    south_deg: float
    east_deg: float
    north_deg: float


class QueryDetail(QueryRow):
    """A query of a run with all that led to its answer."""

    run: int
    status: str
    width_px: int | None
    height_px: int | None
    ellipse_azimuth_deg: float | None
    turn_deg: float | None
    in_ellipse: bool | None
    seconds: dict[str, float | None]
    patches: int
    hits: int
    cliques: int
    matches: int
    inliers: int
    places: list[Place]
    overlay: Overlay | None
    galleries: list[str]


class ComparedQuery(BaseModel):
    """A query in two runs."""

    id: int
    query_set: str
    name: str
    verdict_a: str | None
    verdict_b: str | None
    lon_a_deg: float | None
    lat_a_deg: float | None
    lon_b_deg: float | None
    lat_b_deg: float | None
    moved_m: float | None
    error_a_m: float | None
    error_b_m: float | None
    outcome: str


class Health(BaseModel):
    """Whether the service can answer."""

    status: Literal["ok"] = "ok"
    version: str
    schema_version: str
    read_only_role: bool
    waiting: int
    running: int


def collection_of(rows: Iterable[Json]) -> FeatureCollection:
    """Return rows with ``id`` and ``geometry`` (GeoJSON text or None) as a feature collection."""
    return FeatureCollection(features=[feature_of(row) for row in rows])


def feature_of(row: Json) -> Feature:
    """Return a row as a feature; what is neither key nor geometry becomes its properties."""
    shape = row["geometry"]
    properties = {name: value for name, value in row.items() if name not in ("id", "geometry")}
    return Feature(id=row["id"], geometry=None if shape is None else json.loads(shape), properties=properties)
