"""What decides a result of ``localize``, beside the query and the gallery; kept with every run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from rsloc_db.types import Json

Retrieval = Literal["knn", "exhaustive", "auto"]


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run.

    Attributes:
        model: name of the embedder.
        galleries: names of the galleries to search; None for all.
        within: GeoJSON of the polygon (EPSG:4326) that the search is limited to, or None.
        hits: tiles a patch of the widest windows; of narrower ones fewer.
        patches: most patches of the widest windows, a query and level; of narrower ones more.
        retrieval: ``knn`` (patches, nearest tiles, cliques), ``exhaustive`` (all of the gallery's gradient maps) or
            ``auto``: knn, and exhaustive where that finds nothing in a gallery that is not too large.
        cliques: most candidates that are compared with stored gradient maps, or that exhaustive retrieval returns.
        verified: most places that are compared with pixels.
        refined: most places that are refined.
    """

    model: str
    galleries: tuple[str, ...] | None = None
    within: str | None = None
    hits: int = 100
    patches: int = 100
    retrieval: Retrieval = "auto"
    cliques: int = 40
    verified: int = 10
    refined: int = 6

    def as_json(self) -> Json:
        """Return the options for ``run.settings``."""
        return asdict(self)
