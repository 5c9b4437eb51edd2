"""Draw the tables and their keys as SVG out of ``rsloc_db.db.tables``, for docs/sql.md."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from sqlalchemy import Column, ForeignKeyConstraint, Table

from rsloc_db.db.tables import metadata

LANES = (
    ("gallery", "ingest_failure", "gradient_block", "model"),
    ("tile", "tile_image", "embedding_set", "embedding"),
    ("query", "query_truth", "run", "run_query"),
    ("patch", "hit"),
    ("clique", "clique_hit", "place"),
    ("match", "localization"),
)
"""Tables from left to right and top to bottom; those that are not named follow in the last lane."""
LINE, HEAD, WIDTH, GAP, STEP = 15, 22, 204, 60, 26
COLOURS = ("#dcebf7", "#dcebf7", "#fbeed7", "#e3f1de", "#e3f1de", "#e3f1de")
"""Galleries, queries and runs, what a run leaves."""


@dataclass(frozen=True)
class Box:
    """A drawn table: its left upper corner."""

    table: Table
    x: int
    y: int
    colour: str

    @property
    def height(self) -> int:
        """Height with all its columns."""
        return HEAD + LINE * len(self.table.columns) + 6

    def column_y(self, name: str) -> int:
        """Middle of a column's line."""
        return self.y + HEAD + LINE * list(self.table.columns.keys()).index(name) + LINE // 2


def draw() -> str:
    """Return the drawing: a box a table, a line from each foreign key to what it points to."""
    boxes = _boxes()
    width = max(box.x for box in boxes.values()) + WIDTH + GAP // 2
    height = max(box.y + box.height for box in boxes.values()) + GAP // 4
    lines = [_line(boxes, key) for box in boxes.values() for key in _keys(box.table)]
    style = (
        "<style>text{font:11px monospace;fill:#222}.name{font-weight:bold;font-size:12px}.type{fill:#777}"
        "path{fill:none;stroke:#8a8a8a;stroke-width:1.2}rect{stroke:#666}</style>"
    )
    # its own background, so that it can be read on a dark page
    back = f'<rect width="{width}" height="{height}" fill="white" style="stroke:none"/>'
    shapes = [back, *lines, *(_shape(box) for box in boxes.values())]
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">'
    return "\n".join([opened, style, *shapes, "</svg>", ""])


def _boxes() -> dict[str, Box]:
    named = {name for lane in LANES for name in lane}
    rest = tuple(name for name in metadata.tables if name not in named)
    boxes: dict[str, Box] = {}
    for number, lane in enumerate((*LANES[:-1], LANES[-1] + rest)):
        y = GAP // 4
        for name in lane:
            box = Box(metadata.tables[name], GAP + number * (WIDTH + GAP), y, COLOURS[number])
            boxes[name] = box
            y += box.height + STEP
    return boxes


def _keys(table: Table) -> list[ForeignKeyConstraint]:
    """Return the foreign keys in the order of their columns: a set of them has none."""
    return sorted(table.foreign_key_constraints, key=lambda key: list(key.column_keys))


def _line(boxes: dict[str, Box], key: ForeignKeyConstraint) -> str:
    """Draw a curve from the key's last column to the head of the table it points to, out of the sides that face."""
    here, there = boxes[key.table.name], boxes[key.referred_table.name]
    y0, y1 = here.column_y(key.column_keys[-1]), there.y + HEAD // 2
    rightward = there.x > here.x
    x0 = here.x + (WIDTH if rightward else 0)
    x1 = there.x if there.x >= here.x else there.x + WIDTH
    bend = GAP * 3 // 4
    c0, c1 = x0 + (bend if rightward else -bend), x1 - (bend if there.x >= here.x else -bend)
    return f'<path d="M{x0} {y0} C{c0} {y0} {c1} {y1} {x1} {y1}"/><circle cx="{x1}" cy="{y1}" r="3" fill="#666"/>'


def _shape(box: Box) -> str:
    x, y = box.x, box.y
    parts = [
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{box.height}" rx="4" fill="white"/>',
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEAD - 4}" rx="4" fill="{box.colour}"/>',
        f"<g><title>{escape(box.table.comment or '')}</title>"
        f'<text class="name" x="{x + 6}" y="{y + 13}">{box.table.name}</text></g>',
        *(_column(box, column) for column in box.table.columns),
    ]
    return "".join(parts)


def _column(box: Box, column: Column[object]) -> str:
    y = box.column_y(column.name) + 4
    sign = "#" if column.primary_key else "→" if column.foreign_keys else " "
    kind = _kind(column)
    title = f"<title>{escape(column.comment or '')}</title>"
    return (
        f'<g>{title}<text x="{box.x + 6}" y="{y}" xml:space="preserve">{sign} {column.name}</text>'
        f'<text class="type" x="{box.x + WIDTH - 6}" y="{y}" text-anchor="end">{kind}</text></g>'
    )


def _kind(column: Column[object]) -> str:
    """Return a short name of a column's type."""
    kind = str(column.type).lower()
    geometry: str | None = getattr(column.type, "geometry_type", None)
    short = {"datetime": "time", "blob": "bytes", "array": "double[]"}
    if geometry:
        return {"MULTIPOLYGON": "polygons", "MULTIPOINT": "points"}.get(geometry, geometry.lower())
    return short.get(kind, kind)
