"""Stage 1 without an index: correlate the whole query with the gradient maps of the whole gallery.

Nothing is fitted and no tile has to be found by a patch, so this finds what retrieval misses, at a cost that grows
with the gallery. The template depends on latitude, so the gallery goes by in bands of it (METHOD: exhaustive search).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rsloc_db.correlation import correlate
from rsloc_db.stages.maps import BLOCK_CELLS
from rsloc_db.stages.options import Options
from rsloc_db.stages.reference import Candidate, Fit, Reference, References
from rsloc_db.stages.template import Template, Templates
from rsloc_db.stages.verify import is_within

CHUNK_BLOCKS = 8
"""Blocks a side of what is correlated at once: 1,024 cells."""
PEAKS = 5
"""Places kept of each chunk."""
AUTO_BLOCKS = 1500
"""Automatic retrieval searches at most this many blocks of 8 x 8 tiles exhaustively: 96,000 tiles, a few seconds."""
APART_CELLS = 16
"""Two places are at least this far apart: a tile."""


def exhaustive(templates: Mapping[tuple[int, int], Templates], options: Options) -> list[Fit]:
    """Return the places where a query correlates best with the gradient maps of some gallery levels, best first.

    Args:
        templates: (gallery_id, level) -> the query's templates for that level.
        options: how many places to return, and the polygon that the search is limited to.
    """
    found = [
        Fit(Candidate(gallery_id, level, None), center, score)
        for (gallery_id, level), of_level in templates.items()
        for score, center in _peaks_of(of_level, options.within)
    ]
    return sorted(found, key=lambda f: -f.correlation)[: options.cliques]


def is_affordable(references: References, options: Options) -> bool:
    """Tell whether automatic retrieval may search these gallery levels exhaustively: not when they are large."""
    if options.retrieval != "auto":
        return False
    return sum(len(reference.maps.blocks(options.within)) for reference in references.values()) <= AUTO_BLOCKS


def _peaks_of(templates: Templates, within: str | None) -> Iterator[tuple[float, tuple[float, float]]]:
    reference = templates.reference
    for chunk in _chunks(templates, reference.maps.blocks(within)):
        left, top = chunk.min(axis=0) * BLOCK_CELLS
        right, bottom = (chunk.max(axis=0) + 1) * BLOCK_CELLS
        template = templates.at(reference.cell_center((left + right) / 2, (top + bottom) / 2)[1])
        for score, column, row in _chunk_peaks(reference, template, left, top, right, bottom):
            center = reference.cell_center(column, row)
            if is_within(center, within):
                yield score, center


def _chunks(templates: Templates, blocks: Sequence[tuple[int, int]]) -> Iterator[NDArray[np.int_]]:
    """Group blocks, (column, row), that one template serves, at most ``CHUNK_BLOCKS`` a side: (N, 2) arrays."""
    groups: dict[tuple[int, int, float], list[tuple[int, int]]] = defaultdict(list)
    for column, row in blocks:
        lat_deg = templates.reference.cell_center(0, (row + 0.5) * BLOCK_CELLS)[1]
        groups[column // CHUNK_BLOCKS, row // CHUNK_BLOCKS, templates.band(lat_deg)].append((column, row))
    for key in sorted(groups):
        yield np.array(groups[key])


def _chunk_peaks(
    reference: Reference, template: Template, left: int, top: int, right: int, bottom: int
) -> Iterator[tuple[float, float, float]]:
    """Yield (score, column, row) of the best places whose centre lies in a box of cells."""
    height, width = template.maps.cover.shape
    x0, y0 = left - int(template.column), top - int(template.row)
    search = reference.maps.cells(x0, y0, right - left + width - 1, bottom - top + height - 1)
    scores = correlate(template.maps, search)
    for _ in range(PEAKS):
        r, c = (int(v) for v in np.unravel_index(int(scores.argmax()), scores.shape))
        if scores[r, c] <= 0:
            return
        yield float(scores[r, c]), x0 + c + template.column, y0 + r + template.row
        scores[max(r - APART_CELLS, 0) : r + APART_CELLS + 1, max(c - APART_CELLS, 0) : c + APART_CELLS + 1] = 0
