"""Decoding, stretching, pasting and cutting of pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsloc_db import imagery
from rsloc_db.errors import ImageError
from rsloc_db.types import Image


def smooth(height: int = 256, width: int = 256, seed: int = 1) -> Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image: NDArray[Any], suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image, options)[
        1
    ].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_image_is_decoded_without_its_colours(suffix: str) -> None:
    data = encode(smooth(), suffix)
    grey, valid = imagery.decode_valid(data, grey=True)
    assert (grey.shape, grey.dtype, valid.all()) == ((256, 256), np.uint8, True)
    assert np.abs(grey.astype(int) - imagery.to_grey(imagery.decode(data))).max() <= 2
    assert np.array_equal(imagery.decode_tile(data, grey=True)[0], grey)
    assert imagery.decode_tile(encode(smooth(64, 64), suffix), grey=True)[0].shape == (256, 256)
    with pytest.raises(ImageError, match="truncated"):
        imagery.decode_valid(data[: len(data) // 2], grey=True)


def test_png_comes_back_exactly_and_jpeg_nearly() -> None:
    image = smooth()
    assert np.array_equal(imagery.decode(encode(image, ".png")), image)
    assert np.abs(imagery.decode(encode(image, ".jpg")).astype(int) - image).mean() < 3
    assert np.array_equal(imagery.decode(encode(image, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)), image)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.999])
def test_truncated_images_are_refused(suffix: str, share: float) -> None:
    data = encode(smooth(), suffix)
    with pytest.raises(ImageError, match="truncated"):
        imagery.decode(data[: int(len(data) * share)])


def test_a_truncated_jpeg_with_an_end_is_refused() -> None:
    data = encode(smooth(), ".jpg")
    with pytest.raises(ImageError):
        imagery.decode(data[: len(data) // 2] + b"\xff\xd9")


def test_a_jpeg_filled_up_with_zeros_is_refused() -> None:
    data = encode(smooth(), ".jpg")
    with pytest.raises(ImageError, match="Premature end"):
        imagery.decode(data[: len(data) // 2] + bytes(len(data)))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_trailing_bytes_do_no_harm(suffix: str) -> None:
    data = encode(smooth(), suffix)
    assert np.array_equal(imagery.decode(data + b"more"), imagery.decode(data))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF89a....", b"<html>404</html>"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        imagery.decode(data)


@settings(max_examples=60)
@given(
    st.binary(max_size=200), st.sampled_from([b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF\x00\x00\x00\x00WEBP"])
)
def test_noise_behind_a_true_beginning_is_refused(noise: bytes, magic: bytes) -> None:
    with pytest.raises(ImageError):
        imagery.decode(magic + noise)


def test_grey_palette_and_16_bit_become_rgb() -> None:
    grey = smooth()[..., 0]
    assert np.array_equal(imagery.decode(encode(grey, ".png")), np.dstack([grey] * 3))
    assert imagery.decode(encode(grey, ".jpg")).shape == (256, 256, 3)
    deep = imagery.decode(encode((grey.astype(np.uint16) * 4), ".png"))
    assert deep.dtype == np.uint8
    assert deep.min() == 0
    assert deep.max() == 255
    assert np.corrcoef(deep[..., 0].ravel(), grey.ravel())[0, 1] > 0.98


def test_a_palette_png_is_read_in_colour() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)),
        chunk(b"PLTE", bytes([10, 20, 30, 200, 100, 50])),
        chunk(b"IDAT", zlib.compress(bytes([0, 1, 0]))),
        chunk(b"IEND", b""),
    ]
    found = imagery.decode(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert found.tolist() == [[[200, 100, 50], [10, 20, 30]]]


def test_transparent_pixels_are_black_and_invalid() -> None:
    image = smooth()
    alpha = np.full((256, 256, 1), 255, np.uint8)
    alpha[:100], alpha[100:120] = 0, 127
    data = encode(np.concatenate([image[..., ::-1], alpha], 2), ".png")
    found, valid = imagery.decode_valid(data)
    assert np.array_equal(valid, alpha[..., 0] > 127)
    assert not found[~valid].any()
    assert np.array_equal(found[valid], image[valid])
    assert np.array_equal(imagery.decode(data), found)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    idat = b"IDAT" + zlib.compress(bytes(1000))
    png += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    with pytest.raises(ImageError, match="60000 x 60000"):
        imagery.decode(png)


def test_8_bit_bands_are_kept() -> None:
    bands = np.moveaxis(smooth(), 2, 0)
    image, valid = imagery.to_rgb8(bands)
    assert np.array_equal(image, smooth())
    assert valid.all()
    image, _ = imagery.to_rgb8(bands[:1])
    assert np.array_equal(image, np.dstack([bands[0]] * 3))
    image, _ = imagery.to_rgb8(np.concatenate([bands, bands[:2]]))
    assert np.array_equal(image, smooth())


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_other_bands_are_stretched_from_2_to_98_percent(dtype: str) -> None:
    ramp = np.tile(np.arange(1000), (10, 1))[None].astype(dtype)
    image, valid = imagery.to_rgb8(ramp)
    low, high = np.percentile(ramp, (2, 98))
    expected = np.clip((ramp[0] - low) / (high - low), 0, 1) * 255
    assert np.abs(image[..., 1] - expected).max() <= 1
    assert valid.all()


def test_nodata_does_not_take_part_in_the_stretch() -> None:
    bands = np.tile(np.linspace(100, 200, 500), (3, 20, 1)).astype(np.float32)
    clean, _ = imagery.to_rgb8(bands[:, :, 100:])
    holed = bands.copy()
    holed[:, :, :50], holed[0, :, 50:100] = -9999, np.nan
    image, valid = imagery.to_rgb8(holed, -9999)
    assert np.array_equal(valid, np.arange(500)[None] >= np.full((20, 1), 100))
    assert not image[:, :100].any()
    assert np.abs(image[:, 100:].astype(int) - clean).max() <= 1


def test_a_pixel_is_invalid_where_all_bands_are_nodata() -> None:
    bands = np.zeros((3, 1, 3), np.uint8)
    bands[0, 0, 1], bands[:, 0, 2] = 9, 7
    assert imagery.to_rgb8(bands, 0)[1].tolist() == [[False, True, True]]
    assert imagery.to_rgb8(bands, [9, None, None])[1].tolist() == [[True, True, True]]
    assert imagery.to_rgb8(bands, [7, 7, 7])[1].tolist() == [[True, True, False]]


def test_flat_and_empty_bands() -> None:
    assert imagery.to_rgb8(np.full((1, 5, 5), 900, np.uint16))[0].shape == (5, 5, 3)
    image, valid = imagery.to_rgb8(np.full((1, 5, 5), np.nan, np.float32))
    assert not image.any()
    assert not valid.any()
    for bad in (np.zeros((0, 5, 5)), np.zeros((3, 0, 5)), np.zeros((5, 5)), np.zeros((1, 5, 5), complex)):
        with pytest.raises(ImageError):
            imagery.to_rgb8(bad)


def test_mosaic_leaves_gaps_black_and_runs_past_the_antimeridian() -> None:
    tiles = {(7, 3): smooth(seed=1), (8, 3): smooth(seed=2), (8, 4): smooth(128, 128, seed=3), (20, 3): smooth()}
    image, valid = imagery.mosaic(tiles, range(7, 10), range(3, 5))
    assert image.shape == (512, 768, 3)
    assert np.array_equal(image[:256, :256], tiles[7, 3])
    assert np.array_equal(image[:256, 256:512], tiles[8, 3])
    assert np.abs(image[256:, 256:512].astype(int) - cv2.resize(tiles[8, 4], (256, 256))).mean() < 8
    assert valid.sum() == 3 * 256 * 256
    assert not image[~valid].any()


def by_integral(image: Image, x: float, y: float, width: float, height: float, size: int) -> NDArray[Any]:
    """Averages over exact boxes, from the integral of the image: slow, plain, independent."""
    total = np.zeros((image.shape[0] + 1, image.shape[1] + 1, 3))
    total[1:, 1:] = image.astype(float).cumsum(0).cumsum(1)
    at_x = np.linspace(x - width / 2, x + width / 2, size + 1)
    at_y = np.linspace(y - height / 2, y + height / 2, size + 1)
    down = np.apply_along_axis(lambda column: np.interp(at_y, range(len(column)), column), 0, total)
    found = np.apply_along_axis(lambda row: np.interp(at_x, range(len(row)), row), 1, down)
    boxes = np.diff(np.diff(found, axis=0), axis=1)
    return boxes / ((at_x[1] - at_x[0]) * (at_y[1] - at_y[0]))


def test_window_of_the_whole_image_is_the_image() -> None:
    image = smooth(96, 96)
    assert np.array_equal(imagery.window(image, None, 48, 48, 96, 96, 96), image)


@settings(max_examples=30)
@given(
    st.floats(140, 170),
    st.floats(140, 170),
    st.floats(100, 270),
    st.floats(100, 270),
    st.sampled_from([32, 64, 96]),
)
def test_window_averages_by_area(x: float, y: float, width: float, height: float, size: int) -> None:
    image = smooth(320, 320)
    found = imagery.window(image, None, x, y, width, height, size)
    assert found.shape == (size, size, 3)
    expected = by_integral(image, x, y, width, height, size)
    # a box that begins within a pixel is a little smoother
    assert np.abs(found - expected).max() < 8
    assert np.abs(found - expected).mean() < 1


@pytest.mark.parametrize("width", [64, 50, 111.5, 130.3])
@pytest.mark.parametrize("shift", [0, 0.5, 0.25, 7.1])
@pytest.mark.parametrize("size", [32, 96])
def test_window_keeps_positions(width: float, shift: float, size: int) -> None:
    """The centre of mass of a spot stays in its place, wherever the window is cut and however it is scaled."""
    x, y = np.meshgrid(np.arange(256) + 0.5, np.arange(256) + 0.5)
    spot = 250 * np.exp(-((x - 120.3) ** 2 + (y - 131.8) ** 2) / (2 * 6**2))
    image = np.dstack([np.rint(spot).astype(np.uint8)] * 3)
    found = imagery.window(image, None, 121 + shift, 130 - shift, width, width + 20, size)[..., 0].astype(float)
    steps = (np.arange(size) + 0.5) / size - 0.5
    found_x = (found.sum(0) * steps).sum() / found.sum() * width + 121 + shift
    found_y = (found.sum(1) * steps).sum() / found.sum() * (width + 20) + 130 - shift
    assert found_x == pytest.approx(120.3, abs=0.1)
    assert found_y == pytest.approx(131.8, abs=0.1)


def test_window_fills_what_is_missing_with_the_mean_colour() -> None:
    image = np.full((100, 100, 3), (10, 100, 200), np.uint8)
    valid = np.ones((100, 100), bool)
    image[40:], valid[40:] = 0, False
    found = imagery.window(image, valid, 50, 50, 150, 150, 30)
    assert (found == (10, 100, 200)).all()
    assert not imagery.window(image, valid, 50, 80, 30, 30, 30).any()
    assert not imagery.window(image, None, 500, 500, 30, 30, 30).any()
    assert not imagery.window(image, None, -500, 50, 30, 30, 30).any()


def test_window_does_not_change_its_input() -> None:
    image = smooth()
    before = image.copy()
    imagery.window(image, np.zeros((256, 256), bool), 10, 10, 60.5, 60.5, 30)[:] = 1
    imagery.window(image, None, 30, 30, 32, 32, 32)[:] = 1
    assert np.array_equal(image, before)


@pytest.mark.parametrize("how", ["cut", "changed", "missing", "added"])
@pytest.mark.parametrize(
    "options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]]
)
def test_a_quick_check_refuses_what_decoding_refuses(how: str, options: list[int]) -> None:
    rng = np.random.default_rng(0)
    whole = encode(smooth(90, 130), ".jpg", *options)
    imagery.check(whole)
    refused = 0
    for _ in range(60):
        data, at = bytearray(whole), int(rng.integers(2, len(whole)))
        if how == "cut":
            del data[at:]
        elif how == "changed":
            data[at] ^= int(rng.integers(1, 256))
        elif how == "missing":
            del data[at : at + 9]
        else:
            data[at:at] = rng.bytes(9)
        found = [_reason(read, bytes(data)) for read in (imagery.check, imagery.decode)]
        assert found[0] == found[1]
        refused += found[0] is not None
    assert refused > 10


def _reason(read: Callable[[bytes], object], data: bytes) -> str | None:
    try:
        read(data)
    except ImageError as error:
        return str(error)
    return None
