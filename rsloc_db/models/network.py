"""What all networks share: the libraries they need, pixels in as they were trained on, unit rows out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from rsloc_db.errors import ModelError

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "none": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
"""Name -> mean and deviation of red, green and blue from 0 to 1: ``half`` gives -1 to 1, ``none`` leaves 0 to 255."""

BATCH = 32
"""Windows that go through a network at once: a compromise of speed and memory."""


def required(module: str, model: str, extra: str) -> ModuleType:
    """Import a library that only some models need.

    Raises:
        ModelError: it is not installed; the message names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        needs = f"model {model!r} needs {module}, which cannot be imported ({error})"
        raise ModelError(f"{needs}: run `pip install 'rsloc-db[{extra}]'`") from error


def file_hash(paths: Iterable[Path], extra: str = "") -> str:
    """Return the SHA-256 of files one after the other, and of a text after them; without it, as ``sha256sum`` does."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    digest.update(extra.encode())
    return digest.hexdigest()


def normalized(windows: NDArray[np.uint8], statistics: str) -> NDArray[np.float32]:
    """Return (N, H, W, 3) windows as a network was trained on them, by the name of its ``STATISTICS``; float32."""
    mean, deviation = (np.array(each, np.float32) for each in STATISTICS[statistics])
    return np.asarray((windows / np.float32(255) - mean) / deviation, np.float32)


def pooled(output: NDArray[np.float32], pool: str, *, channels_last: bool = False) -> NDArray[np.float32]:
    """Make one row of each window's output.

    Args:
        output: (N, D) rows; (N, T, D) tokens, the class token first; or a map, (N, D, H, W).
        pool: of tokens, ``cls`` takes the first and ``mean`` averages all; maps are averaged always.
        channels_last: maps are (N, H, W, D).

    Raises:
        ModelError: it has another number of axes.
    """
    if output.ndim == 2:
        return output
    if output.ndim == 3:
        return output[:, 0] if pool == "cls" else np.asarray(output.mean(1), np.float32)
    if output.ndim == 4:
        return np.asarray(output.mean((1, 2) if channels_last else (2, 3)), np.float32)
    raise ModelError(f"expected rows (N, D), tokens (N, T, D) or a map (N, D, H, W), found axes {output.shape}")


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale (N, D) rows to unit length; a row of zeros, as of a black window, becomes one that is alike to all."""
    rows = np.where(np.any(rows, axis=1, keepdims=True), rows, np.float32(1))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def batches(windows: NDArray[np.uint8], size: int = BATCH) -> Iterator[NDArray[np.uint8]]:
    """Yield windows in batches of at most ``size``."""
    for start in range(0, len(windows), size):
        yield windows[start : start + size]


def first_line(error: Exception) -> str:
    """Return the first line of what a library says went wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
