"""The embedder registry, its checker, the default model, its fit, and the synthetic land they are tried on."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest

from rsloc_db.correlation import median
from rsloc_db.errors import ModelError
from rsloc_db.models import REGISTRY, embedder
from rsloc_db.models.gradients import WEIGHTS, Gradients
from rsloc_db.synthetic import land

ROOT = Path(__file__).resolve().parents[1]
PX = 96
PLACES = 24


def shrink(image, px=PX):
    return cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA)


def tone(window):
    """Another camera on a hazy day: less contrast, another curve, a tint."""
    curved = 255 * (window / 255.0) ** 1.4
    return np.clip(curved * 0.4 * [1.0, 0.95, 0.85] + 110, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return embedder()


@pytest.fixture(scope="module")
def pictures():
    """Two seasons of each of some places, 480 px wide."""
    return [(land(480, seed, 0), land(480, seed, 1)) for seed in range(2000, 2000 + PLACES)]


@pytest.fixture(scope="module")
def gallery(model, pictures):
    return model.embed(np.stack([shrink(first[40:440, 40:440]) for first, _ in pictures]))


def margin(model, gallery, probes):
    """Return the similarities of true pairs and those of all others."""
    score = model.embed(np.stack(probes)) @ gallery.T
    same = np.eye(len(gallery), dtype=bool)
    return score[same], score[~same]


def test_default_model_declares_what_it_returns(model):
    windows = np.random.default_rng(0).integers(0, 256, (5, PX, PX, 3), np.uint8)
    rows = model.embed(windows)
    assert (model.name, model.dimensions, model.input_px) == ("gradients", 256, PX)
    assert rows.shape == (5, 256)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_grey_windows_are_embedded_as_those_in_colour(model, pictures):
    windows = np.stack([shrink(first) for first, _ in pictures])
    grey = np.stack([cv2.cvtColor(window, cv2.COLOR_RGB2GRAY) for window in windows])
    np.testing.assert_array_equal(model.embed(grey), model.embed(windows))


def test_a_model_that_does_not_say_so_is_not_given_grey_windows():
    plugin = embedder(f"{__name__}:Plugin")
    assert not plugin.grey
    with pytest.raises(ModelError, match=r"takes windows \(N, 4, 4, 3\) uint8"):
        plugin.embed(np.zeros((2, 4, 4), np.uint8))


def test_no_windows_give_no_rows(model):
    assert model.embed(np.zeros((0, PX, PX, 3), np.uint8)).shape == (0, 256)


def test_a_window_has_one_embedding_in_any_batch_and_any_process(model, pictures):
    windows = np.stack([shrink(first) for first, _ in pictures[:4]])
    together = model.embed(windows)
    np.testing.assert_array_equal(together, embedder().embed(windows))
    np.testing.assert_allclose(together[2:3], model.embed(windows[2:3]), atol=1e-5)


@pytest.mark.parametrize("value", [0, 127, 255])
def test_flat_windows_have_finite_unit_embeddings(model, value):
    rows = model.embed(np.full((1, PX, PX, 3), value, np.uint8))
    assert np.isfinite(rows).all()
    assert np.linalg.norm(rows) == pytest.approx(1, abs=1e-5)


def test_one_lit_pixel_has_a_finite_unit_embedding(model):
    window = np.zeros((1, PX, PX, 3), np.uint8)
    window[0, 48, 48] = 255
    assert np.linalg.norm(model.embed(window)) == pytest.approx(1, abs=1e-5)


def test_contrast_hardly_matters(model, pictures):
    windows = np.stack([shrink(first) for first, _ in pictures])
    faint = (windows * 0.25 + 90).astype(np.uint8)
    same = (model.embed(windows) * model.embed(faint)).sum(1)
    assert same.min() > 0.8


@pytest.mark.parametrize("shift", [0, 17, 33])
def test_recoloured_and_shifted_places_are_more_alike_than_others(model, pictures, gallery, shift):
    """33 px of 400 are a twelfth of the window, the most that patches cut at two phases an axis are off."""
    probes = [tone(shrink(second[40 + shift : 440 + shift, 40 + shift : 440 + shift])) for _, second in pictures]
    same, other = margin(model, gallery, probes)
    assert np.median(same) > np.quantile(other, 0.99)
    assert (same > np.quantile(other, 0.95)).mean() > 0.9


def test_mirrored_places_are_other_places(model, pictures, gallery):
    probes = [shrink(first[40:440, 40:440][:, ::-1]) for first, _ in pictures]
    same, _ = margin(model, gallery, probes)
    assert same.mean() < 0.5


def test_weights_come_with_the_package_and_tell_their_origin():
    content = resources.files("rsloc_db.models").joinpath(WEIGHTS)
    with resources.as_file(content) as path, np.load(path) as table:
        origin = json.loads(str(table["provenance"]))
    assert sum(origin["pairs"].values()) >= 1500
    assert set(origin["pairs"]) <= {"bmng", "nanjing", "s2_california", "s2_austria", "synthetic"}
    assert "seed" in origin


def test_weights_hash_follows_the_weights(tmp_path):
    content = resources.files("rsloc_db.models").joinpath(WEIGHTS).read_bytes()
    with np.load(resources.files("rsloc_db.models").joinpath(WEIGHTS)) as table:
        values = dict(table)
    values["mean"] = values["mean"] + 1
    np.savez(tmp_path / "other.npz", **values)
    (tmp_path / "same.npz").write_bytes(content)
    assert Gradients(tmp_path / "same.npz").weights_hash == Gradients().weights_hash
    assert Gradients(tmp_path / "other.npz").weights_hash != Gradients().weights_hash


@pytest.mark.parametrize("length", [0, 9, 1000])
def test_broken_weights_are_named(tmp_path, length):
    path = tmp_path / "broken.npz"
    path.write_bytes(resources.files("rsloc_db.models").joinpath(WEIGHTS).read_bytes()[:length])
    with pytest.raises(ModelError, match=r"broken\.npz"):
        Gradients(path)
    with pytest.raises(ModelError, match="missing"):
        Gradients(tmp_path / "missing.npz")


def test_weights_of_another_layout_are_refused(tmp_path):
    with np.load(resources.files("rsloc_db.models").joinpath(WEIGHTS)) as table:
        values = dict(table)
    values["projection"] = values["projection"][:-1]
    np.savez(tmp_path / "short.npz", **values)
    with pytest.raises(ModelError, match="expected 472 rows"):
        Gradients(tmp_path / "short.npz")


class Plugin:
    """A tiny model of a user's own: the mean of each quarter of the window."""

    name, dimensions, input_px, weights_hash = "plugin", 12, 4, "0" * 64

    def embed(self, windows):
        quarters = windows.reshape(-1, 2, 2, 2, 2, 3).mean((2, 4)).reshape(-1, 12).astype(np.float32) + 1
        return quarters / np.linalg.norm(quarters, axis=1, keepdims=True)


class Lists(Plugin):
    def embed(self, windows):
        return super().embed(windows).tolist()


class Short(Plugin):
    def embed(self, windows):
        return super().embed(windows)[:, :11]


class Double(Plugin):
    def embed(self, windows):
        return super().embed(windows).astype(np.float64)


class NotFinite(Plugin):
    def embed(self, windows):
        return super().embed(windows) * np.float32("nan")


class Long(Plugin):
    def embed(self, windows):
        return super().embed(windows) * 2


class Nameless:
    """It lacks all that an embedder declares."""


def test_a_model_can_be_plugged_in_by_its_path():
    model = embedder(f"{__name__}:Plugin")
    rows = model.embed(np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8))
    assert (model.name, rows.shape) == ("plugin", (3, 12))


@pytest.mark.parametrize(
    ("faulty", "found"),
    [
        ("Lists", "list"),
        ("Short", r"\(2, 11\)"),
        ("Double", "float64"),
        ("NotFinite", "24 values that are not finite"),
        ("Long", "length 2"),
    ],
)
def test_faulty_models_are_named_with_what_they_returned(faulty, found):
    with pytest.raises(ModelError, match=f"'plugin' .*{found}"):
        embedder(f"{__name__}:{faulty}").embed(np.zeros((2, 4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    "windows", [np.zeros((2, 4, 5, 3), np.uint8), np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3))]
)
def test_windows_of_another_shape_or_type_are_refused(windows):
    with pytest.raises(ModelError, match=r"takes windows \(N, 4, 4, 3\) uint8"):
        embedder(f"{__name__}:Plugin").embed(windows)


def test_an_unknown_model_is_answered_with_the_known_ones():
    with pytest.raises(ModelError, match="unknown model 'clip'") as caught:
        embedder("clip")
    assert all(name in str(caught.value) for name in REGISTRY)


@pytest.mark.parametrize(
    "path", ["no.such.module:Model", f"{__name__}:NoSuchClass", f"{__name__}:Nameless", "json:loads"]
)
def test_a_path_that_leads_to_no_model_is_named(path):
    with pytest.raises(ModelError, match=path.replace(".", r"\.")):
        embedder(path)


def test_land_is_drawn_by_its_seed_and_season():
    np.testing.assert_array_equal(land(160, 7, 2), land(160, 7, 2))
    assert (land(160, 7, 2) != land(160, 8, 2)).mean() > 0.5
    assert (land(160, 7, 2) != land(160, 7, 3)).mean() > 0.5
    assert (land(160, 7).shape, land(160, 7).dtype) == ((160, 160, 3), np.uint8)


def test_the_fit_runs_on_synthetic_land_and_gives_weights_that_load(tmp_path):
    command = [sys.executable, ROOT / "benchmarks/fit_gradients.py", "--out", tmp_path / "tiny.npz"]
    command += ["--pairs", "40", "--places", "1", "--dimensions", "16"]
    printed = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True, timeout=240).stdout
    assert "472 measurements -> 16 numbers" in printed
    model = Gradients(tmp_path / "tiny.npz")
    rows = model.embed(np.stack([shrink(land(200, seed)) for seed in (1, 2)]))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 577, 2304, 9216])
def test_the_median_of_gradients_is_the_median(size: int) -> None:
    values = np.random.default_rng(size).random(size).astype(np.float32) * 100
    assert median(values) == np.median(values)
    assert median(np.round(values, -1)) == np.median(np.round(values, -1))
