"""What decides a result of ``localize``, beside the query and the gallery; kept with every run."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rsloc_db.features import Features
from rsloc_db.types import Json, Retrieval, Rotation


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
        rotation: ``north_up``, or ``free`` where the turn of the images is not known.
        gsd_factor: by which factor the stated scale may be wrong, either way; 1 where it is right to a few per cent.
        levels: most levels of a gallery that a query is searched in, those of pixels nearest in size to its own.
        reference_error_px: stated error of the gallery itself, standard deviation an axis in its pixels: makers of
            imagery disagree by about one pixel over the same ground, and no match against one of them can know better.
        cliques: most candidates that are compared with stored gradient maps, or that exhaustive retrieval returns;
            three times as many where poses are guesses.
        features: local features that tell further turns and scales where these are not known, or None.
        settled: most candidates whose turn and scale are looked for more closely, where these are not known.
        verified: most places that are compared with pixels; of large queries fewer, where their pose is known.
        refined: most places that are refined.
    """

    model: str
    galleries: tuple[str, ...] | None = None
    within: str | None = None
    hits: int = 100
    patches: int = 25
    retrieval: Retrieval = "auto"
    rotation: Rotation = "north_up"
    gsd_factor: float = 1.0
    levels: int = 1
    reference_error_px: float = 0.75
    features: Features | None = None
    cliques: int = 40
    settled: int = 24
    verified: int = 10
    refined: int = 6

    @property
    def free(self) -> bool:
        """Whether turn or scale are looked for."""
        return self.rotation == "free" or self.gsd_factor > 1.0

    @property
    def candidates(self) -> int:
        """Candidates that are kept: a guessed pose makes the right one less likely to be among the first."""
        return 3 * self.cliques if self.free else self.cliques

    def as_json(self) -> Json:
        """Return the options for ``run.settings``."""
        return asdict(self)
