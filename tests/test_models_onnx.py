"""Models in ONNX files: how they are fed and what is made of their output."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import networks
import numpy as np
import pytest
from networks import PX, move_weights_out, write_blocks, write_colours
from onnx import TensorProto

from rsloc_db.errors import ModelError
from rsloc_db.models import embedder
from rsloc_db.models.network import STATISTICS, pooled


def windows(count: int, size: int = PX) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)


def rows_of(text: str, count: int = 5) -> np.ndarray:
    model = embedder(text)
    return model.embed(windows(count, model.input_px))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
@pytest.mark.parametrize("statistics", STATISTICS)
def test_pixels_are_normalized_as_asked(tmp_path: Path, channels_last: bool, kind: int, statistics: str) -> None:
    shape = ("N", PX, PX, 3) if channels_last else ("N", 3, PX, PX)
    file = write_colours(tmp_path / "colours.onnx", shape=shape, kind=kind, channels_last=channels_last)
    mean, deviation = STATISTICS[statistics]
    expected = unit(((windows(5) / 255 - mean) / deviation).mean((1, 2)) + 1)
    np.testing.assert_allclose(rows_of(f"onnx:{file},normalize={statistics}"), expected, atol=2e-3)


def test_the_statistics_of_imagenet_are_the_default(tmp_path: Path) -> None:
    file = write_colours(tmp_path / "colours.onnx")
    np.testing.assert_array_equal(rows_of(f"onnx:{file}"), rows_of(f"onnx:{file},normalize=imagenet"))


def test_uint8_is_fed_as_it_is(tmp_path: Path) -> None:
    file = write_colours(tmp_path / "colours.onnx", kind=TensorProto.UINT8)
    np.testing.assert_allclose(rows_of(f"onnx:{file}"), unit(windows(5).mean((1, 2)) + 1), atol=1e-5)


def test_a_batch_of_fixed_size_is_filled_up(tmp_path: Path) -> None:
    fixed = write_colours(tmp_path / "fixed.onnx", shape=(2, 3, PX, PX))
    free = write_colours(tmp_path / "free.onnx")
    np.testing.assert_allclose(rows_of(f"onnx:{fixed}"), rows_of(f"onnx:{free}"), atol=1e-6)


def test_windows_have_one_embedding_in_any_batch(tmp_path: Path) -> None:
    model = embedder(f"onnx:{write_blocks(tmp_path / 'blocks.onnx', ['rows'])}")
    many = windows(70)
    np.testing.assert_allclose(model.embed(many)[[3, 68]], model.embed(many[[3, 68]]), atol=1e-5)
    assert model.embed(many[:0]).shape == (0, 8)


def test_size_is_the_files_or_the_users_or_the_default(tmp_path: Path) -> None:
    free = write_colours(tmp_path / "free.onnx", shape=("N", 3, "H", "W"))
    assert embedder(f"onnx:{free}").input_px == 224
    assert embedder(f"onnx:{free},size=48").input_px == 48
    fixed = write_colours(tmp_path / "fixed.onnx")
    assert (embedder(f"onnx:{fixed}").input_px, embedder(f"onnx:{fixed},size={PX}").input_px) == (PX, PX)
    with pytest.raises(ModelError, match="takes images of 32 px, not of size=48"):
        embedder(f"onnx:{fixed},size=48")


def test_maps_and_tokens_are_pooled(tmp_path: Path) -> None:
    file = write_blocks(tmp_path / "blocks.onnx", ["tokens", "map", "rows"])
    mean = rows_of(f"onnx:{file},output=rows")
    np.testing.assert_allclose(rows_of(f"onnx:{file},output=map"), mean, atol=1e-5)
    np.testing.assert_allclose(rows_of(f"onnx:{file},pool=mean"), mean, atol=1e-5)
    first = rows_of(f"onnx:{file}")
    assert np.abs(first - mean).max() > 0.05
    corner = embedder(f"onnx:{file}").embed(np.pad(windows(5)[:, :4, :4], [(0, 0), (0, PX - 4), (0, PX - 4), (0, 0)]))
    np.testing.assert_allclose(corner, first, atol=1e-5)  # the first token is of the first block alone


def test_axes_of_a_map_are_the_files_own() -> None:
    output = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    assert pooled(output, "mean").shape == (2, 3)
    assert pooled(output, "mean", channels_last=True).shape == (2, 5)
    with pytest.raises(ModelError, match="found axes"):
        pooled(output[None], "mean")


def test_a_row_of_zeros_becomes_a_unit_vector(tmp_path: Path) -> None:
    model = embedder(f"onnx:{write_blocks(tmp_path / 'blocks.onnx', ['rows'])},normalize=unit")
    row = model.embed(np.zeros((1, PX, PX, 3), np.uint8))
    np.testing.assert_allclose(row, np.full((1, 8), 8**-0.5), atol=1e-6)


def test_name_is_short_and_hash_is_the_files(tmp_path: Path) -> None:
    file = write_blocks(tmp_path / "blocks.onnx", ["tokens"])
    model = embedder(f"onnx:{file}")
    assert (model.name, model.dimensions) == ("onnx:blocks", 8)
    assert model.weights_hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert embedder(f"onnx:{file},pool=mean").weights_hash != model.weights_hash
    other = write_blocks(tmp_path / "other.onnx", ["tokens"], seed=1)
    assert embedder(f"onnx:{other}").weights_hash != model.weights_hash


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    hashes = set()
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        inside = write_blocks(tmp_path / "blocks.onnx", ["rows"], seed=seed)
        outside = move_weights_out(inside, folder)
        np.testing.assert_allclose(rows_of(f"onnx:{inside}"), rows_of(f"onnx:{outside}"), atol=1e-6)
        hashes.add(embedder(f"onnx:{outside}").weights_hash)
    assert (tmp_path / "1" / "blocks.onnx").read_bytes() == (tmp_path / "2" / "blocks.onnx").read_bytes()
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("colour=red", "'colour=red' is unknown: expected normalize=..., pool=..., size=..., output=..."),
        ("pool", "'pool' is unknown"),
        ("pool=max", "pool must be one of cls, mean, found 'max'"),
        ("size=big", "size must be a number of pixels, found 'big'"),
        ("size=0", "size must be a number of pixels"),
        ("output=columns", "has no output 'columns': it has rows"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, option: str, problem: str) -> None:
    file = write_blocks(tmp_path / "blocks.onnx", ["rows"])
    with pytest.raises(ModelError) as caught:
        embedder(f"onnx:{file},{option}")
    assert problem in str(caught.value)


def test_what_is_no_network_of_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no ONNX file .*missing\.onnx"):
        embedder(f"onnx:{tmp_path / 'missing.onnx'}")
    (tmp_path / "text.onnx").write_text("this is no network")
    with pytest.raises(ModelError, match=r"text\.onnx cannot be read"):
        embedder(f"onnx:{tmp_path / 'text.onnx'}")
    with pytest.raises(ModelError, match=r"takes image .*, other .*: expected one input of images"):
        embedder(f"onnx:{networks.write_sum(tmp_path / 'sum.onnx')}")
    for shape in (("N", 1, PX, PX), ("N", 3, PX, PX + 1)):
        with pytest.raises(ModelError, match="expected one input of images"):
            embedder(f"onnx:{write_colours(tmp_path / 'odd.onnx', shape=shape)}")


def test_rows_too_long_for_the_index_are_refused(tmp_path: Path) -> None:
    file = write_blocks(tmp_path / "long.onnx", ["rows"], dimensions=4001)
    with pytest.raises(ModelError, match="'onnx:long' gives 4,001 numbers: expected 1 to 4,000"):
        embedder(f"onnx:{file}")


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    file = write_blocks(tmp_path / "blocks.onnx", ["rows"])
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModelError, match=rf"needs {library}, .*pip install 'rsloc-db\[onnx\]'"):
        embedder(f"onnx:{file}")
