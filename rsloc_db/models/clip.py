"""CLIP's image encoder (Radford et al. 2021): "clip:FOLDER" or "clip:HUB_NAME".

ViT-L/14 (``openai/clip-vit-large-patch14``: 224 px, 768 numbers) is what the authors of RSLoc-82K chose.
"""

from __future__ import annotations

from typing import Any

from rsloc_db.models.transformer import Transformer


class Clip(Transformer):
    """CLIP's image embedding, projected into the space it shares with texts."""

    kind, loader, types = "clip", "CLIPVisionModelWithProjection", ("clip", "clip_vision_model")
    statistics = "clip"

    @staticmethod
    def side(config: Any) -> int:
        """Return the size it was trained at."""
        return int(config.image_size)

    @staticmethod
    def rows(output: Any) -> Any:
        """Return the projected class token."""
        return output.image_embeds
