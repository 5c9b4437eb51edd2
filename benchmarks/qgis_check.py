"""Open a QGIS project with QGIS itself, say what each layer holds, and draw it. Needs no part of this package.

    QT_QPA_PLATFORM=offscreen /usr/bin/python3 benchmarks/qgis_check.py project.qgz picture.png [LAYER...]

takes the Python that QGIS is installed for (Debian: ``apt install qgis python3-qgis``), and a project with the password
inside (``rsloc-db qgis --password``). LAYER names those to draw, in place of those that the project shows. It prints
JSON: the project's CRS, and name -> valid, features drawn, rules of each layer.
"""

from __future__ import annotations

import json
import sys

from qgis.core import (
    QgsApplication,
    QgsFeatureRequest,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsProject,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize

SIZE = QSize(1400, 900)


def main(project: str, picture: str, names: list[str]) -> None:
    """Open, report, draw."""
    application = QgsApplication([], False)
    application.initQgis()
    opened = QgsProject.instance()
    view = QgsMapSettings()
    # as the application does it: where to look stands beside the project's layers
    opened.readProject.connect(lambda document: view.readXml(document.elementsByTagName("mapcanvas").item(0)))
    if not opened.read(project):
        sys.exit(f"QGIS cannot read {project}: {opened.error()}")
    layers = {}
    for layer in opened.mapLayers().values():
        valid = layer.isValid()
        rules = [rule.label() for rule in layer.renderer().rootRule().children()] if valid else []
        layers[layer.name()] = {"valid": valid, "rows": count(layer) if valid else 0, "rules": rules}
    draw(opened, view, picture, names)
    sys.stdout.write(json.dumps({"crs": opened.crs().authid(), "layers": layers}) + "\n")
    application.exitQgis()


def count(layer: QgsVectorLayer) -> int:
    """Read all rows of a layer; the number that it states is an estimate."""
    request = QgsFeatureRequest()
    request.setSubsetOfAttributes([])
    return sum(1 for _ in layer.getFeatures(request))


def draw(opened: QgsProject, view: QgsMapSettings, picture: str, names: list[str]) -> None:
    """Draw the visible layers, or those of these names, at the extent that the project opens with."""
    root = opened.layerTreeRoot()
    shown = [layer for layer in root.layerOrder() if layer.name() in names] if names else root.checkedLayers()
    view.setLayers(shown)
    view.setOutputSize(SIZE)
    job = QgsMapRendererParallelJob(view)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(picture)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
