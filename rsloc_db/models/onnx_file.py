"""Any network in an ONNX file that takes images: "onnx:FILE", or "onnx:FILE,key=value,..." with options.

    normalize   what pixels become: imagenet (default), clip, half (-1 to 1), unit (0 to 1) or none (0 to 255)
    size        side of the input in pixels, where the file leaves it open (default 224)
    output      name of the output to take (default: the first)
    pool        of tokens, cls (default: the first) or mean; maps are averaged always

An input of uint8 gets the pixels as they are. Whether channels come first or last is read off the file.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsloc_db.errors import ModelError
from rsloc_db.models.network import (
    BATCH,
    STATISTICS,
    batches,
    file_hash,
    first_line,
    normalized,
    pooled,
    required,
    unit,
)

DEFAULT_PX = 224
TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}
"""Types of input that can be fed."""
CHOICES = {"normalize": tuple(STATISTICS), "pool": ("cls", "mean"), "size": None, "output": None}


@dataclass(frozen=True, slots=True)
class Feed:
    """How a file wants its images.

    Attributes:
        name: of the input.
        dtype: of its numbers.
        channels_last: (N, H, W, 3) instead of (N, 3, H, W).
        input_px: side of an image.
        batch: how many images it takes at once, always.
    """

    name: str
    dtype: type[np.generic]
    channels_last: bool
    input_px: int
    batch: int | None


class OnnxFile:
    """An ``Embedder`` out of an ONNX file.

    Args:
        text: the file and its options, as after "onnx:".

    Raises:
        ModelError: there is no such file, it is no network that takes images, or an option is wrong.
    """

    def __init__(self, text: str) -> None:
        file, *given = text.split(",")
        path, model = Path(file).expanduser(), f"onnx:{text}"
        options = _options(given)
        if not path.is_file():
            raise ModelError(f"there is no ONNX file {file!r}")
        self.name = f"onnx:{path.stem}"
        self._statistics, self._pool = options.get("normalize", "imagenet"), options.get("pool", "cls")
        self._session = _open(path, model)
        self._feed = _feed(self._session.get_inputs(), options, path)
        self._output = _output(self._session.get_outputs(), options, path)
        self.input_px = self._feed.input_px
        self.weights_hash = file_hash(_files(path, model), ",".join(sorted(given)))
        # what a file declares of its output is often left open: one image tells
        self.dimensions = self._run(np.zeros((1, self.input_px, self.input_px, 3), np.uint8)).shape[1]

    def embed(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, input_px, input_px, 3) uint8 RGB windows into (N, dimensions) float32 unit rows."""
        rows = [self._run(batch) for batch in batches(windows, self._feed.batch or BATCH)]
        return unit(np.concatenate(rows)) if rows else np.zeros((0, self.dimensions), np.float32)

    def _run(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        count, feed = len(windows), self._feed
        if feed.batch is not None:  # the last batch is filled up
            windows = np.pad(windows, [(0, feed.batch - count), (0, 0), (0, 0), (0, 0)])
        pixels = windows if feed.dtype is np.uint8 else normalized(windows, self._statistics).astype(feed.dtype)
        if not feed.channels_last:
            pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        try:
            (output,) = self._session.run([self._output], {feed.name: pixels})
        except Exception as error:  # the library's errors have no base but this
            raise ModelError(
                f"model {self.name!r} failed on {pixels.shape} {pixels.dtype}: {first_line(error)}"
            ) from error
        output = np.asarray(output, np.float32)
        return pooled(output, self._pool, channels_last=feed.channels_last)[:count]


def _options(given: Sequence[str]) -> dict[str, str]:
    """Read key=value options.

    Raises:
        ModelError: a key or a value is unknown.
    """
    options: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if key not in CHOICES or not equals:
            raise ModelError(f"ONNX option {each!r} is unknown: expected {', '.join(f'{k}=...' for k in CHOICES)}")
        allowed = CHOICES[key]
        if allowed is not None and value not in allowed:
            raise ModelError(f"ONNX option {key} must be one of {', '.join(allowed)}, found {value!r}")
        if key == "size" and not (value.isdecimal() and int(value) > 0):
            raise ModelError(f"ONNX option size must be a number of pixels, found {value!r}")
        options[key] = value
    return options


def _open(path: Path, model: str) -> Any:
    """Open a file in ONNX Runtime, on a GPU where its package has one."""
    runtime = required("onnxruntime", model, "onnx")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    if multiprocessing.parent_process() is not None:  # workers of ingest share the cores
        settings.intra_op_num_threads = 1
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [each for each in wanted if each in runtime.get_available_providers()]
    try:
        return runtime.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # the library's errors have no base but this
        raise ModelError(f"{path} cannot be read as an ONNX network: {first_line(error)}") from error


def _files(path: Path, model: str) -> list[Path]:
    """Return the file and those beside it that hold its weights (weights of 2 GB and more are never in the file)."""
    onnx = required("onnx", model, "onnx")
    graph = onnx.load(str(path), load_external_data=False).graph
    helper = onnx.external_data_helper
    outside = [helper.ExternalDataInfo(t) for t in graph.initializer if helper.uses_external_data(t)]
    return [path, *(path.parent / name for name in sorted({info.location for info in outside}))]


def _feed(inputs: Sequence[Any], options: dict[str, str], path: Path) -> Feed:
    """Say how images are to be fed.

    Raises:
        ModelError: the network takes something else.
    """
    found = ", ".join(f"{each.name} {each.shape} {each.type}" for each in inputs)
    problem = f"{path} takes {found}: expected one input of images, (N, 3, H, W) or (N, H, W, 3), of float or uint8"
    if len(inputs) != 1 or inputs[0].type not in TYPES or len(inputs[0].shape) != 4:
        raise ModelError(problem)
    batch, *axes = (size if isinstance(size, int) else None for size in inputs[0].shape)
    channels_last = axes[2] == 3 and axes[0] != 3
    sides = set(axes[:2] if channels_last else axes[1:]) - {None}
    if len(sides) > 1 or (not channels_last and axes[0] not in (3, None)):
        raise ModelError(problem)
    asked = int(options["size"]) if "size" in options else None
    side = sides.pop() if sides else asked or DEFAULT_PX
    if asked not in (side, None):
        raise ModelError(f"{path} takes images of {side} px, not of size={asked}")
    return Feed(inputs[0].name, TYPES[inputs[0].type], channels_last, int(side or DEFAULT_PX), batch)


def _output(outputs: Sequence[Any], options: dict[str, str], path: Path) -> str:
    """Return the name of the output to take.

    Raises:
        ModelError: there is none of the name that was asked for.
    """
    names = [str(each.name) for each in outputs]
    wanted = options.get("output", names[0])
    if wanted not in names:
        raise ModelError(f"{path} has no output {wanted!r}: it has {', '.join(names)}")
    return wanted
