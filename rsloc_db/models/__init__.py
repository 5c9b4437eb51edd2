"""Embedders: from windows of pixels to unit vectors. They know no coordinates and no database.

A model is a class that fulfils ``Embedder``. ``REGISTRY`` names those that come with the package; ``KINDS`` those that
are made of weights which the user names, as in "onnx:FILE"; any other is given as "package.module:Class".
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from rsloc_db.errors import ModelError

DEFAULT = "gradients"
REGISTRY = {DEFAULT: "rsloc_db.models.gradients:Gradients"}
"""Name -> "module:Class"."""
KINDS = {
    "onnx": "rsloc_db.models.onnx_file:OnnxFile",
    "clip": "rsloc_db.models.clip:Clip",
    "dinov2": "rsloc_db.models.dinov2:Dinov2",
}
"""What comes before the colon -> "module:Class", which takes what comes after it."""
MODELS = ", ".join([*REGISTRY, "onnx:FILE", "clip:FOLDER_OR_NAME", "dinov2:FOLDER_OR_NAME", "package.module:Class"])
"""What can be named, for people."""
MAX_DIMENSIONS = 4000
"""The longest vector of halves that pgvector indexes."""


class Embedder(Protocol):
    """Turns windows into vectors whose cosine says how alike two places look.

    Attributes:
        name: as stored with every embedding.
        dimensions: length of a vector.
        input_px: side of a window in pixels.
        weights_hash: SHA-256 (hexadecimal) of the weights; vectors of different weights are never compared.
        grey: whether it looks at grey alone, and takes grey windows too; a class without it is taken to need colours.
    """

    name: str
    dimensions: int
    input_px: int
    weights_hash: str
    grey: bool

    def embed(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed windows into (N, dimensions) float32 unit rows.

        Args:
            windows: (N, input_px, input_px, 3) uint8 RGB, or (N, input_px, input_px) where ``grey`` says so.
        """


class Checked:
    """An embedder whose input and output are checked at each call, so a faulty model fails by name."""

    def __init__(self, model: Embedder) -> None:
        self.model = model
        self.name, self.weights_hash = str(model.name), str(model.weights_hash)
        self.dimensions, self.input_px = int(model.dimensions), int(model.input_px)
        self.grey = bool(getattr(model, "grey", False))
        if not 0 < self.dimensions <= MAX_DIMENSIONS:
            raise ModelError(
                f"model {self.name!r} gives {self.dimensions:,} numbers: expected 1 to {MAX_DIMENSIONS:,}, which is "
                "what the database indexes"
            )

    def embed(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed windows as ``Embedder.embed`` does.

        Raises:
            ModelError: the windows or the rows have another shape or type than declared, or a row is not a finite
                unit vector.
        """
        side = self.input_px
        shapes = [(side, side, 3), (side, side)] if self.grey else [(side, side, 3)]
        if windows.shape[1:] not in shapes or windows.dtype != np.uint8:
            want = " or ".join(str(shape).replace("(", "(N, ") for shape in shapes)
            raise ModelError(f"model {self.name!r} takes windows {want} uint8, found {windows.shape} {windows.dtype}")
        rows = self.model.embed(windows)
        self._check(rows, (len(windows), self.dimensions))
        return rows

    def _check(self, rows: object, shape: tuple[int, int]) -> None:
        if not isinstance(rows, np.ndarray) or rows.shape != shape or rows.dtype != np.float32:
            found = f"{rows.shape} {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
            raise ModelError(f"model {self.name!r} must return {shape} float32, returned {found}")
        if not np.isfinite(rows).all():
            raise ModelError(f"model {self.name!r} returned {(~np.isfinite(rows)).sum()} values that are not finite")
        norms = np.linalg.norm(rows, axis=1)
        if len(norms) and np.abs(norms - 1).max() > 1e-3:
            worst = norms[np.abs(norms - 1).argmax()]
            raise ModelError(f"model {self.name!r} must return unit vectors, returned one of length {worst:.4g}")


def embedder(name: str = DEFAULT) -> Embedder:
    """Load a model, wrapped by ``Checked``.

    Args:
        name: its name in ``REGISTRY``; a kind in ``KINDS``, a colon, and a file, folder or name on the hub; or
            "package.module:Class".

    Raises:
        ModelError: no such model, its weights or libraries are missing, or the class lacks what ``Embedder`` asks for.
    """
    kind, _, source = name.partition(":")
    path, given = (KINDS[kind], [source]) if kind in KINDS and source else (REGISTRY.get(name, name), [])
    module, colon, attribute = path.partition(":")
    if not colon or not attribute:
        raise ModelError(f"unknown model {name!r}: expected one of {MODELS}")
    try:
        return Checked(cast(Embedder, getattr(import_module(module), attribute)(*given)))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"model {name!r} cannot be loaded: {error}") from error
