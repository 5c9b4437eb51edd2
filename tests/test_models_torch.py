"""CLIP and DINOv2 out of folders of tiny random weights; skipped where extra ``torch`` is not installed."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rsloc_db.errors import ModelError
from rsloc_db.models import embedder
from rsloc_db.models.network import STATISTICS

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("torch")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers")


def write_clip(library: Any, folder: Path) -> Any:
    text = {**TINY, "vocab_size": 50, "projection_dim": 12, "bos_token_id": 0, "eos_token_id": 1}
    vision = {**TINY, "image_size": 32, "patch_size": 8, "projection_dim": 12}
    model = library.CLIPModel(library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).eval()
    model.save_pretrained(folder)
    return model


def write_dinov2(library: Any, folder: Path, image_size: int = 28) -> Any:
    model = library.Dinov2Model(library.Dinov2Config(**TINY, image_size=image_size, patch_size=14)).eval()
    model.save_pretrained(folder)
    return model


def tensor(windows: np.ndarray, statistics: str) -> Any:
    import torch

    mean, deviation = STATISTICS[statistics]
    pixels = (windows / 255 - mean) / deviation
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))


def test_clip_gives_its_image_embedding(library: Any, tmp_path: Path) -> None:
    import torch

    network = write_clip(library, tmp_path / "tiny")
    model = embedder(f"clip:{tmp_path / 'tiny'}")
    assert (model.name, model.dimensions, model.input_px) == ("clip:tiny", 12, 32)
    windows = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    with torch.inference_mode():
        tokens = network.vision_model(pixel_values=tensor(windows, "clip")).pooler_output
        expected = network.visual_projection(tokens).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(windows), expected, atol=1e-5)
    assert model.embed(windows[:0]).shape == (0, 12)


def test_dinov2_gives_its_class_token(library: Any, tmp_path: Path) -> None:
    import torch

    network = write_dinov2(library, tmp_path / "tiny")
    model = embedder(f"dinov2:{tmp_path / 'tiny'}")
    assert (model.name, model.dimensions, model.input_px) == ("dinov2:tiny", 16, 28)
    windows = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    with torch.inference_mode():
        expected = network(tensor(windows, "imagenet")).last_hidden_state[:, 0].numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(windows), expected, atol=1e-5)


def test_dinov2_is_used_at_224_px(library: Any, tmp_path: Path) -> None:
    write_dinov2(library, tmp_path / "large", image_size=518)
    assert embedder(f"dinov2:{tmp_path / 'large'}").input_px == 224


def test_hash_is_the_files(library: Any, tmp_path: Path) -> None:
    write_dinov2(library, tmp_path / "one")
    write_dinov2(library, tmp_path / "two")
    models = [embedder(f"dinov2:{tmp_path / name}") for name in ("one", "two")]
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert [m.weights_hash for m in models] == [hashlib.sha256(content).hexdigest() for content in files]
    assert models[0].weights_hash != models[1].weights_hash


def test_another_kind_of_model_is_refused(library: Any, tmp_path: Path) -> None:
    write_dinov2(library, tmp_path / "tiny")
    with pytest.raises(ModelError, match="of type 'dinov2': expected clip or clip_vision_model"):
        embedder(f"clip:{tmp_path / 'tiny'}")


def test_missing_weights_are_not_filled_with_chance(library: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    write_dinov2(library, tmp_path / "tiny")
    file = tmp_path / "tiny" / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if name != "layernorm.weight"}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights, layernorm\.weight"):
        embedder(f"dinov2:{tmp_path / 'tiny'}")


def test_a_damaged_folder_is_one_line(library: Any, tmp_path: Path) -> None:
    write_dinov2(library, tmp_path / "tiny")
    (tmp_path / "tiny" / "model.safetensors").write_bytes(b"no weights")
    (tmp_path / "empty").mkdir()
    for name in ("tiny", "empty"):
        with pytest.raises(ModelError, match=rf"cannot be read from .*{name}") as caught:
            embedder(f"dinov2:{tmp_path / name}")
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("library")
def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere' is no folder, and cannot be had from the hub"):
        embedder(f"clip:{tmp_path / 'nowhere'}")


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("clip:some/model", "dinov2:some/model"):
        with pytest.raises(ModelError, match=rf"'{name}' needs torch, .*pip install 'rsloc-db\[torch\]'"):
            embedder(name)
