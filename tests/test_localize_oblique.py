"""Localize images that were not taken straight from above."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from lands import LEVEL, cut
from pyproj import Geod, Transformer

import rsloc_db
from rsloc_db.db.connection import connect

SHAPE = 1024, 1088
LEANING = 5e-5, -3e-5
"""Perspective about the image's centre: at its corners points are off by 25 px or so."""


@pytest.mark.usefixtures("land_url")
def test_the_corners_of_an_oblique_image_are_right(tmp_path: Path, land_url: str) -> None:
    height, width = SHAPE
    straight = cut(shape=SHAPE)
    to_middle = np.array([[1, 0, -width / 2 + 0.5], [0, 1, -height / 2 + 0.5], [0, 0, 1]])
    leaning = np.linalg.inv(to_middle) @ np.array([[1, 0, 0], [0, 1, 0], [*LEANING, 1]]) @ to_middle
    # what the image shows at a pixel is what the straight one shows where ``leaning`` takes that pixel
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    image = cv2.warpPerspective(straight.image, leaning, (width, height), flags=flags)
    query = replace(straight, image=image)
    run = rsloc_db.localize(query.write_bare(tmp_path / "oblique.png"), level=LEVEL)
    (found,) = run.queries
    assert found["verdict"] == "accepted", found["reason"]
    assert query.error_m(found["center"]) < 5
    with connect(land_url) as conn:
        row = conn.execute("SELECT ST_AsBinary(corners) FROM localization WHERE run_id = %s", (run.run,)).fetchone()
    assert row is not None
    corners = np.array([[p.x, p.y] for p in shapely.from_wkb(row[0]).geoms])
    pixels = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    there = cv2.perspectiveTransform(pixels[None] - 0.5, leaning)[0] + 0.5
    to_earth = Transformer.from_crs(straight.crs, 4326, always_xy=True)
    truth = np.column_stack(to_earth.transform(*(straight.transform @ there.T)))
    _, _, off_m = Geod(ellps="WGS84").inv(*corners.T, *truth.T)
    # a corner of the best affine transform is off by some 30 m
    assert np.max(off_m) < 12
