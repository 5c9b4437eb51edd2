"""Gradient maps and their correlation, against their definitions."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rsloc_db.correlation import GradientMaps, Spectra, averaged, correlate, gradient_maps, harmonics, peak
from rsloc_db.synthetic import land
from rsloc_db.types import Image

CELL_PX = 4
SIDE = 256


@pytest.fixture(scope="module")
def dim() -> Image:
    """A grey picture that leaves room for twice the contrast."""
    grey = land(SIDE, 1).mean(axis=2, keepdims=True) / 4 + 20
    return grey.repeat(3, axis=2).astype(np.uint8)


def everywhere(image: Image) -> NDArray[np.bool_]:
    return np.ones(image.shape[:2], bool)


def maps_of(image: Image, valid: NDArray[np.bool_] | None = None, cell_px: int = CELL_PX) -> GradientMaps:
    return gradient_maps(image, everywhere(image) if valid is None else valid, cell_px)


def with_hole(image: Image, rows: slice, columns: slice) -> NDArray[np.bool_]:
    valid = everywhere(image)
    valid[rows, columns] = False
    return valid


@pytest.mark.parametrize("orientations", [1, 6, 9])
def test_shapes_and_means(dim: Image, orientations: int) -> None:
    found = gradient_maps(dim[:-3, :-1], everywhere(dim[:-3, :-1]), 8, orientations)
    assert found.maps.shape == (orientations, SIDE // 8 - 1, SIDE // 8 - 1)
    assert found.cover.shape == found.maps.shape[1:]
    assert found.maps.dtype == found.cover.dtype == np.float32
    np.testing.assert_allclose(found.maps.mean(axis=(1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize(
    "changed",
    [lambda image: image + 40, lambda image: 2 * image, lambda image: 255 - image],
    ids=["brighter", "contrast", "inverted"],
)
def test_maps_do_not_change_with_light(dim: Image, changed: Callable[[Image], Image]) -> None:
    np.testing.assert_allclose(maps_of(changed(dim)).maps, maps_of(dim).maps, atol=1e-5)


def test_maps_tell_directions_apart() -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 90
    smooth = cv2.GaussianBlur(stripes.repeat(8, axis=1), (0, 0), 2)
    both = maps_of(np.concatenate([smooth[:, :256], smooth[:, :256].transpose(1, 0, 2)[:128].repeat(2, 1)], axis=1))
    upright, lying = both.maps[:, 4:-4, 4:60].mean(axis=(1, 2)), both.maps[:, 4:-4, 68:-4].mean(axis=(1, 2))
    assert upright.argmax() == 0  # a gradient that runs east
    assert lying.argmax() == 3  # 90 of 180 degrees


def test_pixels_that_are_no_imagery_say_nothing(dim: Image) -> None:
    valid = with_hole(dim, slice(64, 128), slice(100, 180))
    wild = dim.copy()
    wild[~valid] = np.random.default_rng(0).integers(0, 256, (int((~valid).sum()), 3), np.uint8)
    plain, other = maps_of(dim, valid), maps_of(wild, valid)
    np.testing.assert_array_equal(plain.maps, other.maps)
    assert not plain.maps[:, plain.cover == 0].any()
    assert (plain.cover[18:30, 27:43] == 0).all()
    assert plain.cover[:14].all()


def test_nothing_valid_gives_zeros() -> None:
    found = maps_of(land(64, 0), np.zeros((64, 64), bool))
    assert not found.maps.any()
    assert not correlate(found, maps_of(land(128, 0))).any()


def direct(template: GradientMaps, search: GradientMaps, row: int, column: int) -> float:
    """The score of one shift, straight from its definition."""
    h, w = template.cover.shape
    part = np.s_[..., row : row + h, column : column + w]
    s, s_cover = search.maps[part].astype(float), search.cover[part]
    t = template.maps.astype(float)
    return float((t * s).sum() / np.sqrt((t**2 * s_cover).sum() * (s**2 * template.cover).sum()))


def test_correlation_equals_its_definition(dim: Image) -> None:
    template = maps_of(dim[40:120, 80:180], with_hole(dim[40:120, 80:180], slice(0, 30), slice(0, 40)))
    search = maps_of(land(SIDE, 1, season=2), with_hole(dim, slice(90, 130), slice(150, 256)))
    scores = correlate(template, search)
    assert scores.shape == (64 - 20 + 1, 64 - 25 + 1)
    for row, column in [(0, 0), (10, 20), (44, 39), (20, 33), (7, 0)]:
        assert scores[row, column] == pytest.approx(direct(template, search, row, column), abs=1e-4)
    assert np.abs(scores).max() <= 1 + 1e-5


@pytest.mark.parametrize("season", [0, 2])
def test_finds_a_known_place(season: int) -> None:
    query = land(SIDE, 1, season)[48:176, 100:244]
    row, column, score = peak(correlate(maps_of(query), maps_of(land(SIDE, 1))))
    assert (row, column) == (pytest.approx(12, abs=0.2), pytest.approx(25, abs=0.2))
    assert score > (0.95 if season == 0 else 0.3)


def test_finds_a_known_place_where_both_have_holes() -> None:
    query, gallery = land(SIDE, 1, 2)[48:176, 100:244], land(SIDE, 1)
    template = maps_of(query, with_hole(query, slice(0, 60), slice(40, 144)))
    search = maps_of(gallery, with_hole(gallery, slice(150, 256), slice(0, 150)))
    row, column, _ = peak(correlate(template, search))
    assert (row, column) == (pytest.approx(12, abs=0.3), pytest.approx(25, abs=0.3))


def test_harmonics_correlate_as_all_orientations_do() -> None:
    query, gallery = maps_of(land(SIDE, 1, season=2)[48:176, 100:244]), maps_of(land(SIDE, 1))
    few, scores = correlate(harmonics(query), harmonics(gallery)), correlate(query, gallery)
    assert np.corrcoef(few.ravel(), scores.ravel())[0, 1] > 0.95
    assert np.unravel_index(few.argmax(), few.shape) == np.unravel_index(scores.argmax(), scores.shape)


def test_harmonics_are_coefficients_of_an_orthonormal_basis() -> None:
    """What has none but the first is told whole, with the same products."""
    angles = np.arange(6) * np.pi / 6
    wave = np.stack([1 + 0.5 * np.cos(2 * angles) - 0.2 * np.sin(2 * angles), np.cos(2 * angles - 1)], axis=1)
    maps = GradientMaps(wave[:, None].astype(np.float32), np.ones((1, 2), np.float32))
    found = harmonics(maps).maps[:, 0]
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found.T @ found, wave.T @ wave, rtol=1e-5)


def test_nothing_to_compare_scores_nothing(dim: Image) -> None:
    search = maps_of(dim)
    height, width = search.cover.shape
    for rows, columns in ((0, 0), (0, 5), (2, 0)):
        none = GradientMaps(search.maps[:, :rows, :columns], search.cover[:rows, :columns])
        for template in (none, Spectra(none, Spectra(search).shape)):
            scores = correlate(template, search)
            assert scores.shape == (height - rows + 1, width - columns + 1)
            assert not scores.any()


def test_little_overlap_counts_nothing(dim: Image) -> None:
    search = maps_of(dim, with_hole(dim, slice(0, 256), slice(128, 256)))
    scores = correlate(maps_of(dim[:64, 192:]), search, min_overlap=0.5)
    assert scores[:, 26:].max() == scores[:, 26:].min() == 0
    assert scores[:, :20].any()


def test_fraction_of_a_cell() -> None:
    """Shifts in steps of one pixel, a quarter of a cell."""
    gallery = land(SIDE, 1)
    for px in range(5):
        query = gallery[40 + px : 200 + px, 60 - px : 220 - px]
        row, column, _ = peak(correlate(maps_of(query), maps_of(gallery)))
        assert row == pytest.approx((40 + px) / CELL_PX, abs=0.12)
        assert column == pytest.approx((60 - px) / CELL_PX, abs=0.12)


def test_peak_of_a_parabola_is_exact() -> None:
    r, c = np.mgrid[:9, :12]
    found = peak((5 - (r - 3.3) ** 2 - 2 * (c - 7.6) ** 2).astype(np.float32))
    assert found[:2] == (pytest.approx(3.3, abs=1e-5), pytest.approx(7.6, abs=1e-5))


def test_peak_on_the_rim_has_no_fraction() -> None:
    scores = np.zeros((5, 6), np.float32)
    scores[0, 5] = 1
    assert peak(scores) == (0, 5, 1)


@pytest.mark.parametrize("shape", [(8, 12), (9, 15), (3, 3), (128, 128)])
@pytest.mark.parametrize("factor", [2, 4])
def test_cells_are_averaged_over_squares(shape: tuple[int, int], factor: int) -> None:
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    height, width = (n // factor for n in shape)
    whole = values[: height * factor, : width * factor].reshape(height, factor, width, factor)
    assert averaged(values, factor) == pytest.approx(whole.mean(axis=(1, 3)), abs=1e-6)
