"""Rasters for tests: seeded texture, written in any format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray


def texture(bands: int = 3, height: int = 80, width: int = 96, dtype: str = "uint8") -> NDArray[Any]:
    """Smooth random bands, (B, H, W), that use the whole range of the type."""
    noise = np.random.default_rng(7).random((bands, height, width))
    smooth = np.stack([cv2.GaussianBlur(band, (0, 0), 3) for band in noise])
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * (255 if dtype == "uint8" else 4000)).astype(dtype)


def write(path: Path, bands: NDArray[Any] | None = None, driver: str = "GTiff", **options: Any) -> Path:
    """Write bands (by default three of texture) as a raster."""
    bands = texture() if bands is None else bands
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = bands.shape
    with rasterio.open(
        path, "w", driver=driver, count=count, height=height, width=width, dtype=bands.dtype, **options
    ) as dataset:
        dataset.write(bands)
    return path
