-- Models, embedding sets, vectors and their indexes. Used by rsloc_db/db/embeddings.py.

-- name: model_register
-- The key of a model with given weights, made where it is new.
WITH made AS (
    INSERT INTO model (name, weights_hash, dimensions)
    VALUES (%(name)s, %(weights_hash)s, %(dimensions)s)
    ON CONFLICT (name, weights_hash) DO NOTHING
    RETURNING id
)
SELECT id FROM made
UNION ALL
SELECT id FROM model WHERE name = %(name)s AND weights_hash = %(weights_hash)s;

-- name: embedding_set_list
-- The embedding sets of a gallery.
SELECT
    s.id, s.gallery_id, s.model_id, m.name AS model, m.weights_hash, m.dimensions, s.level, s.window_tiles, s.index_kind
FROM embedding_set AS s
JOIN model AS m ON m.id = s.model_id
WHERE s.gallery_id = %(gallery_id)s
ORDER BY s.level, s.window_tiles, s.id;

-- name: embedding_set_create
-- Make an embedding set; its partition comes with it.
INSERT INTO embedding_set (gallery_id, model_id, level, window_tiles)
VALUES (%(gallery_id)s, %(model_id)s, %(level)s, %(window_tiles)s)
RETURNING id;

-- name: embedding_set_mark
-- Say how a set is searched (null: not at all, it is incomplete).
UPDATE embedding_set SET index_kind = %(index_kind)s WHERE id = %(set_id)s;

-- name: embedding_partition_create
-- Make a set's table.
CREATE TABLE {partition} (LIKE embedding INCLUDING COMMENTS);

-- name: embedding_partition_inline
-- Keep vectors inside their rows whatever their length: a scan of vectors kept apart is four times slower.
ALTER TABLE {partition} ALTER COLUMN vector SET STORAGE PLAIN;

-- name: embedding_partition_attach
-- Make it a partition, with the parent's keys; unlike CREATE ... PARTITION OF this does not wait for searches to end.
ALTER TABLE embedding ATTACH PARTITION {partition} FOR VALUES IN ({set_id});

-- name: embedding_partition_drop
-- Drop a set's vectors and index.
DROP TABLE IF EXISTS {partition};

-- name: embedding_set_delete
-- Delete an embedding set; its partition is dropped before.
DELETE FROM embedding_set WHERE id = %(set_id)s;

-- name: embedding_pending
-- Blocks of cells that hold tiles without a vector, and how many such tiles, in the order of (row, column).
SELECT t.tile_row / %(block)s, t.tile_column / %(block)s, count(*)
FROM tile AS t
LEFT JOIN embedding AS e ON e.set_id = %(set_id)s AND e.tile_id = t.id
WHERE t.gallery_id = %(gallery_id)s AND t.level = %(level)s AND e.tile_id IS NULL
GROUP BY 1, 2
ORDER BY 1, 2;

-- name: embedding_pending_tiles
-- Tiles of one block without a vector.
SELECT t.id
FROM tile AS t
LEFT JOIN embedding AS e ON e.set_id = %(set_id)s AND e.tile_id = t.id
WHERE
    t.gallery_id = %(gallery_id)s AND t.level = %(level)s
    AND t.tile_row BETWEEN %(first_row)s AND %(last_row)s
    AND t.tile_column BETWEEN %(first_column)s AND %(last_column)s
    AND e.tile_id IS NULL;

-- name: embedding_copy
-- Fill a set's partition.
COPY {partition} (set_id, tile_id, vector) FROM STDIN (FORMAT binary);

-- name: embedding_forget
-- Drop a set's vectors of the tiles in given cells, because their windows changed.
DELETE FROM embedding AS e
USING tile AS t, unnest(%(columns)s::integer [], %(rows)s::integer []) AS cell (tile_column, tile_row)
WHERE
    e.set_id = %(set_id)s AND e.tile_id = t.id
    AND t.gallery_id = %(gallery_id)s AND t.level = %(level)s
    AND t.tile_column = cell.tile_column AND t.tile_row = cell.tile_row;

-- name: embedding_count
-- How many vectors a set has.
SELECT count(*) FROM embedding WHERE set_id = %(set_id)s;

-- name: embedding_index_drop
-- Drop a set's index.
DROP INDEX IF EXISTS {index};

-- name: embedding_index_drop_beside
-- Drop an index without locking out searches; it waits for those under way. Not inside a transaction.
DROP INDEX CONCURRENTLY IF EXISTS {index};

-- name: embedding_index_rename
-- Give an index another name, if it is there; searches neither wait nor are waited for.
ALTER INDEX IF EXISTS {index} RENAME TO {name};

-- name: server_resources
-- What an index build may take: maintenance_work_mem and effective_cache_size in MiB, parallel workers.
SELECT
    (pg_size_bytes(current_setting('maintenance_work_mem')) >> 20)::integer,
    (pg_size_bytes(current_setting('effective_cache_size')) >> 20)::integer,
    current_setting('max_parallel_workers')::integer;

-- name: embedding_index_create
-- Build a set's index for cosine distance. A search must order by the very same expression.
CREATE INDEX {index} ON {partition}
USING hnsw ((vector::halfvec({dimensions})) halfvec_cosine_ops) WITH (m = 16, ef_construction = 64);

-- name: embedding_index_progress
-- How many vectors a session's index build has taken in.
SELECT tuples_done FROM pg_stat_progress_create_index WHERE pid = %(pid)s;

-- name: embedding_analyze
-- Let the planner know a partition's size.
ANALYZE {partition};
