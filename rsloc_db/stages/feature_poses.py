"""Turn and zoom by local features: a further pose to settle from, where these are not known and features are asked for.

At a coarse fit the query is laid into the gallery's grid as it was supposed, and its local features are matched with
those of the gallery's pixels around. Matched points become offsets from the supposed centre in the unit of the query's
scale, in which a turn and a zoom are a similarity, as they are not in a grid that stretches. It is looked at like any
other pose: correlation decides.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from rsloc_db.features import FEATURE_PX, TOLERANCE_PX, MatchedPoints, matched_points, similarities_of
from rsloc_db.frames import add_offset, offset_between
from rsloc_db.registration import scale_of
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
from rsloc_db.stages.reference import Box, Fit, Reference, footprint_box, resample
from rsloc_db.types import Floats, Pose

LOOKED_AT = 8
"""How many of the best coarse fits are looked at: features take longer than a correlation of stored maps."""
MARGIN_PX = 256
"""How far around the query the gallery is looked at, in grid pixels."""
MAX_PX = 2 * FEATURE_PX
"""Pixels are averaged by powers of two until a side of what is looked at has at most so many."""
SLACK = 1.05
"""A zoom may be this much outside of the stated bounds."""


def feature_fits(query: Query, fit: Fit, reference: Reference, options: Options) -> list[Fit]:
    """Return the pose and place that local features tell near a coarse fit, with its correlation still unknown (0).

    Args:
        query: the query.
        fit: where, and in which pose, it is supposed to lie.
        reference: the gallery there.
        options: which features to look for, and which of turn and scale are not known.

    Returns:
        One fit, or none where fewer than ``rsloc_db.features.MIN_MATCHES`` matches agree or the zoom is out of bounds.

    Raises:
        ModelError: a network of the features fails on the images.
    """
    if options.features is None:
        return []
    posed = query.posed(fit.pose)
    step = _step(footprint_box(posed.frame, fit.center, reference, 1))
    box = footprint_box(posed.frame, fit.center, reference, step)
    around = box.grown(-(-MARGIN_PX // step) * step)
    there, imagery = reference.pixels(around, step)
    here, inside = resample(posed, fit.center, reference, box, step)
    found = matched_points(options.features, here, inside, there, imagery)
    offsets = partial(_offsets, step=step, query=query, center=fit.center, reference=reference)
    points = MatchedPoints(offsets(found.a, box), offsets(found.b, around))
    (_, upper), (_, lower) = offsets(np.array([[0.0, 0.0], [0.0, 1.0]]), around)
    best = similarities_of(points, TOLERANCE_PX * (upper - lower), keep=1)
    return [moved for one in best if (moved := _moved(fit, one.matrix, query, options)) is not None]


def _step(box: Box) -> int:
    """Return how many grid pixels a side become one."""
    side = max(box.right - box.left, box.bottom - box.top) + 2 * MARGIN_PX
    return 1 << max(int(np.ceil(np.log2(side / MAX_PX))), 0)


def _offsets(
    points: Floats, box: Box, *, step: int, query: Query, center: tuple[float, float], reference: Reference
) -> Floats:
    """Return points of pixels of a box as (N, 2) east and north of a centre, in the unit of the query's scale."""
    x, y = box.left + (points[:, 0] + 0.5) * step, box.top + (points[:, 1] + 0.5) * step
    lon, lat = reference.grid.to_lonlat(x, y, reference.level)
    return np.column_stack(offset_between(query.frame.scale.pixels, center, lon, lat))


def _moved(fit: Fit, matrix: Floats, query: Query, options: Options) -> Fit | None:
    """Return a fit with a similarity of offsets (east, north) on top, or None where the zoom is out of bounds."""
    turn_deg = -float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) if options.rotation == "free" else 0.0
    zoom = scale_of(matrix) if options.gsd_factor > 1 else 1.0
    pose = Pose((fit.pose.turn_deg + turn_deg) % 360, fit.pose.zoom * zoom)
    if abs(np.log(pose.zoom)) > np.log(options.gsd_factor * SLACK):
        return None
    lon, lat = add_offset(query.frame.scale.pixels, fit.center, matrix[0, 2], matrix[1, 2])
    return Fit(fit.candidate, (float(lon), float(lat)), 0.0, pose)
