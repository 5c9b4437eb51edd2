"""Find where an overhead image was taken."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsloc_db.api import localize as localize
    from rsloc_db.evaluation import evaluate as evaluate
    from rsloc_db.stages.ingest import ingest as ingest

__version__ = version("rsloc-db")

_API = {"evaluate": "rsloc_db.evaluation", "ingest": "rsloc_db.stages.ingest", "localize": "rsloc_db.api"}
"""Function -> its module, which is loaded when the function is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_API[name]), name)
