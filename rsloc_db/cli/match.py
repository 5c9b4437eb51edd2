"""rsloc-db match: how one image lies on another, without a database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import rsloc_db
from rsloc_db.cli.common import examples, print_json, stdout
from rsloc_db.cli.feature_options import FeatureModelOption, FeaturesOption, LightGlueOption
from rsloc_db.types import Json

EXAMPLES = examples(
    "rsloc-db match summer.tif winter.png --picture both.png",
    "rsloc-db match scan.png map.png --scale 0.8 1.25 --turn -10 10 --json",
)


def match(
    a: Annotated[Path, typer.Argument(help="Image that is brought onto the other.")],
    b: Annotated[Path, typer.Argument(help="The other image.")],
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Least and greatest scale to search: pixels of B for each of A.", show_default="0.3 3.5"),
    ] = None,
    turn: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Least and greatest turn to search, degrees clockwise.", show_default="-180 180"),
    ] = None,
    features: FeaturesOption = None,
    feature_model: FeatureModelOption = None,
    lightglue: LightGlueOption = None,
    picture: Annotated[
        Path | None, typer.Option(help="Write a checkerboard of A and B here (.png, .jpg).", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the affine transform from image A to image B, or say that they don't match.

    The images may be of two dates or sensors, turned by any angle and of any scale within bounds. No georeference is
    read and no database is needed. The transform takes pixels (x, y, 1) of A to pixels of B, x to the right, y down;
    the centre of the first pixel is (0, 0).

    --features follows matches of local features as well: sift, or the networks aliked and disk out of ONNX files.
    """
    from rsloc_db.registration import SCALES, TURNS_DEG

    found = rsloc_db.match(
        a,
        b,
        scale=scale or SCALES,
        turn=turn or TURNS_DEG,
        features=features,
        feature_model=feature_model,
        lightglue=lightglue,
    )
    answer = found.as_dict()
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    if picture is not None:
        found.write_picture(picture)


def _print(answer: Json) -> None:
    lines = {"verdict": f"{answer['verdict'].replace('_', ' ')}: {answer['reason']}"}
    if answer["matrix"]:
        guess = "" if answer["verdict"] == "matched" else "best guess: "
        rows = ("  ".join(f"{v:.5f}" for v in row) for row in answer["matrix"])
        x, y = answer["center"]
        ellipse = answer["ellipse"]
        lines |= {
            "A to B": guess + "; ".join(rows),
            "scale": f"{answer['scale']:.4f} pixels of B for each of A",
            "turn": f"{answer['turn_deg']:.2f} degrees clockwise",
            "centre": f"of A is at {x:.1f}, {y:.1f} of B",
            "95 % ellipse": f"{ellipse['a_px']:.1f} x {ellipse['b_px']:.1f} pixels of B",
            "evidence": f"{answer['evidence']:.1f}; likeness {answer['likeness']:.1f}",
        }
    for name, text in lines.items():
        stdout.print(f"{name:<13} {text}")
