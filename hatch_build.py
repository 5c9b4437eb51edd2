"""Put Leaflet, the map library of the service's page, beside the page before the package is built.

It comes from the PyPI package django-js-lib-leaflet, which the build requires (see ``[build-system]``); nothing of
it is kept in the repository. Run by hand, ``python hatch_build.py`` does the same for a checkout.
"""

from __future__ import annotations

import shutil
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "django-js-lib-leaflet"
TARGET = Path(__file__).parent / "rsloc_db" / "service" / "page" / "leaflet"
FILES = ("leaflet.js", "leaflet.css", "images/layers.png", "images/layers-2x.png")


def place_leaflet() -> None:
    """Copy Leaflet's files and its licence.

    Raises:
        importlib.metadata.PackageNotFoundError: the package that carries it is not installed.
    """
    source = distribution(PACKAGE)
    for name in FILES:
        path = TARGET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(source.locate_file(f"js_lib_leaflet/static/js_lib_leaflet/{name}")), path)
    (TARGET / "LICENSE").write_text(source.read_text("LICENSE") or "")


class LeafletHook(BuildHookInterface[Any]):
    """Hatchling's hook: before a wheel, and before an editable installation."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Place Leaflet."""
        place_leaflet()


if __name__ == "__main__":
    place_leaflet()
