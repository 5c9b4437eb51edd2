"""What decides a result of ``localize``, beside the query and the gallery; kept with every run."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rsloc_db.types import Json


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run.

    Attributes:
        model: name of the embedder.
        galleries: names of the galleries to search; None for all.
        within: GeoJSON of the polygon (EPSG:4326) that the search is limited to, or None.
        hits: tiles a patch.
        patches: most patches a query, level and window width.
        cliques: most cliques that are verified.
        refined: most places that are refined.
    """

    model: str
    galleries: tuple[str, ...] | None = None
    within: str | None = None
    hits: int = 100
    patches: int = 100
    cliques: int = 40
    refined: int = 6

    def as_json(self) -> Json:
        """Return the options for ``run.settings``."""
        return asdict(self)
