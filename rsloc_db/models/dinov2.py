"""DINOv2 (Oquab et al. 2023), with registers or without: "dinov2:FOLDER" or "dinov2:HUB_NAME"."""

from __future__ import annotations

from typing import Any

from rsloc_db.models.transformer import Transformer

INPUT_PX = 224
"""Its authors evaluate at this size; the size in its configuration, 518 px, is the last one it was trained at."""


class Dinov2(Transformer):
    """DINOv2's class token after the last norm."""

    kind, loader, types = "dinov2", "AutoModel", ("dinov2", "dinov2_with_registers")
    statistics = "imagenet"

    @staticmethod
    def side(config: Any) -> int:
        """Return 224 px, or less where it was trained at less: whole patches."""
        return min(INPUT_PX, int(config.image_size)) // int(config.patch_size) * int(config.patch_size)

    @staticmethod
    def rows(output: Any) -> Any:
        """Return the class token."""
        return output.pooler_output
