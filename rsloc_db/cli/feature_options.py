"""The options that name local features, for all commands that take them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features", help="Follow matches of local features as well: sift | aliked | disk.", show_default="none"
    ),
]
FeatureModelOption = Annotated[
    Path | None,
    typer.Option("--feature-model", help="ONNX file of aliked or disk (needs OpenCV 5).", show_default=False),
]
LightGlueOption = Annotated[
    Path | None,
    typer.Option("--lightglue", help="ONNX file of LightGlue, to match what aliked finds.", show_default=False),
]
