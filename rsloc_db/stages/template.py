"""A query as gradient maps in a gallery's cells: what is laid over the gallery's own maps."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from threading import Lock

import numpy as np

from rsloc_db.correlation import GradientMaps, gradient_maps
from rsloc_db.db.blocks import LayerKey
from rsloc_db.stages.maps import CELL_PX, STEP, SURROUNDINGS_CELLS
from rsloc_db.stages.query import Query
from rsloc_db.stages.reference import Box, Reference, References, footprint_box, resample, to_grid
from rsloc_db.types import AS_STATED, Pose

MAX_CELLS = 384
"""Of a larger query the middle is taken: this many cells a side say enough."""
OWN_PIXELS = {("degrees", "google_earth"), ("mercator", "web_mercator")}
"""Pixels and grids that stretch alike."""
BAND = 0.012
"""A template serves latitudes whose cosine differs by this share: half a cell in 80."""


@dataclass(frozen=True, slots=True)
class Template:
    """Gradient maps of a query and where its centre lies in them, in cells from their upper left corner."""

    maps: GradientMaps
    column: float
    row: float


class Templates:
    """The templates of a query for a gallery level, one a pose and band of latitudes, made when first asked for.

    Attributes:
        reference: the gallery level.
    """

    def __init__(self, query: Query, reference: Reference) -> None:
        self._query, self.reference = query, reference
        self._made: dict[tuple[Pose, float, int], Template] = {}
        # several threads may ask for one at once
        self._making: dict[tuple[Pose, float, int], Lock] = {}

    def over(self, reference: Reference) -> Templates:
        """Return the same templates for another date of the gallery level: what was made is shared."""
        other = copy(self)
        other.reference = reference
        return other

    def at(self, lat_deg: float, pose: Pose = AS_STATED, max_cells: int = MAX_CELLS, width: float = BAND) -> Template:
        """Return the template for a latitude and a pose.

        Args:
            lat_deg: the latitude.
            pose: turn and zoom.
            max_cells: of a larger query the middle is taken, so many cells a side.
            width: see ``band``.
        """
        key = pose, self.band(lat_deg, width), max_cells
        with self._making.setdefault(key, Lock()):
            if key not in self._made:
                self._made[key] = self._make(*key)
        return self._made[key]

    def band(self, lat_deg: float, width: float = BAND) -> float:
        """Return the latitude that stands for a band; pixels of the grid's own kind look the same at all of them.

        Args:
            lat_deg: a latitude.
            width: by which share the cosine of latitude may differ within a band.
        """
        if (self._query.frame.scale.pixels, self.reference.grid.name) in OWN_PIXELS:
            return 0.0
        band = np.round(np.log(np.cos(np.radians(min(abs(lat_deg), 85.0)))) / width) * width
        return float(np.copysign(np.degrees(np.arccos(np.exp(min(band, 0.0)))), lat_deg))

    def _make(self, pose: Pose, lat_deg: float, max_cells: int) -> Template:
        center, query = (0.0, lat_deg), self._query.posed(pose)
        x, y = (float(v) for v in to_grid(self.reference, np.array(0.0), np.array(lat_deg), center))
        box = footprint_box(query.frame, center, self.reference, CELL_PX)
        half = max_cells // 2 * CELL_PX
        x_cell, y_cell = int(x // CELL_PX) * CELL_PX, int(y // CELL_PX) * CELL_PX
        box = Box(
            max(box.left, x_cell - half), max(box.top, y_cell - half),
            min(box.right, x_cell + half), min(box.bottom, y_cell + half),
        )  # fmt: skip
        pixels = resample(query, center, self.reference, box, STEP)
        maps = gradient_maps(*pixels, CELL_PX // STEP, surroundings_cells=SURROUNDINGS_CELLS)
        return Template(maps, (x - box.left) / CELL_PX, (y - box.top) / CELL_PX)


def templates_of(query: Query, references: References) -> dict[LayerKey, Templates]:
    """Return the templates of a query for some gallery levels; the dates of one share theirs."""
    made: dict[LayerKey, Templates] = {}
    for key, reference in references.items():
        newest = made.get(key.newest)
        made[key] = newest.over(reference) if newest else Templates(query, reference)
    return made
