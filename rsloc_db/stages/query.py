"""A query as the method sees it."""

from __future__ import annotations

from dataclasses import dataclass

from rsloc_db.frames import Frame
from rsloc_db.types import Image, Mask


@dataclass(frozen=True, slots=True)
class Query:
    """Pixels and their size, nothing else.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        valid: (H, W) bool, the pixels that are imagery.
        frame: size of the image and of its pixels.
    """

    image: Image
    valid: Mask
    frame: Frame
