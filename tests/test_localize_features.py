"""Local features tell the turn and the zoom of a query near a coarse fit, and correlation decides."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lands import LEVEL, NOMINAL_M, Cut, cut
from pyproj import Geod
from typer.testing import CliRunner

import rsloc_db
from rsloc_db.cli import app
from rsloc_db.db.blocks import LayerKey
from rsloc_db.db.connection import connect
from rsloc_db.errors import ModelError, QueryError
from rsloc_db.features import Features
from rsloc_db.frames import Frame
from rsloc_db.models import embedder
from rsloc_db.stages.feature_poses import feature_fits
from rsloc_db.stages.localize import search_space
from rsloc_db.stages.options import Options
from rsloc_db.stages.query import Query
from rsloc_db.stages.reference import Candidate, Fit, Reference
from rsloc_db.stages.template import templates_of
from rsloc_db.stages.verify import settle_poses
from rsloc_db.types import Pixels, Pose, Scale

OPTIONS = Options("gradients", rotation="free", gsd_factor=1.5, features=Features("sift"))
WRONG = Pose(60.0, 0.9)


def query_of(piece: Cut, pixels: Pixels, size: float) -> Query:
    height, width = piece.image.shape[:2]
    return Query(piece.image, np.ones((height, width), bool), Frame(Scale(pixels, size, size), width, height))


def near(piece: Cut, key: LayerKey, off_m: float, pose: Pose) -> Fit:
    lon, lat, _ = Geod(ellps="WGS84").fwd(*piece.center, 60, off_m)
    return Fit(Candidate(key, None), (lon, lat), 0.1, pose)


@pytest.fixture
def level(land_url: str) -> Iterator[tuple[LayerKey, Reference]]:
    """The gallery level of the land."""
    with connect(land_url) as conn:
        (found,) = search_space(conn, embedder(), OPTIONS).references.items()
        yield found


@pytest.mark.parametrize(
    ("crs", "pixels", "stated"), [("EPSG:3857", "mercator", NOMINAL_M), ("EPSG:32631", "ground", 3.2)]
)
def test_turn_zoom_and_place_are_told(
    level: tuple[LayerKey, Reference], crs: str, pixels: Pixels, stated: float
) -> None:
    key, reference = level
    piece = cut(crs, stated * 1.1, turn_deg=40)
    (found,) = feature_fits(query_of(piece, pixels, stated), near(piece, key, 150, WRONG), reference, OPTIONS)
    assert piece.error_m([*found.center]) < 15
    assert found.pose.zoom == pytest.approx(1.1, rel=0.01)
    # up in a UTM zone is not quite north
    assert math.remainder(found.pose.turn_deg - 40, 360) == pytest.approx(0, abs=2.5)


def test_what_is_known_is_kept(level: tuple[LayerKey, Reference]) -> None:
    key, reference = level
    piece = cut(size=NOMINAL_M * 1.1, turn_deg=5)
    query = query_of(piece, "mercator", NOMINAL_M)
    (turned,) = feature_fits(query, near(piece, key, 50, Pose()), reference, replace(OPTIONS, gsd_factor=1.0))
    assert turned.pose.zoom == 1
    assert turned.pose.turn_deg == pytest.approx(5, abs=0.5)
    (zoomed,) = feature_fits(query, near(piece, key, 50, Pose()), reference, replace(OPTIONS, rotation="north_up"))
    assert zoomed.pose.turn_deg == 0
    assert zoomed.pose.zoom == pytest.approx(1.1, rel=0.01)


def test_nothing_is_told_where_nothing_agrees(level: tuple[LayerKey, Reference]) -> None:
    key, reference = level
    piece = cut()
    query = query_of(piece, "mercator", NOMINAL_M)
    fit = near(piece, key, 0, Pose())
    assert len(feature_fits(query, fit, reference, OPTIONS)) == 1
    mirrored = replace(piece, image=piece.image[:, ::-1].copy())
    assert feature_fits(query_of(mirrored, "mercator", NOMINAL_M), fit, reference, OPTIONS) == []
    assert feature_fits(query, fit, reference, replace(OPTIONS, features=None)) == []
    # far from the land there are no pixels
    assert feature_fits(query, replace(fit, center=(fit.center[0], -40.0)), reference, OPTIONS) == []


def test_a_zoom_out_of_bounds_is_not_told(level: tuple[LayerKey, Reference]) -> None:
    key, reference = level
    piece = cut(size=NOMINAL_M * 1.3)
    fit = near(piece, key, 0, Pose(zoom=1.1))
    query = query_of(piece, "mercator", NOMINAL_M)
    assert len(feature_fits(query, fit, reference, OPTIONS)) == 1
    assert feature_fits(query, fit, reference, replace(OPTIONS, gsd_factor=1.2)) == []


def test_a_pose_too_far_to_climb_is_settled_by_features(level: tuple[LayerKey, Reference]) -> None:
    key, reference = level
    piece = cut(size=NOMINAL_M * 1.1, turn_deg=40)
    query = query_of(piece, "mercator", NOMINAL_M)
    templates = templates_of(query, {key: reference})
    fits = [near(piece, key, 150, WRONG)]
    without = settle_poses(query, fits, templates, replace(OPTIONS, features=None))
    assert piece.error_m([*without[0].center]) > 100
    best = settle_poses(query, fits, templates, OPTIONS)[0]
    assert piece.error_m([*best.center]) < 50
    assert best.correlation > 1.5 * without[0].correlation


# --- from file to answer


@pytest.mark.usefixtures("land_url")
def test_a_query_of_roughly_known_scale_is_found_with_features(tmp_path: Path) -> None:
    piece = cut(size=NOMINAL_M * 1.3, shape=(500, 540))
    path = piece.write_bare(tmp_path / "rough.png")
    words = ["localize", str(path), "--level", str(LEVEL), "--gsd-factor", "1.5", "--features", "sift", "--json", "-q"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    found = rsloc_db.localize(path, level=LEVEL, gsd_factor=1.5, features="sift")
    assert found.queries[0]["verdict"] == "accepted", found.queries[0]["reason"]
    assert piece.error_m(found.queries[0]["center"]) < 6
    # the same run: what features are is part of what it is
    assert f'"run": {found.run},' in done.stdout
    with connect() as conn:
        settings = [row[0] for row in conn.execute("SELECT settings -> 'features' FROM run").fetchall()]
    assert settings == [{"kind": "sift", "model": None, "lightglue": None}]


@pytest.mark.usefixtures("land_url")
def test_features_need_something_to_look_for(tmp_path: Path) -> None:
    path = cut(shape=(100, 100)).write_bare(tmp_path / "q.png")
    with pytest.raises(QueryError, match="--features look for turns and scales"):
        rsloc_db.localize(path, level=LEVEL, features="sift")
    with pytest.raises(ModelError, match="there is no ONNX file"):
        rsloc_db.localize(path, level=LEVEL, rotation="free", features="disk", feature_model="none.onnx")
