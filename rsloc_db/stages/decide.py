"""The verdict: accept the best place, call several ambiguous, or say that the query is not here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from shapely import MultiPoint, MultiPolygon

from rsloc_db.db.connection import Connection
from rsloc_db.db.runs import Key, copy_matches, insert_localization, insert_place
from rsloc_db.frames import ground_distance_m
from rsloc_db.geometry import affine_to, ellipse_polygon, error_ellipse, footprint, natural_srid
from rsloc_db.grids import ground_resolution_m
from rsloc_db.stages.reference import Fit
from rsloc_db.stages.refine import Refined, match_rows
from rsloc_db.types import Floats, Verdict

MIN_EVIDENCE = 2.0
"""A place is accepted when chance would give it less than once in 10^MIN_EVIDENCE queries."""
RIVAL = 0.5
"""Another place with at least this share of the best one's evidence makes the answer ambiguous."""
MATCH_SIGMA_PX = 0.08
"""What matches have in common beyond their scatter, standard deviation an axis in grid pixels: many blocks do not help
against how both images were resampled. From simulated queries (docs/results.md)."""


@dataclass(frozen=True, slots=True)
class Place:
    """A refined place with its shape on Earth.

    Attributes:
        fit: the verified candidate.
        refined: the transform.
        center: lon, lat of the query's centre pixel.
        outline: what the query covers.
    """

    fit: Fit
    refined: Refined
    center: tuple[float, float]
    outline: MultiPolygon


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for a query: the verdict, why, and how sure (0 to 1)."""

    verdict: Verdict
    reason: str
    confidence: float | None


def places_of(fits: Sequence[tuple[Fit, Refined]]) -> list[Place]:
    """Give fits their shape on Earth, best evidence first; those of no valid footprint, and repeats, are left out."""
    places = []
    for fit, refined in fits:
        outline = footprint(*refined.to_lonlat(*_corners_px(refined)))
        if outline is not None:
            places.append(Place(fit, refined, _center(refined), outline))
    return _distinct(places)


def _corners_px(refined: Refined) -> tuple[Floats, Floats]:
    """Return x, y of the corners: upper left, upper right, lower right, lower left."""
    w, h = refined.frame.width_px, refined.frame.height_px
    return np.array([0.0, w, w, 0.0]), np.array([0.0, 0.0, h, h])


def _center(refined: Refined) -> tuple[float, float]:
    lon, lat = refined.to_lonlat(np.array(refined.frame.width_px / 2), np.array(refined.frame.height_px / 2))
    return float(lon), float(lat)


def _distinct(places: Sequence[Place]) -> list[Place]:
    """Return places by evidence, without those that overlap a better one by half: these are the same place."""
    kept: list[Place] = []
    for place in sorted(places, key=lambda p: (-p.refined.evidence, -p.fit.correlation, p.center)):
        if all(p.outline.intersection(place.outline).area < 0.5 * place.outline.area for p in kept):
            kept.append(place)
    return kept


def decide(places: Sequence[Place], candidates: int) -> Decision:
    """Judge the distinct places of a query, best first.

    Args:
        places: refined places that are no duplicates of one another.
        candidates: how many places were looked at.
    """
    if not places:
        reason = "no candidate place fits" if candidates else "no tile of the gallery resembles the query"
        return Decision("not_here", reason, 0.0)
    best = places[0]
    sure = confidence(best.refined.evidence)
    if best.refined.evidence < MIN_EVIDENCE:
        inliers = int(best.refined.transform.inlier.sum())
        return Decision(
            "not_here",
            f"the best of {candidates} places has {inliers} of {best.refined.matches.tried} blocks in agreement: "
            "chance explains that",
            sure,
        )
    rivals = [p for p in places[1:] if p.refined.evidence >= max(MIN_EVIDENCE, RIVAL * best.refined.evidence)]
    if rivals:
        away = ground_distance_m(best.center, rivals[0].center)
        return Decision(
            "ambiguous",
            f"{len(rivals) + 1} places fit, the second {away:,.0f} m from the first",
            sure / (len(rivals) + 1),
        )
    inliers = int(best.refined.transform.inlier.sum())
    return Decision("accepted", f"{inliers} of {best.refined.matches.tried} blocks agree on one place", sure)


def confidence(evidence: float) -> float:
    """Return the probability that a place is right: even odds where chance would give it once a query."""
    return float(1 / (1 + 10 ** -np.clip(evidence, -12, 12)))


def ellipse(refined: Refined, reference_error_px: float) -> tuple[float, float, float]:
    """Return (a_m, b_m, azimuth_deg) of the 95 % ellipse of the centre: the fit's covariance and the gallery's own."""
    lat = _center(refined)[1]
    ref = refined.reference
    size = np.array(ground_resolution_m(ref.grid, ref.level, lat))
    # grid y runs south, so the covariance of (x, y) and of (east, north) differ in sign off the diagonal
    flip = np.diag([1.0, -1.0])
    covariance = flip @ refined.transform.covariance @ flip + np.eye(2) * (reference_error_px**2 + MATCH_SIGMA_PX**2)
    return error_ellipse(covariance * np.outer(size, size))


def _localization(place: Place | None, decision: Decision, reference_error_px: float = 0.0) -> dict[str, Any]:
    """Return the columns of a localization but for its keys."""
    values: dict[str, Any] = dict.fromkeys(
        (
            "lon",
            "lat",
            "footprint",
            "ellipse",
            "ellipse_a_m",
            "ellipse_b_m",
            "ellipse_azimuth_deg",
            "transform",
            "transform_srid",
            "corners",
        )
    )
    values |= {"verdict": decision.verdict, "reason": decision.reason, "confidence": decision.confidence}
    if place is None or decision.verdict not in ("accepted", "ambiguous"):
        return values
    a_m, b_m, azimuth = ellipse(place.refined, reference_error_px)
    frame = place.refined.frame
    srid = natural_srid(frame.scale.pixels, place.center)
    corners = MultiPoint(np.column_stack(place.refined.to_lonlat(*_corners_px(place.refined))))
    return values | {
        "lon": place.center[0],
        "lat": place.center[1],
        "footprint": place.outline.wkb,
        "ellipse": ellipse_polygon(place.center, a_m, b_m, azimuth).wkb,
        "ellipse_a_m": a_m,
        "ellipse_b_m": b_m,
        "ellipse_azimuth_deg": azimuth,
        "transform": affine_to(srid, frame.width_px, frame.height_px, place.refined.to_lonlat),
        "transform_srid": srid,
        "corners": corners.wkb,
    }


def store(conn: Connection, key: Key, places: Sequence[Place], decision: Decision, reference_error_px: float) -> None:
    """Store the places of a query with their matches, and the answer."""
    ids = [_store_place(conn, key, rank, place) for rank, place in enumerate(places, start=1)]
    found = places[0] if places else None
    insert_localization(
        conn, key, {"place_id": ids[0] if ids else None, **_localization(found, decision, reference_error_px)}
    )


def _store_place(conn: Connection, key: Key, rank: int, place: Place) -> int:
    values = {
        "clique_id": place.fit.candidate.clique_id,
        **place.fit.candidate.key.columns,
        "rank": rank,
        "correlation": place.fit.correlation,
        "evidence": place.refined.evidence,
        "lon": place.center[0],
        "lat": place.center[1],
        "footprint": place.outline.wkb,
        "turn_deg": place.refined.frame.pose.turn_deg,
        "zoom": place.refined.frame.pose.zoom,
    }
    place_id = insert_place(conn, key, values)
    copy_matches(conn, key, place_id, match_rows(place.refined))
    return place_id


def store_failure(conn: Connection, key: Key, reason: str) -> None:
    """Store that a query could not be localized, and why."""
    insert_localization(conn, key, {"place_id": None, **_localization(None, Decision("failed", reason, None))})
