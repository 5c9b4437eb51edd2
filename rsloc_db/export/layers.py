"""Which layers of a run can be exported, and reading them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from rsloc_db.db.connection import Connection
from rsloc_db.db.export import Rows, layer_rows, view_comment
from rsloc_db.errors import ExportError

Shape = Literal["Point", "MultiLineString", "MultiPolygon"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a run.

    Attributes:
        name: what it is called in files and commands.
        shape: type of its geometries (EPSG:4326).
        view: the view that it is made from, whose comment says what it is.
    """

    name: str
    shape: Shape
    view: str


LAYERS = {
    layer.name: layer
    for layer in (
        Layer("localizations", "MultiPolygon", "localization_map"),
        Layer("queries", "Point", "query_map"),
        Layer("ellipses", "MultiPolygon", "ellipse_map"),
        Layer("places", "MultiPolygon", "place_map"),
        Layer("cliques", "MultiLineString", "clique_map"),
        Layer("votes", "Point", "vote_map"),
        Layer("matches", "MultiLineString", "match_map"),
        Layer("truth", "MultiPolygon", "evaluation_truth_map"),
        Layer("errors", "MultiLineString", "evaluation_error_map"),
        Layer("coverage", "MultiPolygon", "coverage_map"),
    )
}
MOST_WANTED = "localizations"
LARGE = frozenset({"votes"})
"""Layers of thousands of rows a query, which are written when they are asked for by name."""


@dataclass(frozen=True, slots=True)
class LayerRows:
    """A layer being read.

    Attributes:
        layer: which one.
        comment: what it is, in a sentence.
        types: name -> PostgreSQL type of its columns but for the geometry.
        parts: rows, some at a time; a row's last value is its geometry as WKB, or None.
    """

    layer: Layer
    comment: str
    types: dict[str, str]
    parts: Iterator[Rows]


@contextmanager
def read_layer(conn: Connection, layer: Layer, run: int) -> Iterator[LayerRows]:
    """Read a layer of a run.

    Args:
        conn: a connection in a transaction.
        layer: which one.
        run: number of the run.
    """
    comment = view_comment(conn, layer.view)
    with layer_rows(conn, layer.name, run) as (types, parts):
        yield LayerRows(layer, comment, dict(list(types.items())[:-1]), parts)


def find_layers(names: list[str]) -> list[Layer]:
    """Return layers by name.

    Raises:
        ExportError: there is no layer of such a name.
    """
    unknown = [name for name in names if name not in LAYERS]
    if unknown:
        raise ExportError(f"there is no layer {unknown[0]!r}: expected one of {', '.join(LAYERS)}")
    return [LAYERS[name] for name in dict.fromkeys(names)]
