"""Frozen records that travel between the parts of the package.

Coordinates are lon, lat in degrees (EPSG:4326) and x, y in pixels; units are in the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""An image: (H, W, 3) uint8 RGB."""

Mask = NDArray[np.bool_]
"""Which pixels of an image are imagery: (H, W) bool."""
Floats = NDArray[np.float64]
Pixels = Literal["mercator", "ground", "degrees"]
"""What a query's pixel is: a step in Web Mercator metres, in metres on the ground, or in degrees (plate carree)."""

Retrieval = Literal["knn", "exhaustive", "auto"]
"""How candidates are found: by patches and cliques, over all of the gallery's maps, or by both in turn."""

Rotation = Literal["north_up", "free"]
"""What is known of a query's turn."""

IndexChoice = Literal["auto", "exact", "hnsw"]
"""How vectors are searched; ``auto`` goes by their number."""

Verdict = Literal["accepted", "ambiguous", "not_here", "failed"]


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One cell of a tile grid."""

    level: int
    column: int
    row: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """A box in degrees (EPSG:4326), never across the antimeridian."""

    west_deg: float
    south_deg: float
    east_deg: float
    north_deg: float


@dataclass(frozen=True, slots=True)
class Tile:
    """A gallery tile as its source holds it.

    Attributes:
        cell: where it lies in the gallery's grid.
        captured_at: date of the image (UTC, aware), or None where the source has none.
        data: the encoded image (JPEG, PNG or WebP), not yet decoded.
    """

    cell: Cell
    captured_at: datetime | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Scale:
    """Size of a query's pixel.

    Attributes:
        pixels: the unit: ``mercator`` (EPSG:3857 metres), ``ground`` (metres on the ground) or ``degrees``.
        x: eastward size of a pixel in that unit.
        y: northward size of a pixel in that unit.
    """

    pixels: Pixels
    x: float
    y: float


@dataclass(frozen=True, slots=True, order=True)
class Pose:
    """What is supposed of a query beside its place, where its turn or its scale is not known.

    Attributes:
        turn_deg: direction of the image's upper edge, clockwise from north.
        zoom: true size of a pixel as a multiple of the stated one.
    """

    turn_deg: float = 0.0
    zoom: float = 1.0


AS_STATED = Pose()
"""North up, and the stated scale is right."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was skipped, and why; a batch goes on and reports these at its end."""

    name: str
    reason: str


Json = dict[str, Any]


class Progress(Protocol):
    """Where long work reports to. It is passed as a parameter, never kept as a global."""

    def task(self, name: str, total: int | None = None, done: int = 0) -> None:
        """Begin a task of ``total`` steps, ``done`` of them from before; the task before it is complete."""

    def advance(self, steps: int = 1) -> None:
        """Say that some steps of the task are done."""

    def stage(self, name: str) -> None:
        """Say that a stage of the step at hand has ended."""

    def note(self, text: str) -> None:
        """Say a line beside the bar."""


class Silent:
    """A ``Progress`` that says nothing."""

    def task(self, name: str, total: int | None = None, done: int = 0) -> None:
        """Ignore."""

    def advance(self, steps: int = 1) -> None:
        """Ignore."""

    def stage(self, name: str) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
