"""Find where an overhead image was taken."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsloc_db.api import localize as localize
    from rsloc_db.evaluation import compare as compare
    from rsloc_db.evaluation import evaluate as evaluate
    from rsloc_db.evaluation import load_truth as load_truth
    from rsloc_db.evaluation import runs as runs
    from rsloc_db.export import draw_map as draw_map
    from rsloc_db.export.georeference import georeference as georeference
    from rsloc_db.export.qgis import write_qgis as write_qgis
    from rsloc_db.export.report import write_report as write_report
    from rsloc_db.export.vector import export_run as export_run
    from rsloc_db.image_match import match as match
    from rsloc_db.query_sets import make_queries as make_queries
    from rsloc_db.stages.ingest import ingest as ingest
    from rsloc_db.synth import synthesize as synthesize

__version__ = version("rsloc-db")

_API = {
    "compare": "rsloc_db.evaluation",
    "draw_map": "rsloc_db.export",
    "evaluate": "rsloc_db.evaluation",
    "export_run": "rsloc_db.export.vector",
    "georeference": "rsloc_db.export.georeference",
    "ingest": "rsloc_db.stages.ingest",
    "load_truth": "rsloc_db.evaluation",
    "localize": "rsloc_db.api",
    "make_queries": "rsloc_db.query_sets",
    "match": "rsloc_db.image_match",
    "runs": "rsloc_db.evaluation",
    "synthesize": "rsloc_db.synth",
    "write_qgis": "rsloc_db.export.qgis",
    "write_report": "rsloc_db.export.report",
}
"""Function -> its module, which is loaded when the function is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)
