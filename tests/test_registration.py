"""Turn, scale and shift between two images, and the refined transform, on drawn land of known geometry."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from rsloc_db.correlation import GradientMaps, cyclic_products, gradient_maps, masked_products
from rsloc_db.registration import Pair, Registration, center_of, refine, register, warp
from rsloc_db.rims import without_rim
from rsloc_db.similarity import similarities
from rsloc_db.synthetic import land
from rsloc_db.types import Floats, Image, Mask

GROUND_PX = 900
"""Side of the land that images are cut from."""
MIDDLE = (450.0, 450.0)


@cache
def ground(seed: int, season: int) -> Image:
    return land(GROUND_PX, seed, season)


def everywhere(image: Image) -> Mask:
    return np.ones(image.shape[:2], bool)


def to_ground(size_px: int, turn_deg: float, px: float, at: tuple[float, float] = MIDDLE) -> Floats:
    """(3, 3) matrix of an image's pixels to those of the land: its centre at a place, its pixels px wide, turned."""
    matrix, turn = np.eye(3), np.radians(turn_deg)
    matrix[:2, :2] = px * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix[:2, 2] = np.array(at) - matrix[:2, :2] @ np.full(2, (size_px - 1) / 2)
    return matrix


class View:
    """An image of the land, and how it lies there."""

    def __init__(
        self,
        size_px: int,
        turn_deg: float = 0.0,
        px: float = 1.0,
        at: tuple[float, float] = MIDDLE,
        *,
        seed: int = 5,
        season: int = 0,
    ) -> None:
        self.matrix, self.size_px = to_ground(size_px, turn_deg, px, at), size_px
        whole = ground(seed, season)
        self.image, self.valid = warp(whole, everywhere(whole), np.linalg.inv(self.matrix), (size_px, size_px))

    def on(self, other: View) -> Pair:
        return Pair(self.image, self.valid, other.image, other.valid)

    def to(self, other: View) -> Floats:
        return np.asarray((np.linalg.inv(other.matrix) @ self.matrix)[:2])

    def corner_error_px(self, found: Floats, other: View) -> float:
        n = self.size_px - 1
        corners = np.array([[0, 0, 1], [n, 0, 1], [0, n, 1], [n, n, 1]], float).T
        return float(np.linalg.norm((found - self.to(other)) @ corners, axis=0).max())


def registered(a: View, b: View) -> Registration:
    found = register(a.on(b))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def summer() -> View:
    return View(400)


@pytest.mark.parametrize(
    ("turn_deg", "px", "size_px"),
    [(0, 1, 400), (37, 1, 360), (-100, 0.7, 420), (180, 1.4, 260), (75, 0.45, 600), (-20, 2.2, 200)],
)
def test_another_season_is_found_at_any_turn_and_scale(summer: View, turn_deg: float, px: float, size_px: int) -> None:
    winter = View(size_px, turn_deg, px, (470.0, 440.0), season=3)
    found = registered(winter, summer)
    assert found.matched
    assert winter.corner_error_px(found.matrix, summer) < 2.5 * max(px, 1)
    assert found.scale == pytest.approx(px, rel=0.01)
    assert (found.turn_deg - turn_deg + 180) % 360 - 180 == pytest.approx(0, abs=0.5)
    assert 0 < found.inliers <= found.blocks


def test_the_other_way_round_is_the_inverse(summer: View) -> None:
    winter = View(360, 63, 0.8, season=2)
    there, back = registered(winter, summer), registered(summer, winter)
    assert there.matched
    assert back.matched
    both = np.vstack([back.matrix, [0, 0, 1]]) @ np.vstack([there.matrix, [0, 0, 1]])
    centre = center_of(winter.image)
    np.testing.assert_allclose(both @ centre, centre, atol=2)


def test_images_that_share_a_part_alone_are_matched(summer: View) -> None:
    winter = View(400, -140, 1.0, (590.0, 500.0), season=3)
    found = registered(winter, summer)
    assert found.matched
    assert winter.corner_error_px(found.matrix, summer) < 5


def test_a_small_piece_is_found_in_a_large_image_and_the_other_way_round() -> None:
    large, piece = View(800), View(220, 120, at=(640.0, 300.0), season=3)
    for a, b in ((large, piece), (piece, large)):
        found = register(a.on(b), (0.8, 1.3))
        assert found is not None
        assert found.matched
        middle = np.linalg.inv(a.matrix) @ [640, 300, 1]
        np.testing.assert_allclose(found.matrix @ middle, a.to(b) @ middle, atol=2)


def test_reversed_contrast_is_no_matter(summer: View) -> None:
    winter = View(360, 50, 1.1, season=2)
    negative = Pair(255 - winter.image, winter.valid, summer.image, summer.valid)
    found = register(negative)
    assert found is not None
    assert found.matched
    assert winter.corner_error_px(found.matrix, summer) < 3


def test_small_images_are_matched() -> None:
    a, b = View(110, 30, 1.0, season=0), View(128, 0, 1.0, season=0)
    found = registered(a, b)
    assert found.matched
    assert a.corner_error_px(found.matrix, b) < 3


@pytest.mark.parametrize("seed", [6, 7, 8, 9])
def test_other_places_are_not_matched(summer: View, seed: int) -> None:
    found = register(View(360, 40, 1.0, seed=seed, season=3).on(summer))
    assert found is None or not found.matched


def test_a_mirror_image_is_not_matched(summer: View) -> None:
    found = register(Pair(summer.image[:, ::-1].copy(), summer.valid, summer.image, summer.valid))
    assert found is None or not found.matched


@pytest.mark.parametrize("grey", [0, 128])
def test_an_image_without_structure_is_not_matched(summer: View, grey: int) -> None:
    flat = np.full((300, 300, 3), grey, np.uint8)
    found = register(Pair(flat, everywhere(flat), summer.image, summer.valid))
    assert found is None or not found.matched
    both = register(Pair(flat, everywhere(flat), flat, everywhere(flat)))
    assert both is None or not both.matched


def test_bounds_are_kept(summer: View) -> None:
    winter = View(360, 90, 1.0, season=3)
    inside = register(winter.on(summer), (0.8, 1.2), (60, 120))
    assert inside is not None
    assert inside.matched
    for scales, turns in (((0.8, 1.2), (-60, 60)), ((2.0, 3.0), (-180, 180))):
        outside = register(winter.on(summer), scales, turns)
        assert outside is None or not outside.matched


def test_the_first_supposition_is_near_the_truth(summer: View) -> None:
    winter = View(360, 37, 0.9, season=3)
    best, *others = similarities(winter.image, winter.valid, summer.image, summer.valid, (0.3, 3.0))
    assert winter.corner_error_px(best.matrix, summer) < 30
    assert all(best.score >= other.score for other in others)


def test_a_supposition_that_is_slightly_off_is_refined(summer: View) -> None:
    winter = View(360, 37, 0.9, season=3)
    supposed = winter.to(summer) @ np.diag([1.02, 0.99, 1.0]) + np.array([[0, 0, 6.0], [0, 0, -9.0]])
    assert winter.corner_error_px(supposed, summer) > 8
    found = refine(winter.on(summer), supposed)
    assert found is not None
    assert winter.corner_error_px(found.matrix, summer) < 2


def test_the_stated_error_is_of_the_size_of_the_true_one(summer: View) -> None:
    ratios = []
    for turn_deg in (10, 130, 250):
        winter = View(360, turn_deg, 0.9, season=3)
        found = register(winter.on(summer), (0.8, 1.0))
        assert found is not None
        off = (found.matrix - winter.to(summer)) @ center_of(winter.image)
        ratios.append(float(off @ np.linalg.solve(found.covariance, off)))
    assert 1e-4 < np.mean(ratios) < 6


def test_large_images_are_matched_to_a_pixel(summer: View) -> None:
    large = View(1400, 15, 0.5, season=0)
    fine = View(1300, 0, 0.5, season=0)
    found = registered(large, fine)
    assert found.matched
    assert large.corner_error_px(found.matrix, fine) < 3


def test_cyclic_shifts_are_what_they_say(summer: View) -> None:
    search = gradient_maps(summer.image[:128, :160], summer.valid[:128, :160], 8)
    template = GradientMaps(search.maps[:, 2:9, 3:12].copy(), search.cover[2:9, 3:12].copy())
    whole = cyclic_products(template, search, (30, 36))
    for part, all_of_it in zip(masked_products(template, search), whole, strict=True):
        np.testing.assert_allclose(all_of_it[: part.shape[0], : part.shape[1]], part, atol=1e-2)
    dot, _, overlap = whole
    # four up and five to the left: the template's lower right on the upper left of what is searched
    assert overlap[-4, -5] == pytest.approx(float((template.cover[4:, 5:] * search.cover[:3, :4]).sum()), abs=1e-3)
    assert dot[-4, -5] == pytest.approx(float((template.maps[:, 4:, 5:] * search.maps[:, :3, :4]).sum()), abs=1e-3)


def test_a_black_rim_is_no_imagery(summer: View) -> None:
    turned = View(900, 30, 1.0)
    assert not turned.valid.all()
    found = without_rim(turned.image, everywhere(turned.image))
    assert not found[~turned.valid].any()
    assert found.sum() > 0.97 * turned.valid.sum()
    assert without_rim(summer.image, summer.valid).all()


def test_dark_parts_inside_are_imagery(summer: View) -> None:
    image = summer.image.copy()
    image[100:200, 100:200] = 0
    assert without_rim(image, summer.valid).all()


def test_a_dark_image_keeps_its_mask() -> None:
    night = np.full((100, 100, 3), 5, np.uint8)
    assert without_rim(night, everywhere(night)).all()
