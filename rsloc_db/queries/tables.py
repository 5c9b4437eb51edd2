"""Read the CSV beside a query set, column by column: some tell of the images, the others tell the truth."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rsloc_db.errors import QueryError


def read_table(
    table: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and values of a set's CSV, of the asked columns alone: the others hold the truth.

    Missing optional columns and missing values are empty strings; blank lines are passed over.

    Raises:
        QueryError: it is no UTF-8 CSV, or lacks a needed column.
    """
    with _open(table) as reader:
        header = reader.fieldnames or ()
        if missing := [name for name in needed if name not in header]:
            raise QueryError(
                f"{table} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: "
                f"expected {', '.join(needed)}, found {', '.join(header) or 'nothing'}"
            )
        for row in reader:
            yield reader.line_num, {name: (row.get(name) or "").strip() for name in (*needed, *optional)}


def unique_names(table: Path, rows: Iterator[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Pass on rows, each of which must name another image.

    Raises:
        QueryError: a name is missing, stands twice or is no mere file name.
    """
    seen: set[str] = set()
    for line, row in rows:
        name = row["imgname"]
        if not name or name != Path(name).name or name == "..":
            raise QueryError(f"{table}, line {line}: imgname is {name!r}, expected the name of a file in the folder")
        if name in seen:
            raise QueryError(f"{table}, line {line}: {name} stands twice")
        seen.add(name)
        yield line, row


def columns(table: Path) -> list[str]:
    """Return the names of a CSV's columns.

    Raises:
        QueryError: it is no UTF-8 CSV.
    """
    with _open(table) as reader:
        return list(reader.fieldnames or ())


@contextmanager
def _open(table: Path) -> Iterator[csv.DictReader[str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            yield reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QueryError(f"cannot read {table} as a CSV in UTF-8: {error}") from error
