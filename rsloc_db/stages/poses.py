"""Poses to suppose of a query: which turns and zooms are tried where they are not known.

Two neighbours differ by what retrieval and coarse correlation bear; a place found in one of them is then looked at in
poses between (``rsloc_db.stages.verify``), and refinement fits what remains.
"""

from __future__ import annotations

import numpy as np

from rsloc_db.stages.options import Options
from rsloc_db.types import Pose

TURN_STEP_DEG = 10.0
"""From one turn to the next: with 15 degrees fewer of the turned queries were found by patches."""
ZOOM_STEP = 1.15
"""Greatest ratio of one zoom to the next."""


def poses(options: Options) -> list[Pose]:
    """Return the poses to try, those nearest to the stated one first.

    Args:
        options: whether turns are free, and by which factor the stated scale may be wrong either way.
    """
    turns = np.arange(0.0, 360.0, TURN_STEP_DEG) if options.rotation == "free" else np.zeros(1)
    steps = int(np.ceil(2 * np.log(options.gsd_factor) / np.log(ZOOM_STEP)))
    # the middles of equal intervals of log(zoom): none is farther from a zoom within the bounds than half a step
    zooms = np.exp(
        (np.arange(max(steps, 1)) + 0.5 - max(steps, 1) / 2) * np.log(options.gsd_factor) * 2 / max(steps, 1)
    )
    near = sorted(zooms, key=lambda z: abs(np.log(z)))
    return [Pose(float(turn), float(zoom)) for zoom in near for turn in turns]
