"""Local features of drawn land, and of networks that stand in for the real ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from feature_networks import write_aliked, write_disk, write_lightglue

from rsloc_db.errors import ModelError
from rsloc_db.features import (
    MIN_MATCHES,
    Features,
    MatchedPoints,
    choose_features,
    feature_similarities,
    matched_points,
    similarities_of,
)
from rsloc_db.registration import Pair, center_of, register, scale_of, turn_of, warp
from rsloc_db.synthetic import land
from rsloc_db.types import Floats, Image, Mask

SIDE_PX = 600
SIFT = Features("sift")
networks = pytest.mark.skipif(not hasattr(cv2, "ALIKED"), reason="networks need OpenCV 5")


@cache
def ground(season: int = 0, seed: int = 5) -> Image:
    return land(SIDE_PX, seed, season)


def everywhere(image: Image) -> Mask:
    return np.ones(image.shape[:2], bool)


def seen(turn_deg: float, scale: float, season: int = 0) -> tuple[Image, Mask, Floats]:
    """The land turned and scaled about its middle, and the true transform back to it."""
    middle = (SIDE_PX / 2, SIDE_PX / 2)
    there = np.asarray(cv2.getRotationMatrix2D(middle, turn_deg, 1 / scale))
    image, valid = warp(ground(season), everywhere(ground(season)), there, (SIDE_PX, SIDE_PX))
    return image, valid, np.asarray(cv2.invertAffineTransform(there))


def off_px(found: Floats, true: Floats) -> float:
    corners = np.array([[150, 150, 1], [450, 150, 1], [150, 450, 1], [450, 450, 1]], float).T
    return float(np.linalg.norm((found - true) @ corners, axis=0).max())


# --- SIFT


@pytest.mark.parametrize(("turn_deg", "scale", "season"), [(0, 1, 3), (40, 1, 3), (-130, 1.25, 3), (200, 0.6, 0)])
def test_sift_finds_turn_and_scale(turn_deg: float, scale: float, season: int) -> None:
    image, valid, true = seen(turn_deg, scale, season)
    best, *others = feature_similarities(SIFT, image, valid, ground(), everywhere(ground()))
    assert off_px(best.matrix, true) < 3
    assert scale_of(best.matrix) == pytest.approx(scale, rel=0.01)
    assert abs((turn_of(best.matrix) - turn_deg + 180) % 360 - 180) < 0.5
    assert best.score >= MIN_MATCHES
    assert all(other.score >= MIN_MATCHES for other in others)


def test_pixels_of_a_large_image_are_its_own() -> None:
    large = cv2.resize(ground(), (3 * SIDE_PX, 3 * SIDE_PX), interpolation=cv2.INTER_CUBIC)
    best = feature_similarities(SIFT, large, everywhere(large), ground(), everywhere(ground()))[0].matrix
    # corners of images lie on one another, so centres of first pixels do not
    np.testing.assert_allclose(best, [[1 / 3, 0, -1 / 3], [0, 1 / 3, -1 / 3]], atol=0.1)


def test_points_lie_on_imagery() -> None:
    image, valid, _ = seen(30, 1)
    here = valid.copy()
    here[:, SIDE_PX // 2 :] = False
    points = matched_points(SIFT, image, here, ground(), everywhere(ground()))
    assert len(points.a) == len(points.b) > 100
    column, row = np.round(points.a).astype(int).T
    assert here[row, column].all()


def test_a_point_is_matched_once() -> None:
    points = matched_points(SIFT, *seen(40, 1, 3)[:2], ground(), everywhere(ground()))
    for side in (points.a, points.b):
        assert len(np.unique(np.round(side), axis=0)) == len(side)


def test_nothing_agrees_where_nothing_is_alike() -> None:
    grey = np.full((200, 200, 3), 90, np.uint8)
    assert feature_similarities(SIFT, grey, everywhere(grey), ground(), everywhere(ground())) == []
    assert feature_similarities(SIFT, grey, everywhere(grey), grey, everywhere(grey)) == []


def test_two_motions_are_two_similarities() -> None:
    a = np.random.default_rng(0).uniform(0, 500, (90, 2))
    b = np.where(np.arange(90)[:, None] < 60, a + np.array([30, -20]), 2 * a)
    first, second = similarities_of(MatchedPoints(a, b), 1.0)
    np.testing.assert_allclose(first.matrix, [[1, 0, 30], [0, 1, -20]], atol=1e-3)
    np.testing.assert_allclose(second.matrix, [[2, 0, 0], [0, 2, 0]], atol=1e-3)
    assert (first.score, second.score) == (60, 30)
    few = np.arange(MIN_MATCHES) < MIN_MATCHES - 1
    assert similarities_of(MatchedPoints(a[:MIN_MATCHES][few], b[:MIN_MATCHES][few]), 1.0) == []


# --- registration


def test_features_find_a_piece_that_is_too_small_for_the_search() -> None:
    whole, size_px = land(1200, 5), 80
    there = cv2.getRotationMatrix2D((800, 500), 100, 1.0)
    there[:, 2] += size_px / 2 - np.array([800, 500])
    piece, valid = warp(whole, everywhere(whole), there, (size_px, size_px))
    pair = Pair(piece, valid, whole, everywhere(whole))
    without, found = register(pair), register(pair, features=SIFT)
    assert without is None or not without.matched
    assert found is not None
    assert found.matched
    np.testing.assert_allclose(found.matrix @ center_of(piece), [800, 500], atol=1)


def test_bounds_hold_for_features() -> None:
    pair = Pair(*seen(90, 1, 0)[:2], ground(), everywhere(ground()))
    for scales, turns in (((0.8, 1.2), (-60, 60)), ((2.0, 3.0), (-180, 180))):
        outside = register(pair, scales, turns, features=SIFT)
        assert outside is None or not outside.matched


def test_another_place_is_not_matched() -> None:
    elsewhere = ground(3, 8)
    found = register(Pair(elsewhere, everywhere(elsewhere), ground(), everywhere(ground())), features=SIFT)
    assert found is None or not found.matched


# --- networks


@networks
@pytest.mark.parametrize("kind", ["aliked", "disk", "lightglue"])
def test_networks_find_a_shift(tmp_path: Path, kind: str) -> None:
    model = write_disk(tmp_path / "d.onnx") if kind == "disk" else write_aliked(tmp_path / "a.onnx")
    matcher = write_lightglue(tmp_path / "l.onnx") if kind == "lightglue" else None
    features = choose_features("disk" if kind == "disk" else "aliked", model, matcher)
    assert features is not None
    a, b = ground()[40:552, 60:572], ground()[:512, :512]
    best = feature_similarities(features, a, everywhere(a), b, everywhere(b))[0]
    np.testing.assert_allclose(best.matrix, [[1, 0, 60], [0, 1, 40]], atol=3)
    np.testing.assert_allclose(best.matrix[:, :2], np.eye(2), atol=0.01)


@networks
def test_an_image_that_is_no_square_is_not_stretched(tmp_path: Path) -> None:
    features = choose_features("aliked", write_aliked(tmp_path / "a.onnx"))
    assert features is not None
    a = ground()[100:400]
    best = feature_similarities(features, a, everywhere(a), ground(), everywhere(ground()))[0]
    np.testing.assert_allclose(best.matrix, [[1, 0, 0], [0, 1, 100]], atol=3)


@networks
def test_what_a_file_holds_tells_features_apart(tmp_path: Path) -> None:
    first, same, other = (write_aliked(tmp_path / name) for name in ("a.onnx", "b.onnx", "c.onnx"))
    other.write_bytes(write_aliked(tmp_path / "d.onnx", 320).read_bytes())
    hashes = [f.model.sha256 for p in (first, same) if (f := choose_features("aliked", p)) and f.model]
    assert hashes[0] == hashes[1]
    assert Features("aliked") != choose_features("aliked", first) != choose_features("aliked", same)


@networks
@pytest.mark.parametrize(
    ("kind", "model", "lightglue", "message"),
    [
        ("aliked", "text", None, "'.*text.onnx' is no network of the kind it is given for"),
        ("disk", "text", None, "'.*text.onnx' is no network"),
        ("aliked", "disk", None, "'.*disk.onnx' is no network"),
        ("disk", "aliked", None, "'.*aliked.onnx' is no network"),
        ("aliked", "aliked", "text", "'.*text.onnx' is no network"),
        ("aliked", "aliked", "disk", "'.*disk.onnx' is no network"),
    ],
)
def test_files_that_are_something_else(
    tmp_path: Path, kind: str, model: str, lightglue: str | None, message: str
) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    write_aliked(tmp_path / "aliked.onnx")
    write_disk(tmp_path / "disk.onnx")
    with pytest.raises(ModelError, match=message):
        choose_features(kind, tmp_path / f"{model}.onnx", lightglue and tmp_path / f"{lightglue}.onnx")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("orb",), "features 'orb' are unknown: expected sift, aliked, disk"),
        (("sift", "a.onnx"), "features sift take no model file"),
        (("aliked",), "need a network: name its ONNX file with --feature-model"),
        (("disk", "a.onnx", "l.onnx"), "LightGlue goes with features aliked, found disk"),
        (("sift", None, "l.onnx"), "LightGlue goes with features aliked, found sift"),
        (("aliked", "missing.onnx"), "there is no ONNX file 'missing.onnx'"),
        ((None, "a.onnx"), "no features: say --features"),
        ((None, None, "l.onnx"), "no features: say --features"),
    ],
)
def test_choices_that_make_no_sense(words: tuple[str | None, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        choose_features(*words)


def test_an_older_opencv_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "ALIKED", raising=False)
    with pytest.raises(ModelError, match=r"has no ALIKED: install opencv-python-headless 5"):
        choose_features("aliked", write_aliked(tmp_path / "a.onnx"))


def test_no_features_are_none() -> None:
    assert choose_features(None) is None
    assert choose_features("sift") == SIFT
