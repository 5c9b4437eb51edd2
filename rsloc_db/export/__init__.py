"""Maps of runs: a page to look around in, and a picture."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rsloc_db.db.connection import connect, require_schema
from rsloc_db.errors import RslocError
from rsloc_db.export.run_map import RunMap, read_run


def draw_map(
    run: int | None = None, *, out: str | Path | None = None, picture: str | Path | None = None, url: str | None = None
) -> RunMap:
    """Draw what a run found, on the tiles of the galleries that it searched.

    Args:
        run: number of the run; None for the newest.
        out: page to write: one HTML file that needs no network.
        picture: PNG file to write.
        url: PostgreSQL URL; None for the settings' own.

    Raises:
        RunError: there is no such run.
        RslocError: plotly or matplotlib is not installed, or a file cannot be written.
        SchemaError: the database lacks the schema.
        ServerError: the database cannot be reached.
    """
    with closing(connect(url)) as conn:
        require_schema(conn)
        found = read_run(conn, run)
    try:
        if out is not None:
            from rsloc_db.export.page import write_page

            write_page(found, Path(out))
        if picture is not None:
            from rsloc_db.export.picture import write_picture

            write_picture(found, Path(picture))
    except ModuleNotFoundError as error:
        raise RslocError(f"maps need {error.name}: pip install 'rsloc-db[demo]'") from error
    except OSError as error:
        raise RslocError(f"the map cannot be written: {error}") from error
    return found
