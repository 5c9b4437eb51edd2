"""How large a pixel is on the ground: what frames and patches are held against."""

from __future__ import annotations

import numpy as np

from rsloc_db.frames import meters_per_degree
from rsloc_db.grids import EARTH_RADIUS_M, MERCATOR_MAX_LAT_DEG
from rsloc_db.types import Scale


def ground_size_m(scale: Scale, lat_deg: float) -> tuple[float, float]:
    """Return ground metres a pixel (eastward, northward) at a latitude."""
    east, north = (float(v) for v in meters_per_degree(np.array(lat_deg)))
    if scale.pixels == "degrees":
        return scale.x * east, scale.y * north
    if scale.pixels == "ground":
        return scale.x, scale.y
    lat = float(np.clip(lat_deg, -MERCATOR_MAX_LAT_DEG, MERCATOR_MAX_LAT_DEG))
    per_m = 1 / np.radians(EARTH_RADIUS_M)
    return scale.x * per_m * east, scale.y * per_m * north * float(np.cos(np.radians(lat)))
