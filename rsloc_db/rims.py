"""Tell imagery from the blank rim that a turned or cut image has where its format knows no mask."""

from __future__ import annotations

import cv2
import numpy as np

from rsloc_db.types import Image, Mask

DARKEST = 12
"""Blank is black, but for what JPEG makes of it beside an edge."""
MIN_SHARE = 0.001
"""Least share of the image that a blank part takes."""
RINGING_PX = 5
"""How far JPEG blurs the edge of a blank part into the image."""


def without_rim(image: Image, valid: Mask) -> Mask:
    """Return which pixels are imagery: valid, and not in a black part that reaches the image's border.

    Args:
        image: (H, W, 3) uint8 RGB.
        valid: (H, W) bool, the pixels known to be valid.

    Returns:
        (H, W) bool. Where nothing else would be left, ``valid`` as it is: the image is dark, not blank.
    """
    dark = (image.max(axis=2) <= DARKEST) | ~valid
    _, labels, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8))
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    large = stats[border, cv2.CC_STAT_AREA] >= MIN_SHARE * dark.size
    blank = np.isin(labels, border[large & (border > 0)]).astype(np.uint8)
    side = 2 * RINGING_PX + 1
    kept: Mask = valid & (cv2.dilate(blank, np.ones((side, side), np.uint8)) == 0)
    return kept if kept.any() else valid
