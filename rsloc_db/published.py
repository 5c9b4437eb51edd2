"""Stages 2 and 3 of the method published with RSLoc-82K, in own code after its description, to compare with.

What is known to be wrong with it is kept, for that is the comparison:

- Image distances are Web Mercator metres, ground distances real: right pairs far apart are rejected.
- A patch's centre is computed as (left + width) / 2, which halves its place.
- Edges use distances alone, so mirrored and turned layouts pass.
- Cliques are ranked by size, though large ones are likely wherever hits are dense.
- There is no answer "not here" but for the number of inliers.

The similarity of stage 3 (CLIP above 0.92) is left out: it judges another model's vectors. Bounds that the description
does not give are stated at the constants. Arrays only: no coordinates but longitudes and latitudes, no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, islice

import cv2
import networkx as nx
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from rsloc_db.grids import TILE_PX, nominal_resolution_m
from rsloc_db.types import Floats, Image

EARTH_M = 6_371_008.8
"""Mean radius of the Earth, for ground distances."""
MIN_GROUND_M = 100.0
MIN_CLIQUE = 3
MIN_SHARE = 0.6
"""Cliques smaller than this share of the largest are dropped."""
MOST_CLIQUES, MOST_MERGED = 1000, 500
MOST_EDGES = 5
"""Edges of a hit to the hits of one other patch, those that agree best: bounds the graph."""
MOST_TRIED = 20_000
"""Maximal cliques that are listed: bounds the time; their number can grow exponentially."""
SIFT_RATIO, MOST_MATCHES, LARGEST = 0.85, 500, 3
MATCH_TOLERANCE_PX = 8.0
"""Largest difference of the distances of two matches in the two images; ours, for the description gives none."""
RANSAC_PX = 4.0
MIN_INLIERS = 25

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Hits:
    """Hits of a query's patches at one level, (N,) each.

    Attributes:
        patch: number of the patch.
        x_px, y_px: centre of the patch in the query.
        size_px: its width.
        lon_deg, lat_deg: centre of the tile that was found (EPSG:4326).
        level: level of the tiles.
    """

    patch: Indices
    x_px: Floats
    y_px: Floats
    size_px: Floats
    lon_deg: Floats
    lat_deg: Floats
    level: int


@dataclass(frozen=True, slots=True)
class Warp:
    """What stage 3 says of two images.

    Attributes:
        inliers: matches that the homography explains.
        homography: (3, 3) from pixels of the first image to pixels of the second, or None.
    """

    inliers: int
    homography: Floats | None

    @property
    def accepted(self) -> bool:
        """Whether the images are taken for the same place."""
        return self.inliers >= MIN_INLIERS


def cliques(hits: Hits) -> list[Indices]:
    """Stage 2: sets of hits whose distances agree with those of their patches, by their number of patches.

    Returns:
        Numbers of the hits of each set, at most 500 sets, those of most distinct patches first.
    """
    graph: nx.Graph = nx.Graph()
    for a, b in edges(hits):
        graph.add_edges_from(zip(a.tolist(), b.tolist(), strict=True))
    found = [c for c in islice(nx.find_cliques(graph), MOST_TRIED) if len(c) >= MIN_CLIQUE]
    found.sort(key=len, reverse=True)
    kept = [c for c in found if len(c) >= MIN_SHARE * len(found[0])][:MOST_CLIQUES]
    merged = [np.array(sorted(c)) for c in merge(kept)]
    merged.sort(key=lambda c: (-len(np.unique(hits.patch[c])), c[0]))
    return merged[:MOST_MERGED]


def edges(hits: Hits) -> Iterator[tuple[Indices, Indices]]:
    """Yield the agreeing pairs of hits of each two patches: | image distance - ground distance | below 1.5 tiles."""
    limit = 1.5 * TILE_PX * nominal_resolution_m(hits.level)
    image = np.stack([hits.x_px + hits.size_px / 2, hits.y_px + hits.size_px / 2], 1) / 2
    image *= nominal_resolution_m(hits.level)
    places = _sphere(hits)
    members = {int(p): np.flatnonzero(hits.patch == p) for p in np.unique(hits.patch)}
    trees = {p: KDTree(places[m]) for p, m in members.items()}
    for p, q in combinations(members, 2):
        distance = float(np.linalg.norm(image[members[p][0]] - image[members[q][0]]))
        pairs = trees[p].sparse_distance_matrix(trees[q], distance + limit, output_type="ndarray")
        off = np.abs(pairs["v"] - distance)
        good = (off < limit) & (pairs["v"] > MIN_GROUND_M)
        i, j, off = pairs["i"][good], pairs["j"][good], off[good]
        kept = _best_of_each(i, off) & _best_of_each(j, off)
        yield members[p][i[kept]], members[q][j[kept]]


def _sphere(hits: Hits) -> Floats:
    """Places in metres on a sphere: a chord of some kilometres is as long as the arc to a millimetre."""
    lon, lat = np.radians(hits.lon_deg), np.radians(hits.lat_deg)
    return EARTH_M * np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], 1)


def _best_of_each(node: Indices, off: Floats) -> NDArray[np.bool_]:
    """Tell which pairs are among the ``MOST_EDGES`` of their node that agree best."""
    order = np.lexsort((off, node))
    nodes = node[order]
    starts = np.searchsorted(nodes, nodes)
    kept = np.zeros(len(node), bool)
    kept[order] = np.arange(len(node)) - starts < MOST_EDGES
    return kept


def merge(sets: Iterable[Iterable[int]]) -> list[set[int]]:
    """Merge sets that share a member, until none do."""
    graph: nx.Graph = nx.Graph()
    for each in sets:
        nx.add_path(graph, each)
    return [set(c) for c in nx.connected_components(graph)]


def verify(query: Image, gallery: Image) -> Warp:
    """Stage 3: SIFT matches whose pairwise distances agree, and a homography through them.

    Args:
        query: (H, W, 3) uint8 RGB, a patch.
        gallery: the same, the mosaic of tiles that it was found in, at about the same scale.
    """
    source, target = matches(query, gallery)
    used = consistent(source, target)
    if len(used) < 4:
        return Warp(0, None)
    found, inliers = cv2.findHomography(source[used], target[used], cv2.RANSAC, RANSAC_PX)
    homography = np.asarray(found, float)
    if homography.shape != (3, 3):  # OpenCV returns None where it finds none
        return Warp(0, None)
    return Warp(int(inliers.sum()), homography)


def matches(query: Image, gallery: Image) -> tuple[Floats, Floats]:
    """Return the places of SIFT matches in both images, (N, 2) pixels each: ratio 0.85, at most the best 500."""
    sift = cv2.SIFT.create()
    points, vectors = zip(
        *(sift.detectAndCompute(image, np.empty(0, np.uint8)) for image in (query, gallery)), strict=True
    )
    if any(len(p) < 2 for p in points):
        return np.empty((0, 2)), np.empty((0, 2))
    pairs = cv2.BFMatcher().knnMatch(vectors[0], vectors[1], k=2)
    good = sorted((a for a, b in pairs if a.distance < SIFT_RATIO * b.distance), key=lambda m: m.distance)[
        :MOST_MATCHES
    ]
    source = np.array([points[0][m.queryIdx].pt for m in good]).reshape(-1, 2)
    return source, np.array([points[1][m.trainIdx].pt for m in good]).reshape(-1, 2)


def consistent(source: Floats, target: Floats) -> Indices:
    """Return the matches in the three largest sets whose pairwise distances agree in both images.

    Args:
        source: (N, 2) places in the first image.
        target: (N, 2) places in the second.
    """
    a, b = (np.linalg.norm(p[:, None] - p[None], axis=2) for p in (source, target))
    agree = np.argwhere(np.triu(np.abs(a - b) < MATCH_TOLERANCE_PX, 1))
    graph: nx.Graph = nx.Graph()
    graph.add_edges_from(agree.tolist())
    largest = sorted(islice(nx.find_cliques(graph), MOST_TRIED), key=len, reverse=True)[:LARGEST]
    return np.array(sorted({i for c in largest for i in c}), np.int64)
