"""What the vision transformers of the ``transformers`` library share: CLIP and DINOv2 are read alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rsloc_db.errors import ModelError
from rsloc_db.models.network import batches, file_hash, first_line, normalized, required, unit

EXTRA = "torch"
WEIGHTS = ("model.safetensors", "model-*.safetensors", "pytorch_model.bin", "pytorch_model-*.bin")
"""Names of files of weights, in the order in which ``transformers`` looks for them."""
FETCHED = ["config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]
"""What is downloaded of a model on the hub: pickled weights are not."""


class Transformer(ABC):
    """An ``Embedder`` out of a folder that ``save_pretrained`` wrote, or a model on the Hugging Face hub.

    It runs on a GPU where PyTorch sees one. Nothing is downloaded of a folder, nor of a model that is in the cache.

    Args:
        source: path of the folder, or name on the hub.

    Attributes:
        kind: what names of such models begin with.
        loader: class of ``transformers`` that reads it.
        types: the ``model_type`` of configurations that fit.
        statistics: what its pixels are made like, by name in ``STATISTICS``.

    Raises:
        ModelError: PyTorch or transformers is missing, or the weights are, or are of another kind of model.
    """

    kind: ClassVar[str]
    loader: ClassVar[str]
    types: ClassVar[tuple[str, ...]]
    statistics: ClassVar[str]

    def __init__(self, source: str) -> None:
        model = f"{self.kind}:{source}"
        self._torch = required("torch", model, EXTRA)
        folder = _folder(source, model)
        self.name = f"{self.kind}:{Path(source).expanduser().absolute().name}"
        network = self._load(folder, model)
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._network = network.float().eval().to(self._device)
        self.weights_hash = file_hash(_weights(folder, model))
        self.input_px = self.side(network.config)
        self.dimensions = self._run(np.zeros((1, self.input_px, self.input_px, 3), np.uint8)).shape[1]

    @staticmethod
    @abstractmethod
    def side(config: Any) -> int:
        """Return the side of its images in pixels, by its configuration."""

    @staticmethod
    @abstractmethod
    def rows(output: Any) -> Any:
        """Return the (N, D) tensor that is the embedding, out of what the network returned."""

    def embed(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed (N, input_px, input_px, 3) uint8 RGB windows into (N, dimensions) float32 unit rows."""
        rows = [self._run(batch) for batch in batches(windows)]
        return unit(np.concatenate(rows)) if rows else np.zeros((0, self.dimensions), np.float32)

    def _run(self, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = np.ascontiguousarray(normalized(windows, self.statistics).transpose(0, 3, 1, 2))
        with self._torch.inference_mode():
            output = self._network(pixel_values=self._torch.from_numpy(pixels).to(self._device))
        return np.asarray(self.rows(output).cpu().numpy(), np.float32)

    def _load(self, folder: Path, model: str) -> Any:
        library = required("transformers", model, EXTRA)
        options = {"local_files_only": True, "output_loading_info": True}
        with _quiet(library.utils.logging), _readable(folder, model):
            found = library.AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if found not in self.types:
            raise ModelError(f"{folder} holds a model of type {found!r}: expected {' or '.join(self.types)}")
        with _quiet(library.utils.logging), _readable(folder, model):
            network, report = getattr(library, self.loader).from_pretrained(folder, **options)
        # the library fills in what is missing with random numbers
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ModelError(f"model {model!r} lacks {len(missing)} of its weights, {missing[0]} among them")
        return network


def _folder(source: str, model: str) -> Path:
    """Return the folder of a model: the one named, the one in the hub's cache, or a fresh download."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    hub = required("huggingface_hub", model, EXTRA)
    try:
        try:
            folder = Path(hub.snapshot_download(source, allow_patterns=FETCHED, local_files_only=True))
            _weights(folder, model)
        except (FileNotFoundError, ModelError):
            folder = Path(hub.snapshot_download(source, allow_patterns=FETCHED))
    except Exception as error:  # the hub's errors have no base but this
        raise ModelError(f"{source!r} is no folder, and cannot be had from the hub: {first_line(error)}") from error
    return folder


def _weights(folder: Path, model: str) -> list[Path]:
    """Return the files of a model's weights, by name.

    Raises:
        ModelError: there are none.
    """
    for pattern in WEIGHTS:
        found = sorted(folder.glob(pattern))
        if found:
            return found
    raise ModelError(f"model {model!r} has no weights in {folder}: expected {' or '.join(WEIGHTS)}")


@contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """Keep ``transformers`` from reporting on stderr, where our progress is; what matters is raised."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def _readable(folder: Path, model: str) -> Iterator[None]:
    """Turn what reading a folder raises into a ``ModelError``."""
    try:
        yield
    except Exception as error:  # of damaged files each format has errors of its own
        raise ModelError(f"model {model!r} cannot be read from {folder}: {first_line(error)}") from error
