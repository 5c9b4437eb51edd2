"""The default embedder: a grid of oriented gradients (GIST; Oliva and Torralba 2001) and their spectrum, whitened.

Fields, roads, rivers and roofs keep their edges while the seasons change their colours, so a window is described by
how much edge of which direction lies in which of its cells, and how those edges repeat. A closed-form linear map,
fitted once by ``benchmarks/fit_gradients.py`` and kept in ``gradients_v1.npz``, then discounts what shifts, seasons
and sensors change (see docs/model_card.md).

NumPy and OpenCV only.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from rsloc_db.correlation import median
from rsloc_db.errors import ModelError
from rsloc_db.imagery import to_grey
from rsloc_db.types import Floats, Image

WEIGHTS = "gradients_v1.npz"

_Map = NDArray[np.float32]
SPECTRUM_CELLS = 12
"""Cells a side of the maps that the spectrum is taken of."""

_TINY = np.float32(1e-6)


@dataclass(frozen=True)
class Layout:
    """How a window is measured; stored with the weights, which fit this layout only.

    Attributes:
        input_px: side of the window in pixels.
        bins: directions over half a turn (an edge and its negative are the same).
        cells: cells a side at each scale; every further scale halves the image.
        waves: the highest frequency of the spectrum, in waves a window.
        doublings: a gradient is shared among the directions by |cos| to the power 2 ** doublings.
        floor: what a gradient is compared with, in medians of the window's own gradients.
    """

    input_px: int = 96
    bins: int = 8
    cells: tuple[int, ...] = (3, 3)
    waves: int = 4
    doublings: int = 3
    floor: float = 3.0

    @property
    def length(self) -> int:
        """Number of measurements of one window."""
        return self.bins * (sum(n * n for n in self.cells) + int(_half_plane(self.waves).sum()))


def describe(window: Image, layout: Layout) -> _Map:
    """Measure where edges of each direction lie in a window. Colour is not used: seasons change it.

    The cells tell where in the window; the spectrum of each direction's map tells the arrangement wherever it lies, as
    the modulus of a Fourier coefficient does not change with a shift.

    Args:
        window: (input_px, input_px, 3) uint8 RGB, or (input_px, input_px) grey.
        layout: how.

    Returns:
        (layout.length,) float32: a unit vector for the cells of each scale and one for the spectrum; zeros for a flat
        window.
    """
    grey = to_grey(window).astype(np.float32)
    parts = []
    for scale, cells in enumerate(layout.cells):
        edges = _edges(grey, layout)
        parts.append(_pooled(edges, cells))
        if scale == 0:
            parts.append(_spectrum(_pooled(edges, SPECTRUM_CELLS), layout.waves))
        grey = np.asarray(cv2.pyrDown(grey), np.float32)
    return np.concatenate([_unit(part.ravel()) for part in parts])


def _edges(grey: _Map, layout: Layout) -> _Map:
    """Return how strong an edge of each direction each pixel is: (bins, H, W), from 0 to 1."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.8)
    sobel = [cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)]
    gradient = np.asarray(sobel, np.float32).reshape(2, -1)
    length = np.sqrt(np.einsum("cn,cn->n", gradient, gradient))
    # relative to the window's own gradients: neither contrast nor bit depth may matter
    strength = length / (length + np.float32(layout.floor) * median(length) + _TINY)
    gradient /= length + _TINY
    angle = np.arange(layout.bins, dtype=np.float32) * np.float32(np.pi / layout.bins)
    share: _Map = np.stack([np.cos(angle), np.sin(angle)], 1) @ gradient
    for _ in range(layout.doublings):
        share *= share
    share *= strength
    return share.reshape(layout.bins, *grey.shape)


def _pooled(edges: _Map, cells: int) -> _Map:
    """Average (bins, H, H) maps over a grid of overlapping cells: (bins, cells, cells)."""
    pool = _pooling(edges.shape[1], cells)
    return np.asarray(pool @ edges @ pool.T, np.float32)


def _spectrum(maps: _Map, waves: int) -> _Map:
    """Return the moduli of the low frequencies of each map, the mean made weak: (bins, frequencies)."""
    signed = [*range(waves + 1), *range(-waves, 0)]
    modulus = np.abs(np.fft.rfft2(maps))[:, signed, : waves + 1]
    modulus[:, 0, 0] *= 0.3
    return np.asarray(modulus[:, _half_plane(waves)], np.float32)


@cache
def _half_plane(waves: int) -> NDArray[np.bool_]:
    """Return which of (2 waves + 1, waves + 1) frequencies to keep: a real map's others repeat them."""
    keep = np.ones((2 * waves + 1, waves + 1), bool)
    keep[waves + 1 :, 0] = False
    return keep


@cache
def _pooling(size: int, cells: int) -> _Map:
    """Return (cells, size) weights of overlapping triangular cells; each row sums to one."""
    step = size / cells
    distance = np.abs((np.arange(size) + 0.5)[None] - (np.arange(cells) + 0.5)[:, None] * step)
    weight = np.clip(1 - distance / step, 0, None)
    return np.asarray(weight / weight.sum(1, keepdims=True), np.float32)


def _unit(vector: _Map) -> _Map:
    """Scale a vector to unit length; zeros stay zeros."""
    return np.asarray(vector / np.maximum(np.linalg.norm(vector), _TINY), np.float32)


class Gradients:
    """The default ``Embedder``.

    Args:
        weights: another .npz made by ``benchmarks/fit_gradients.py``; default the one that comes with the package.

    Raises:
        ModelError: the file cannot be read or does not fit.
    """

    name = "gradients"
    grey = True

    def __init__(self, weights: Path | None = None) -> None:
        source = weights or resources.files(__package__).joinpath(WEIGHTS)
        try:
            content = source.read_bytes()
            with np.load(io.BytesIO(content)) as table:
                layout = json.loads(str(table["layout"]))
                self.mean = table["mean"].astype(np.float32)
                self.projection = table["projection"].astype(np.float32)
        except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
            raise ModelError(f"cannot read the weights of model 'gradients' from {source}: {error}") from error
        self.layout = Layout(**{**layout, "cells": tuple(layout["cells"])})
        self.weights_hash = hashlib.sha256(content).hexdigest()
        self.input_px, self.dimensions = self.layout.input_px, self.projection.shape[1]
        if self.projection.shape[0] != self.layout.length or self.mean.shape != (self.layout.length,):
            raise ModelError(f"{source}: weights are {self.projection.shape}, expected {self.layout.length} rows")

    def embed(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed windows into unit rows, see ``Embedder``."""
        if not len(windows):
            return np.zeros((0, self.dimensions), np.float32)
        measured = np.stack([describe(window, self.layout) for window in windows])
        rows = (measured - self.mean) @ self.projection
        return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY), np.float32)


def save(path: Path, layout: Layout, mean: Floats, projection: Floats, provenance: str) -> None:
    """Write fitted weights: ``mean`` (length,), ``projection`` (length, dimensions) and their origin (JSON)."""
    np.savez_compressed(
        path,
        layout=np.array(json.dumps(asdict(layout))),
        mean=mean.astype(np.float32),
        projection=projection.astype(np.float16),
        provenance=np.array(provenance),
    )
