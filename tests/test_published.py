"""The published method's stages 2 and 3 on made-up layouts, its known flaws among them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from rsloc_db import published
from rsloc_db.grids import TILE_PX, nominal_resolution_m
from rsloc_db.synthetic import land

LEVEL, SIDE_PX, LAT_DEG = 15, 256.0, 47.0
TILE_M = TILE_PX * nominal_resolution_m(LEVEL)
PATCHES = np.array([(x, y) for y in range(4) for x in range(4)])
M_PER_DEG = published.EARTH_M * np.pi / 180


def hits(patch: np.ndarray, east_m: np.ndarray, north_m: np.ndarray) -> published.Hits:
    """Hits of a 4 x 4 grid of patches, at metres from 1 E, 47 N."""
    x_px, y_px = (PATCHES[patch].T + 0.5) * SIDE_PX
    lon = 1 + east_m / M_PER_DEG / np.cos(np.radians(LAT_DEG))
    return published.Hits(patch, x_px, y_px, np.full(len(patch), SIDE_PX), lon, LAT_DEG + north_m / M_PER_DEG, LEVEL)


def planted(patches: np.ndarray, *, mirrored: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Metres of hits laid out as the method supposes patches to be: half as far apart as they are."""
    x, y = PATCHES[patches].T * TILE_M / 2
    return (-x if mirrored else x), -y


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_planted_clique_is_first_mirrored_or_not(mirrored: bool) -> None:
    """That a mirrored layout passes is the published method's flaw: it knows distances alone."""
    rng = np.random.default_rng(0)
    right = np.arange(0, 16, 2)
    chance = rng.integers(16, size=60)
    east, north = planted(right, mirrored=mirrored)
    far = rng.uniform(2e5, 9e5, (2, 60))
    found = published.cliques(hits(np.r_[right, chance], np.r_[east, far[0]], np.r_[north, np.minimum(far[1], 8e5)]))
    assert sorted(found[0]) == list(range(len(right)))


def test_cliques_are_ranked_by_their_patches() -> None:
    east, north = planted(np.arange(9))
    few = np.array([9, 10, 11])
    away = planted(few)
    found = published.cliques(hits(np.r_[few, :9], np.r_[away[0] + 3e5, east], np.r_[away[1], north]))
    assert [len(c) for c in found] == [9]  # the three are fewer than 0.6 of the largest


def test_pairs_far_apart_are_rejected_though_right() -> None:
    """Ground distances are real, image distances half as long and in Mercator metres: known flaws."""
    corners = np.array([0, 15])
    x, y = PATCHES[corners].T * TILE_M * np.cos(np.radians(LAT_DEG))
    assert sum(len(a) for a, _ in published.edges(hits(corners, 8 * x, -8 * y))) == 0


def test_edges_are_bounded_where_hits_crowd() -> None:
    rng = np.random.default_rng(0)
    patch = rng.integers(16, size=800)
    crowd = hits(patch, rng.normal(0, 1500, 800), rng.normal(0, 1500, 800))
    assert 0 < sum(len(a) for a, _ in published.edges(crowd)) <= published.MOST_EDGES * 800 * 15 / 2


def test_no_hits_no_cliques() -> None:
    none = np.empty(0, np.int64)
    assert published.cliques(hits(none, np.empty(0), np.empty(0))) == []


def test_sets_that_share_a_member_are_merged() -> None:
    assert sorted(map(sorted, published.merge([[1, 2, 3], [3, 4], [5, 6], [4, 7]]))) == [[1, 2, 3, 4, 7], [5, 6]]


def test_stage_3_accepts_the_same_land_and_finds_its_shift() -> None:
    image = land(512, 3, 0)
    warp = published.verify(image[40:400, 60:420], image)
    assert warp.accepted
    assert warp.homography is not None
    np.testing.assert_allclose(
        cv2.perspectiveTransform(np.array([[[0.0, 0.0]]]), warp.homography)[0, 0], (60, 40), atol=2
    )


def test_stage_3_refuses_other_land_and_plain_images() -> None:
    assert not published.verify(land(384, 3, 0), land(384, 4, 0)).accepted
    assert published.verify(np.zeros((99, 99, 3), np.uint8), land(384, 4, 0)) == published.Warp(0, None)


def test_matches_of_a_consistent_layout_are_kept_and_others_dropped() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform(0, 600, (60, 2))
    target = source + np.array([30, -20])
    target[40:] = rng.uniform(0, 600, (20, 2))
    kept = published.consistent(source, target)
    assert set(range(40)) <= set(kept)
    assert len(set(kept) - set(range(40))) < 10
