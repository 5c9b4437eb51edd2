"""Models, embedding sets and their vectors; a set's vectors are in a partition of their own. Indexes: ``indexes``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from psycopg import sql
from psycopg.rows import class_row

from rsloc_db.db.connection import Connection, statement
from rsloc_db.errors import ModelError


@dataclass(frozen=True, slots=True)
class EmbeddingSet:
    """A row of table embedding_set with what is known of its model; index_kind is None until it is complete."""

    id: int
    gallery_id: int
    model_id: int
    model: str
    weights_hash: str
    dimensions: int
    level: int
    window_tiles: int
    index_kind: str | None


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of some tiles of one set: (N,) int64 and (N, dimensions) float16."""

    set_id: int
    tile_ids: NDArray[np.int64]
    vectors: NDArray[np.float16]


def register_model(conn: Connection, name: str, weights_hash: str, dimensions: int) -> int:
    """Return the key of a model, made where it is new."""
    values = {"name": name, "weights_hash": weights_hash, "dimensions": dimensions}
    row = conn.execute(statement("model_register"), values).fetchone()
    if row is None:  # either half of the statement yields the key, unless another session adds the model right now
        raise ModelError(f"model {name!r} is being registered by another process: try again")
    return int(row[0])


def list_sets(conn: Connection, gallery_id: int) -> list[EmbeddingSet]:
    """Return the embedding sets of a gallery by level, window and age."""
    with conn.cursor(row_factory=class_row(EmbeddingSet)) as cursor:
        return cursor.execute(statement("embedding_set_list"), {"gallery_id": gallery_id}).fetchall()


def ensure_sets(
    conn: Connection, gallery_id: int, model_id: int, levels: Sequence[int], windows: Sequence[int]
) -> list[EmbeddingSet]:
    """Return a model's sets of the given levels and windows, made with their partitions where they are new.

    Sets that the gallery has beside them are returned too where they are incomplete; ``conn`` is in autocommit.
    """
    wanted = {(level, window) for level in levels for window in windows}
    of_model = [s for s in list_sets(conn, gallery_id) if s.model_id == model_id]
    for level, window in sorted(wanted - {(s.level, s.window_tiles) for s in of_model}):
        with conn.transaction():
            _create_set(conn, gallery_id, model_id, level, window)
    of_model = [s for s in list_sets(conn, gallery_id) if s.model_id == model_id]
    return [s for s in of_model if s.index_kind is None or (s.level, s.window_tiles) in wanted]


def _create_set(conn: Connection, gallery_id: int, model_id: int, level: int, window: int) -> None:
    values = {"gallery_id": gallery_id, "model_id": model_id, "level": level, "window_tiles": window}
    row = conn.execute(statement("embedding_set_create"), values).fetchone()
    set_id = int(row[0]) if row else 0
    for name in ("embedding_partition_create", "embedding_partition_inline", "embedding_partition_attach"):
        conn.execute(statement(name).format(partition=partition_name(set_id), set_id=sql.Literal(set_id)))


def reopen_set(conn: Connection, of: EmbeddingSet) -> None:
    """Take a set out of the search and drop its index: vectors are about to come and go.

    An index is rebuilt rather than vacuumed: before pgvector 0.8.3 vacuum can corrupt an HNSW index.
    """
    mark_set(conn, of.id, None)
    for suffix in ("", "_old", "_next"):
        conn.execute(statement("embedding_index_drop").format(index=index_name(of.id, suffix)))


def drop_set(conn: Connection, set_id: int) -> None:
    """Drop a set with its vectors and their index, inside the caller's transaction."""
    conn.execute(statement("embedding_partition_drop").format(partition=partition_name(set_id)))
    conn.execute(statement("embedding_set_delete"), {"set_id": set_id})


def drop_model(conn: Connection, gallery_id: int, model: str, weights: str = "") -> int:
    """Drop the vectors that a model made of a gallery, and return how many sets they were; other models' stay.

    All of them go in one step, which waits for the searches that are under way; ``conn`` is in autocommit.

    Args:
        conn: a connection.
        gallery_id: the gallery.
        model: name of the model, as it is stored.
        weights: beginning of its weights' hash, needed where the gallery has several of that name.

    Raises:
        ModelError: the gallery has no such embeddings, or those of several weights.
    """
    sets = list_sets(conn, gallery_id)
    found = [each for each in sets if each.model == model and each.weights_hash.startswith(weights)]
    names = ", ".join(sorted({f"{each.model} {each.weights_hash[:8]}" for each in found or sets})) or "none"
    if not found:
        raise ModelError(f"the gallery has no embeddings by {model} {weights}".rstrip() + f": it has those by {names}")
    if len({each.model_id for each in found}) > 1:
        raise ModelError(f"the gallery has embeddings by {names}: say which by the weights")
    with conn.transaction():
        for each in found:
            drop_set(conn, each.id)
    return len(found)


def pending_blocks(conn: Connection, of: EmbeddingSet, block: int) -> dict[tuple[int, int], int]:
    """Return how many tiles lack a vector in each block of ``block`` x ``block`` cells, keyed (row, column) / block."""
    values = {"set_id": of.id, "gallery_id": of.gallery_id, "level": of.level, "block": block}
    return {(row, column): count for row, column, count in conn.execute(statement("embedding_pending"), values)}


def pending_tiles(conn: Connection, of: EmbeddingSet, columns: tuple[int, int], rows: tuple[int, int]) -> set[int]:
    """Return the keys of the tiles in a box of cells (first and last, inclusive) that lack a vector."""
    values = {
        "set_id": of.id,
        "gallery_id": of.gallery_id,
        "level": of.level,
        "first_column": columns[0],
        "last_column": columns[1],
        "first_row": rows[0],
        "last_row": rows[1],
    }
    return {int(row[0]) for row in conn.execute(statement("embedding_pending_tiles"), values)}


def add_vectors(conn: Connection, batch: Vectors) -> None:
    """COPY vectors into their set, inside the caller's transaction."""
    command = statement("embedding_copy").format(partition=partition_name(batch.set_id))
    with conn.cursor() as cursor, cursor.copy(command) as copy:
        copy.set_types(("int4", "int8", "halfvec"))
        for tile_id, vector in zip(batch.tile_ids.tolist(), batch.vectors, strict=True):
            copy.write_row((batch.set_id, tile_id, HalfVector(vector)))


def forget_around(conn: Connection, of: EmbeddingSet, cells: Sequence[tuple[int, int]]) -> None:
    """Drop a set's vectors of the tiles in some cells (column, row), inside the caller's transaction."""
    columns, rows = [column for column, _ in cells], [row for _, row in cells]
    values = {"set_id": of.id, "gallery_id": of.gallery_id, "level": of.level, "columns": columns, "rows": rows}
    conn.execute(statement("embedding_forget"), values)


def mark_set(conn: Connection, set_id: int, kind: str | None) -> None:
    """Say how a set is searched: exact, hnsw, or None for not at all."""
    conn.execute(statement("embedding_set_mark"), {"set_id": set_id, "index_kind": kind})


def partition_name(set_id: int) -> sql.Identifier:
    """Return the name of a set's table."""
    return sql.Identifier(f"embedding_{set_id}")


def index_name(set_id: int, suffix: str = "") -> sql.Identifier:
    """Return the name of a set's index; ``suffix`` tells one that is being built, or replaced."""
    return sql.Identifier(f"embedding_{set_id}_vector{suffix}_idx")
