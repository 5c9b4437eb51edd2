"""Bring docs/sql.md and docs/tables.svg up to date: the output below each recipe, and the drawing of the tables.

``python docs/code/sql_page.py`` writes them; a test fails where they are not current. The recipes run in a database of
their own, which is dropped afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import sql_world
from tables_drawing import draw

from rsloc_db.db import schema, server
from rsloc_db.db.connection import Connection, connect

DOCS = Path(__file__).resolve().parents[1]
PAGE, DRAWING = DOCS / "sql.md", DOCS / "tables.svg"
DATABASE = "rsloc_docs"
RECIPE = re.compile(
    r"```sql\n(?P<sql>.*?)```\n\n(?P<varies><!-- varies -->\n)?```text\n(?P<output>.*?)```\n", re.DOTALL
)
"""A statement and its output; one that varies (sizes on disk) is shown as it once was."""


def fill(text: str, run: Callable[[str], str]) -> str:
    """Return the page with the output that ``run`` gives for each statement; what varies keeps its rows.

    Args:
        text: the page.
        run: takes a statement and returns its table as text.
    """
    return RECIPE.sub(lambda found: _filled(found, run(found["sql"])), text)


def _filled(found: re.Match[str], output: str) -> str:
    whole = found[0]
    if found["varies"] and found["output"].split("\n")[0].split() == output.split("\n")[0].split():
        return whole
    return whole.replace(f"```text\n{found['output']}```", f"```text\n{output}```")


def run_on(conn: Connection) -> Callable[[str], str]:
    """Return a function that runs a statement and returns its rows as psql prints them."""

    def run(statement: str) -> str:
        cursor = conn.execute(statement)
        names = [column.name for column in cursor.description or ()]
        return table(names, cursor.fetchall())

    return run


def table(names: list[str], rows: list[tuple[object, ...]]) -> str:
    """Return rows as psql prints them: headings, a rule, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(names, *cells, strict=True)]
    right = [all(isinstance(row[i], int | float | Decimal | None) for row in rows) for i in range(len(names))]
    lines = [_line([name.center(width) for name, width in zip(names, widths, strict=True)])]
    lines.append("+".join("-" * (width + 2) for width in widths))
    for row in cells:
        padded = zip(row, widths, right, strict=True)
        lines.append(_line([text.rjust(width) if to_right else text.ljust(width) for text, width, to_right in padded]))
    return "".join(line + "\n" for line in lines)


def _line(cells: list[str]) -> str:
    return (" " + " | ".join(cells)).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "t" if value else "f"
    return f"{value:%Y-%m-%d}" if isinstance(value, datetime) else str(value)


def main() -> None:
    """Write both files."""
    own = server.database_url()
    url = urlsplit(own)._replace(path=f"/{DATABASE}").geturl()
    with psycopg.connect(own, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {DATABASE}")
        try:
            schema.upgrade(url)
            with connect(url) as conn:
                sql_world.build(conn)
                PAGE.write_text(fill(PAGE.read_text(), run_on(conn)))
        finally:
            admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    DRAWING.write_text(draw())


if __name__ == "__main__":
    main()
