"""Block matches, the fitted transform, its covariance and the evidence, against simulations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsloc_db.correlation import gradient_maps
from rsloc_db.geometry import CHI2_95
from rsloc_db.matching import Matches, Transform, agreeing, block_matches, evidence, fit_affine, fit_projective
from rsloc_db.synthetic import land
from rsloc_db.types import Floats

TRUE = np.array([[7.0, -4.0], [0.008, 0.003], [-0.004, 0.010]])
"""Shift (dx, dy) as a linear function of (1, x, y): a turn, a stretch and an offset as real pairs have."""


def made(rng: np.random.Generator, count: int, outliers: float = 0.0, sigma_px: float = 0.6) -> Matches:
    """Draw matches of a query of 1,200 x 900 px: some scatter about the truth, the others lie anywhere."""
    x, y = rng.uniform(-600, 600, count), rng.uniform(-450, 450, count)
    shift = np.column_stack([np.ones(count), x, y]) @ TRUE + rng.normal(0, sigma_px, (count, 2))
    wrong = np.arange(count) < outliers * count
    shift[wrong] = rng.uniform(-30, 30, (int(wrong.sum()), 2))
    return Matches(x, y, *shift.T, score=np.ones(count), tried=count)


def fitted(matches: Matches) -> Transform:
    return fit_affine(matches, agreeing(matches))


def shift_at(fit: Transform, x: float, y: float) -> Floats:
    return np.array(fit.shift(np.array(x), np.array(y)))


@pytest.mark.parametrize("seed", range(8))
def test_fit_recovers_a_known_affine_among_outliers(seed: int) -> None:
    matches = made(np.random.default_rng(seed), 60, outliers=0.4)
    fit = fitted(matches)
    for x, y in [(0, 0), (-600, -450), (600, 450), (600, -450)]:
        assert shift_at(fit, x, y) == pytest.approx(np.array([1, x, y]) @ TRUE, abs=1.0)
    assert fit.inlier[24:].mean() > 0.9
    assert fit.inlier[:24].mean() < 0.15
    expected = np.hypot(*(np.array([matches.dx, matches.dy]) - fit.shift(matches.x, matches.y)))
    np.testing.assert_allclose(fit.residual_px, expected)


def test_exact_matches_give_the_exact_affine() -> None:
    matches = made(np.random.default_rng(0), 40, sigma_px=0.0)
    fit = fitted(matches)
    assert fit.inlier.all()
    # drawn a little towards no deformation
    np.testing.assert_allclose(fit.coefficients, TRUE, atol=2e-3)


def test_few_matches_fit_a_shift_alone() -> None:
    rng = np.random.default_rng(1)
    matches = Matches(*rng.uniform(-300, 300, (2, 5)), *rng.normal([[3], [5]], 0.4, (2, 5)), np.ones(5), 5)
    fit = fitted(matches)
    np.testing.assert_allclose(fit.coefficients, [[3, 5], [0, 0], [0, 0]], atol=0.6)
    np.testing.assert_allclose(fit.coefficients[1:], 0, atol=1e-6)


@pytest.mark.parametrize(("count", "outliers"), [(12, 0.0), (30, 0.2), (80, 0.4)])
def test_covariance_is_right(count: int, outliers: float) -> None:
    """The 95 % ellipse of the fit alone holds the true shift of the centre in about 95 % of trials."""
    rng = np.random.default_rng(count)
    inside = []
    for _ in range(300):
        fit = fitted(made(rng, count, outliers))
        off = shift_at(fit, 0, 0) - TRUE[0]
        inside.append(off @ np.linalg.solve(fit.covariance, off) <= CHI2_95)
    assert 0.90 <= np.mean(inside) <= 0.99


LEANING = np.array([4e-5, -3e-5])
"""Perspective of an image that was taken obliquely: at 600 px from the centre points are off by up to 18 px."""


def oblique(rng: np.random.Generator, count: int, outliers: float = 0.0) -> Matches:
    """Draw matches as ``made`` does, of an oblique image."""
    flat = made(rng, count, outliers)
    depth = 1 + LEANING[0] * flat.x + LEANING[1] * flat.y
    dx, dy = ((v + d) / depth - v for v, d in ((flat.x, flat.dx), (flat.y, flat.dy)))
    return replace(flat, dx=dx, dy=dy)


@pytest.mark.parametrize("seed", range(5))
def test_perspective_is_found_where_it_is(seed: int) -> None:
    matches = oblique(np.random.default_rng(seed), 120, outliers=0.3)
    affine = fitted(matches)
    fit = fit_projective(matches, affine)
    np.testing.assert_allclose(fit.perspective, LEANING, atol=5e-6)
    assert fit.inlier[36:].mean() > 0.95 > affine.inlier[36:].mean()
    for x, y in [(0, 0), (-600, -450), (600, 450)]:
        there = np.array([x, y]) + np.array([1, x, y]) @ TRUE
        expected = there / (1 + LEANING @ (x, y)) - (x, y)
        assert shift_at(fit, x, y) == pytest.approx(expected, abs=1.0)


def test_perspective_is_not_invented() -> None:
    rng = np.random.default_rng(4)
    for _ in range(60):
        matches = made(rng, 60, outliers=0.3)
        affine = fitted(matches)
        assert fit_projective(matches, affine) is affine


def test_the_covariance_under_perspective_is_right() -> None:
    rng = np.random.default_rng(7)
    inside = []
    for _ in range(150):
        matches = oblique(rng, 100, outliers=0.2)
        fit = fit_projective(matches, fitted(matches))
        off = shift_at(fit, 0, 0) - TRUE[0]
        inside.append(off @ np.linalg.solve(fit.covariance, off) <= CHI2_95)
    assert 0.88 <= np.mean(inside) <= 0.99


def test_agreeing_keeps_the_larger_of_two_groups() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-300, 300, (2, 30))
    right = np.arange(30) < 18
    dx, dy = np.where(right, 3.0, -20.0), np.where(right, 5.0, 14.0)
    np.testing.assert_array_equal(agreeing(Matches(x, y, dx, dy, np.ones(30), 30)), right)


@given(st.integers(1, 200), st.floats(0.01, 0.3), st.floats(1, 1e4), st.data())
def test_evidence_grows_with_inliers_and_is_bounded(
    matches: int, chance: float, trials: float, data: st.DataObject
) -> None:
    inliers = data.draw(st.integers(1, matches))
    found = evidence(matches, inliers, chance, trials)
    assert -np.log10(trials) - 1e-9 <= found <= 300
    assert evidence(matches, inliers - 1, chance, trials) <= found + 1e-9
    assert evidence(matches + 1, inliers, chance, trials) <= found + 1e-9
    assert evidence(matches, inliers, chance, 10 * trials) == pytest.approx(found - 1)


def test_evidence_is_the_binomial_tail() -> None:
    rng = np.random.default_rng(0)
    share = (rng.binomial(20, 0.1, 400_000) >= 6).mean()
    assert evidence(20, 6, 0.1, 1) == pytest.approx(-np.log10(share), abs=0.05)
    assert evidence(20, 0, 0.1, 100) == -2


@pytest.mark.parametrize("season", [0, 2])
def test_blocks_find_their_shift(season: int) -> None:
    """The query is cut 12 px right of and 8 px above the middle of the gallery's part."""
    gallery, query = land(512, 4), land(512, 4, season)[64 - 8 : 448 - 8, 64 + 12 : 448 + 12]
    template = gradient_maps(query, np.ones((384, 384), bool), 4)
    search = gradient_maps(gallery, np.ones((512, 512), bool), 4)
    found = block_matches(template, search, 4, 16, 8)
    assert found.tried == 36
    assert len(found) >= 30
    assert {(float(x) - 32) % 64 for x in found.x} == {0.0}
    right = np.hypot(found.dx - 12, found.dy + 8) < 2
    assert right.mean() > (0.95 if season == 0 else 0.7)
    assert np.median(found.dx[right]) == pytest.approx(12, abs=0.5)
    assert np.median(found.dy[right]) == pytest.approx(-8, abs=0.5)


def test_blocks_are_looked_for_where_they_are_expected() -> None:
    """A shift beyond the radius is found with a hint, and not without."""
    gallery, query = land(512, 4), land(512, 4)[64:448, 64 + 44 : 448 + 44]
    template = gradient_maps(query, np.ones((384, 384), bool), 4)
    search = gradient_maps(gallery, np.ones((512, 512), bool), 4)
    hinted = block_matches(template, search, 4, 16, 4, lambda x, y: (np.full_like(x, 40), np.zeros_like(y)))
    assert (np.hypot(hinted.dx - 44, hinted.dy) < 2).mean() > 0.9
    blind = block_matches(template, search, 4, 16, 4)
    assert not (np.hypot(blind.dx - 44, blind.dy) < 2).any()


def test_blocks_without_imagery_are_not_tried() -> None:
    image, valid = land(512, 4), np.ones((512, 512), bool)
    valid[:, 256:] = False
    template = gradient_maps(image[64:448, 64:448], np.ones((384, 384), bool), 4)
    found = block_matches(template, gradient_maps(image, valid, 4), 4, 16, 4)
    assert 0 < found.tried <= 18
    assert (found.x < 192 + 16).all()


def test_a_flat_block_is_no_match() -> None:
    flat = np.full((512, 512, 3), 90, np.uint8)
    template = gradient_maps(flat[64:448, 64:448], np.ones((384, 384), bool), 4)
    found = block_matches(template, gradient_maps(land(512, 4), np.ones((512, 512), bool), 4), 4, 16, 4)
    assert (len(found), found.tried) == (0, 36)
