"""The layers of a QGIS project: which view each one shows, which rows of it, and how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rsloc_db.export.qgis_style import Look, Rule, Style, single

OF_RUN = "run_id = {run}"
OF_QUERIES = "id IN (SELECT query_id FROM run_query WHERE run_id = {run})"
OF_GALLERIES = "gallery IN ({galleries})"
OF_TILES = "gallery_id IN (SELECT id FROM gallery WHERE name IN ({galleries}))"


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A layer of the project.

    Attributes:
        name: what it is called.
        view: the view or table.
        geometry: its column of geometries (EPSG:4326).
        type: type of that column.
        style: how it looks.
        where: which rows, as SQL.
        visible: whether it is shown at first.
        from_scale: it is shown at this scale (its denominator) and closer; 0 for at all of them.
    """

    name: str
    view: str
    geometry: str
    type: str
    style: Style
    where: str = OF_RUN
    visible: bool = True
    from_scale: int = 0

    @property
    def key(self) -> str:
        """What the project calls it."""
        return f"rsloc_{self.name.replace(' ', '_')}"

    def source(self, run: int, galleries: Sequence[str]) -> str:
        """Return what it shows, in the words of QGIS: the second half of a data source, after the connection."""
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in galleries) or "NULL"
        where = self.where.format(run=run, galleries=names)
        # estimated: QGIS would else read whole views to know how many rows they have
        known = f"key='id' estimatedmetadata=true srid=4326 type={self.type} checkPrimaryKeyUnicity='0'"
        return f'{known} table="public"."{self.view}" ({self.geometry}) sql={where}'


def _verdicts() -> Style:
    return Style(
        (
            Rule("accepted", "\"verdict\" = 'accepted'", Look("fill", "#d98e00", 0.6, opacity=0.15)),
            Rule("ambiguous", "\"verdict\" = 'ambiguous'", Look("fill", "#d63fa0", 0.6, opacity=0.15)),
        ),
        '"name" || \'\\n\' || round("confidence", 3)',
    )


def _outcomes() -> Style:
    right = '"outcome" = \'right\' AND "error_m" {}'
    return Style(
        (
            Rule("right, to 25 m", right.format("< 25"), Look("fill", "#2e8540", 0.6, opacity=0.12)),
            Rule(
                "right, to 500 m", right.format('>= 25 AND "error_m" < 500'), Look("fill", "#8bc34a", 0.6, opacity=0.12)
            ),
            Rule("right, to a tile", right.format(">= 500"), Look("fill", "#d9c800", 0.6, opacity=0.12)),
            Rule("misplaced", "\"outcome\" = 'misplaced'", Look("fill", "#c62828", 0.8, opacity=0.12)),
            Rule("false place", "\"outcome\" = 'false place'", Look("fill", "#8e0038", 0.8, opacity=0.12)),
            Rule("without truth, or not accepted", "ELSE", Look("fill", "#777777", 0.4)),
        ),
        "\"outcome\" || coalesce(', ' || round(\"error_m\", 1) || ' m', '')",
    )


def _errors() -> Style:
    return Style(
        (
            Rule("below 25 m", '"error_m" < 25', Look("line", "#2e8540", 0.6)),
            Rule("25 to 500 m", '"error_m" >= 25 AND "error_m" < 500', Look("line", "#e08214", 0.6)),
            Rule("500 m and more", '"error_m" >= 500', Look("line", "#c62828", 0.8)),
        )
    )


def _cliques() -> Style:
    return Style(
        (
            Rule("first", '"rank" = 1', Look("line", "#e08214", 0.5)),
            Rule("2 to 5", '"rank" > 1 AND "rank" <= 5', Look("line", "#5e8fc9", 0.3)),
            Rule("others", '"rank" > 5', Look("line", "#b0b0b0", 0.1)),
        )
    )


def _matches() -> Style:
    return Style(
        (
            Rule("agree with the transform", '"inlier"', Look("line", "#2e8540", 0.5)),
            Rule("do not", 'NOT "inlier"', Look("line", "#c62828", 0.3)),
        )
    )


def _votes() -> Style:
    return Style(
        (
            Rule("most similar tile", '"rank" = 1', Look("marker", "#e08214", 1.6)),
            Rule("others", '"rank" > 1', Look("marker", "#5e8fc9", 0.8)),
        )
    )


GROUPS: tuple[tuple[str, tuple[MapLayer, ...]], ...] = (
    (
        "How it was found",
        (
            MapLayer("matches", "match_map", "line", "LineString", _matches(), visible=False),
            MapLayer(
                "places",
                "place_map",
                "footprint",
                "MultiPolygon",
                single(Look("fill", "#3f9fd0", 0.3, "dot"), '"name" || \' \' || "rank"'),
                visible=False,
            ),
            MapLayer("cliques", "clique_map", "lines", "MultiLineString", _cliques(), visible=False),
            MapLayer("votes", "vote_map", "vote", "Point", _votes(), visible=False),
        ),
    ),
    (
        "Truth",
        (
            MapLayer("error lines", "evaluation_error_map", "line", "LineString", _errors()),
            MapLayer(
                "truth",
                "evaluation_truth_map",
                "footprint",
                "MultiPolygon",
                single(Look("fill", "#1f3b73", 0.4, "dash")),
                where=OF_QUERIES,
            ),
            MapLayer(
                "localizations by error",
                "evaluation_outcome_map",
                "footprint",
                "MultiPolygon",
                _outcomes(),
                visible=False,
            ),
        ),
    ),
    (
        "Answers",
        (
            MapLayer(
                "queries",
                "query_map",
                "center",
                "Point",
                single(Look("marker", "#303030", 1.8), '"name"'),
                visible=False,
            ),
            MapLayer(
                "ellipses", "ellipse_map", "ellipse", "Polygon", single(Look("fill", "#00a884", 0.5, opacity=0.2))
            ),
            MapLayer("localizations by verdict", "localization_map", "footprint", "MultiPolygon", _verdicts()),
        ),
    ),
    (
        "Gallery",
        (
            MapLayer(
                "tiles",
                "tile",
                "footprint",
                "Polygon",
                single(Look("fill", "#9a9a9a", 0.1)),
                where=OF_TILES,
                from_scale=500_000,
            ),
            MapLayer(
                "coverage",
                "coverage_map",
                "footprint",
                "Polygon",
                single(Look("fill", "#b8b2a6", 0.2, opacity=0.35)),
                where=OF_GALLERIES,
            ),
        ),
    ),
)
"""Groups of layers, the uppermost first."""
