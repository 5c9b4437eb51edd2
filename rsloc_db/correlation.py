"""Compare two images by where their edges run: oriented-gradient maps and their normalised correlation.

Colour and brightness change with season and sensor, the direction of edges hardly does. The maps follow the channel
features of oriented gradients (CFOG; Ye et al. 2019, "Fast and robust matching for multimodal remote sensing image
registration"); the correlation is normalised over the part that both images cover (Padfield 2012, "Masked object
registration in the Fourier domain"). Arrays only: no coordinates, no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from rsloc_db.types import Floats, Image, Mask

Maps = NDArray[np.float32]
"""Oriented-gradient maps: (channels, rows, columns) float32, one value a cell, zero where not valid."""

ORIENTATIONS = 6
FLAT = 0.1
"""Share of the image's median strength below which a cell and its surroundings are flat, and stay weak."""
NOISE = 4.0
"""Strength of a cell whose pixels all differ from their neighbours by one grey level: what is weaker, such as open
water, is flat in itself and not beside its surroundings alone."""
MIN_COVER = 0.5
"""A cell counts when at least this share of its pixels is valid."""


@dataclass(frozen=True, slots=True)
class GradientMaps:
    """Gradient maps of an image and how much of each cell is valid.

    Attributes:
        maps: (C, H, W) float32, means removed, zero in cells that are not valid; of a stack of images (N, C, H, W).
        cover: (H, W) float32, 1 in valid cells, else 0; of a stack (N, H, W).
    """

    maps: Maps
    cover: NDArray[np.float32]


def gradient_maps(
    image: Image, valid: Mask, cell_px: int, orientations: int = ORIENTATIONS, surroundings_cells: float | None = None
) -> GradientMaps:
    """Turn an image into maps of oriented gradients, one value a cell.

    Args:
        image: (H, W, 3) uint8 RGB, or (H, W) grey.
        valid: (H, W) bool, the pixels that are imagery.
        cell_px: side of a cell in pixels; a rest at the right and bottom edge is dropped.
        orientations: number of channels, evenly spaced over 180 degrees.
        surroundings_cells: standard deviation of the surroundings that a cell is compared with; None for all the image.

    Returns:
        Maps of H // cell_px rows and W // cell_px columns.
    """
    height, width = image.shape[0] // cell_px, image.shape[1] // cell_px
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    gx, gy = (np.asarray(cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx), np.float32) for dx in (1, 0))
    size = (width * cell_px, height * cell_px)
    cover = np.ones((height, width), np.float32)
    whole = bool(valid.all())
    if not whole:
        inner = cv2.erode(valid.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1).astype(np.float32)
        gx *= inner
        gy *= inner
        cover = _to_cells(inner, size, cell_px)
    stack = np.empty((orientations, height, width), np.float32)
    response = np.empty_like(gx)
    for k, angle in enumerate(np.arange(orientations) * np.pi / orientations):
        cv2.addWeighted(gx, float(np.cos(angle)), gy, float(np.sin(angle)), 0, response)
        np.sqrt(np.abs(response, out=response), out=response)
        stack[k] = _to_cells(response, size, cell_px)
    if not whole:
        stack /= np.maximum(cover, np.float32(1e-3))
    return _normalised(stack, cover >= MIN_COVER, surroundings_cells)


def _to_cells(values: NDArray[np.float32], size: tuple[int, int], cell_px: int) -> NDArray[np.float32]:
    """Average over cells, smoothed by half a cell; what is finer than a quarter of a cell is averaged before."""
    # of 4 px a half: smoothing every pixel would take most of the time, and hardly changes what comes of it
    part = 2 if cell_px == 4 else max(cell_px // 4, 1)
    parts = (size[0] // part, size[1] // part)
    smooth = cv2.resize(values[: size[1], : size[0]], parts, interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(smooth, (0, 0), cell_px / part / 2)
    cells = cv2.resize(smooth, (size[0] // cell_px, size[1] // cell_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cells, np.float32)


def _normalised(stack: Maps, valid: Mask, surroundings_cells: float | None) -> GradientMaps:
    """Divide each cell by its own strength plus the usual one, so that flat cells stay weak, and remove the mean.

    What is usual is the image's median and mean, or the mean of a cell's surroundings: then snow, sea or cloud in one
    part don't decide what counts in another, and maps of images that overlap come out alike where they do. ``stack`` is
    changed in place: these arrays are large, and memory that is new costs more than what is done with it.
    """
    cover = valid.astype(np.float32)
    if not valid.any():
        return GradientMaps(np.zeros_like(stack), cover)
    whole = bool(valid.all())
    strength = np.sqrt(np.einsum("chw,chw->hw", stack, stack))
    middle = float(median(strength.ravel() if whole else strength[valid]))
    if surroundings_cells is None:
        stack /= strength + np.float32(max(middle, NOISE))
        stack -= (stack.reshape(len(stack), -1) @ (cover.ravel() / cover.sum()))[:, None, None]
    else:
        weight = np.maximum(_around(cover, surroundings_cells), np.float32(1e-3))
        usual = _around(strength * cover, surroundings_cells) / weight
        stack /= strength + usual + np.float32(max(FLAT * middle, NOISE))
        for channel in stack:
            channel -= _around(channel * cover, surroundings_cells) / weight
    if not whole:
        stack *= cover
    return GradientMaps(stack, cover)


def median(values: NDArray[np.float32]) -> np.float32:
    """Return what ``np.median`` returns of finite values, (N,), several times as fast."""
    half = values.size // 2
    # NumPy parts by one value quickly, and slowly by the two that median takes the mean of
    parted = np.partition(values, half)
    if values.size % 2:
        return np.float32(parted[half])
    return np.float32((parted[:half].max() + parted[half]) / 2)


def _around(values: NDArray[np.float32], sigma_cells: float) -> NDArray[np.float32]:
    """Average the surroundings of each cell; what lies outside counts as zero."""
    blurred = cv2.GaussianBlur(values, (0, 0), sigma_cells, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, np.float32)


def pooled(maps: GradientMaps, factor: int) -> GradientMaps:
    """Average maps over squares of cells; a rest at the right and bottom edge is dropped.

    Args:
        maps: (C, H, W) maps.
        factor: cells a side that become one.

    Returns:
        (C, H // factor, W // factor) maps; a cell is valid where half of it is.
    """
    if factor == 1:
        return maps
    height, width = (n // factor for n in maps.cover.shape)
    share = averaged(maps.cover, factor)
    cover = (share >= MIN_COVER).astype(np.float32)
    mean = np.empty((len(maps.maps), height, width), np.float32)
    for channel, out in zip(maps.maps, mean, strict=True):
        out[:] = averaged(channel, factor)
    mean *= cover / np.maximum(share, np.float32(1e-3))
    return GradientMaps(mean, cover)


def harmonics(maps: GradientMaps) -> GradientMaps:
    """Return three maps instead of one for each orientation: the first Fourier coefficients over orientation.

    They are the mean of all directions and, in two maps, which direction prevails and how much. They hold most of what
    the orientations do for half the work. The basis is orthonormal, so correlations come near to those of all maps.

    Args:
        maps: (C, H, W) maps of orientations that are evenly spaced over 180 degrees.

    Returns:
        (3, H, W) maps, valid in the same cells.
    """
    angles = np.arange(len(maps.maps)) * (2 * np.pi / len(maps.maps))
    basis = np.stack([np.full_like(angles, np.sqrt(0.5)), np.cos(angles), np.sin(angles)])
    basis *= np.sqrt(2 / len(angles))
    return GradientMaps(np.einsum("kc,chw->khw", basis.astype(np.float32), maps.maps), maps.cover)


def averaged(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return the means of squares of cells, (H // factor, W // factor); a rest at the right and bottom is dropped."""
    height, width = (n // factor for n in values.shape)
    if not height or not width:
        return np.zeros((height, width), np.float32)
    whole = values[: height * factor, : width * factor]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def correlate(
    template: GradientMaps | Spectra, search: GradientMaps | Spectra, min_overlap: float = 0.3
) -> NDArray[np.float32]:
    """Correlate a template with every shift inside a larger map.

    Args:
        template: (C, h, w) maps.
        search: (C, H, W) maps, H >= h and W >= w. What is used more than once is better given as spectra.
        min_overlap: share of the template's valid cells that must lie on valid cells of ``search``.

    Returns:
        (H - h + 1, W - w + 1) float32 scores in [-1, 1]; 0 where the overlap is too small.
    """
    own, there = (maps.valid if isinstance(maps, Spectra) else maps.cover for maps in (template, search))
    cells = own.sum()
    if not cells:
        # as of a query that is smaller than what is averaged into one cell
        return np.zeros([a - b + 1 for a, b in zip(there.shape, own.shape, strict=True)], np.float32)
    dot, norm, overlap = masked_products(template, search)
    dot *= (overlap >= max(min_overlap * cells, 1)) & (norm > 1e-9)
    scores: NDArray[np.float32] = np.maximum(norm, np.float32(1e-9))
    np.sqrt(scores, out=scores)
    return np.divide(dot, scores, out=scores)


class Spectra:
    """Fourier transforms of maps that are used several times; of cover and energy they are made when asked for.

    Args:
        source: (..., C, H, W) maps, which are not kept.
        shape: rows and columns to pad them to: a template's are those of the maps it is laid over.

    Attributes:
        shape: rows and columns they are padded to.
        maps: (..., C, rows, columns // 2 + 1) transforms of the maps.
        valid: (..., H, W) uint8, cover of the maps.
        is_full: whether it is one image, all of whose cells are valid.
        energies: (..., H, W) sums of squares over the channels.
    """

    def __init__(self, source: GradientMaps, shape: tuple[int, int] | None = None) -> None:
        rows, columns = source.cover.shape[-2:]
        self.shape = shape or (fft.next_fast_len(rows, real=True), fft.next_fast_len(columns, real=True))
        self.valid = source.cover.astype(np.uint8)
        self.is_full = self.valid.ndim == 2 and bool(self.valid.all())
        self._cover: NDArray[np.complex64] | None = None
        self._energy: NDArray[np.complex64] | None = None
        self.maps = self._transform(source.maps)
        self.energies = np.asarray(np.einsum("...chw,...chw->...hw", source.maps, source.maps), np.float32)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the maps."""
        rows, columns = self.valid.shape[-2:]
        return rows, columns

    @property
    def nbytes(self) -> int:
        """Bytes in memory, once the transform of the cover has been asked for."""
        energy = 0 if self._energy is None else self._energy.nbytes
        channels = self.maps.shape[-3]
        return int(self.maps.nbytes * (channels + 1) // channels + self.energies.nbytes + self.valid.nbytes + energy)

    # no cached properties: before Python 3.12 all instances share their lock, and threads would wait for one another
    @property
    def cover(self) -> NDArray[np.complex64]:
        """Transform of the cover."""
        if self._cover is None:
            self._cover = self._transform(self.valid.astype(np.float32))
        return self._cover

    @property
    def energy(self) -> NDArray[np.complex64]:
        """Transform of the energies."""
        if self._energy is None:
            self._energy = self._transform(self.energies)
        return self._energy

    def _transform(self, array: Maps) -> NDArray[np.complex64]:
        # rows of padding need no transform
        return np.asarray(fft.fft(fft.rfft(array, self.shape[1]), self.shape[0], axis=-2), np.complex64)


def masked_products(
    template: GradientMaps | Spectra, search: GradientMaps | Spectra
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return what a normalised correlation is made of, for every shift of a template inside a larger map.

    Where the cells of an image are all valid, sums over boxes or constants do for Fourier transforms.

    Args:
        template: (..., C, h, w) maps with (..., h, w) cover: one image, or a stack of blocks.
        search: (..., C, H, W) maps with (..., H, W) cover, H >= h and W >= w.

    Returns:
        Sum of products, product of the two energies where both are valid, and number of cells where both are; each
        (..., H - h + 1, W - w + 1) float32.
    """
    s = search if isinstance(search, Spectra) else Spectra(search)
    t = template if isinstance(template, Spectra) else Spectra(template, s.shape)
    rows, columns = (a - b + 1 for a, b in zip(s.size, t.size, strict=True))
    dot = _product(_over_channels(t.maps, s.maps), s.shape)
    own = np.broadcast_to(t.energies.sum(), s.shape) if s.is_full else _product(np.conj(t.energy) * s.cover, s.shape)
    if t.is_full:
        there, overlap = (_box_sums(values, t.size) for values in (s.energies, s.valid))
    else:
        there, overlap = (_product(np.conj(t.cover) * of, s.shape) for of in (s.energy, s.cover))
    dot, own, there, overlap = (found[..., :rows, :columns] for found in (dot, own, there, overlap))
    return dot, own * there, overlap


def cyclic_products(
    template: GradientMaps, search: GradientMaps, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return what ``masked_products`` does for shifts that are cyclic: beyond the end they begin again.

    Args:
        template: (..., C, h, w) maps with (..., h, w) cover.
        search: (..., C, H, W) maps with (..., H, W) cover; maps and cover of both are padded with zeros.
        shape: rows and columns after which shifts begin again, no less than those of either.

    Returns:
        As ``masked_products``, each (..., *shape) float32; the last rows and columns are shifts up and to the left.
    """
    t, s = Spectra(template, shape), Spectra(search, shape)
    own, there, overlap = (
        _product(np.conj(a) * b, shape) for a, b in ((t.energy, s.cover), (t.cover, s.energy), (t.cover, s.cover))
    )
    return _product(_over_channels(t.maps, s.maps), shape), own * there, overlap


def _over_channels(t: NDArray[np.complex64], s: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Return the sum over the channels of the products with a conjugate, without an array of them all."""
    total = np.conj(t[..., 0, :, :]) * s[..., 0, :, :]
    for channel in range(1, t.shape[-3]):
        total += np.conj(t[..., channel, :, :]) * s[..., channel, :, :]
    return total


def _product(spectrum: NDArray[np.complex64], shape: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(fft.irfft2(spectrum, shape), np.float32)


def _box_sums(values: Maps | NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the sum over the box of rows and columns that begins at each cell; what lies outside counts as zero."""
    box, at, zero = size[::-1], (0, 0), cv2.BORDER_CONSTANT
    return np.asarray(cv2.boxFilter(values, cv2.CV_32F, box, None, at, normalize=False, borderType=zero), np.float32)


def peak(scores: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the (row, column) of the highest score, to a fraction of a cell by a parabola, and the score."""
    rows, columns, heights = peaks(scores[None])
    return float(rows[0]), float(columns[0]), float(heights[0])


def peaks(scores: NDArray[np.float32]) -> tuple[Floats, Floats, NDArray[np.float32]]:
    """Return rows, columns and heights of the peaks of (N, H, W) scores, as ``peak`` does for one."""
    height, width = scores.shape[1:]
    n = np.arange(len(scores))
    r, c = np.unravel_index(scores.reshape(len(scores), -1).argmax(axis=1), (height, width))
    top = scores[n, r, c]
    up, down, left, right = (
        np.maximum(r - 1, 0),
        np.minimum(r + 1, height - 1),
        np.maximum(c - 1, 0),
        np.minimum(c + 1, width - 1),
    )
    row = r + np.where((up < r) & (r < down), _vertices(scores[n, up, c], top, scores[n, down, c]), 0.0)
    column = c + np.where((left < c) & (c < right), _vertices(scores[n, r, left], top, scores[n, r, right]), 0.0)
    return row, column, top


def _vertices(left: NDArray[np.float32], mid: NDArray[np.float32], right: NDArray[np.float32]) -> Floats:
    """Return where parabolas through three neighbours have their tops, -0.5 to 0.5 from the middle."""
    bend = (left - 2 * mid + right).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bend < 0, np.clip((left - right) / (2 * bend), -0.5, 0.5), 0.0)
