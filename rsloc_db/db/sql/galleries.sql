-- Galleries, their tiles and images. Used by rsloc_db/db/galleries.py.

-- name: gallery_lock
-- Take the right to change the gallery of a name until the session ends; false where another session has it.
SELECT pg_try_advisory_lock(hashtext('rsloc_db.gallery'), hashtext(%(name)s));

-- name: gallery_unlock
-- Give the right to change a gallery back.
SELECT pg_advisory_unlock(hashtext('rsloc_db.gallery'), hashtext(%(name)s));

-- name: gallery_find
-- The gallery of a name.
SELECT id, name, grid, source_kind, source, images, attribution, status
FROM gallery
WHERE name = %(name)s;

-- name: gallery_names
-- Names of all galleries.
SELECT name FROM gallery ORDER BY name;

-- name: gallery_create
-- Make a gallery that is not searched until it is ready.
INSERT INTO gallery (name, grid, source_kind, source, images, attribution)
VALUES (%(name)s, %(grid)s, %(source_kind)s, %(source)s, %(images)s, %(attribution)s)
RETURNING id, name, grid, source_kind, source, images, attribution, status;

-- name: gallery_reopen
-- Take a gallery out of the search, because tiles of a source come to it.
UPDATE gallery
SET status = 'loading', source_kind = %(source_kind)s, source = %(source)s
WHERE id = %(gallery_id)s;

-- name: gallery_ready
-- Put a complete gallery into the search.
UPDATE gallery SET status = 'ready' WHERE id = %(gallery_id)s AND status <> 'ready';

-- name: gallery_hide
-- Take a gallery out of the search, because it is about to be deleted.
UPDATE gallery SET status = 'loading' WHERE id = %(gallery_id)s;

-- name: gallery_rename
-- Give a gallery another name.
UPDATE gallery SET name = %(name)s WHERE id = %(gallery_id)s;

-- name: gallery_doom
-- Take a gallery out of the search, because its tiles are about to be deleted, and forget its maps. An ingest that comes
-- in between looks for each tile: where tiles of several sources are stored, the last one that is left does not say how
-- far a source is.
WITH maps AS (
    DELETE FROM gradient_block WHERE gallery_id = %(gallery_id)s
)
UPDATE gallery SET status = 'loading', source = CASE images WHEN 'stored' THEN '' ELSE source END
WHERE id = %(gallery_id)s;

-- name: tile_delete
-- Delete the tiles of a gallery that were added last of those before one, with their images; return the first of them and
-- how many. What is left is as after an ingest that was stopped.
WITH last AS (
    SELECT id FROM tile WHERE gallery_id = %(gallery_id)s AND id < %(before)s ORDER BY id DESC LIMIT %(limit)s
), deleted AS (
    DELETE FROM tile t USING last l WHERE t.id = l.id
)
SELECT min(id), count(*) FROM last;

-- name: gallery_delete
-- Delete a gallery with what is left of it: its tiles and embeddings are deleted before.
DELETE FROM gallery WHERE id = %(gallery_id)s;

-- name: gallery_overview
-- What is known of every gallery. The size is of images, vectors and their indexes.
WITH tiles AS (
    SELECT
        t.gallery_id,
        count(*) AS tiles,
        count(DISTINCT (t.level, t.tile_column, t.tile_row)) AS cells,
        array_agg(DISTINCT t.level::integer) AS levels,
        min(t.captured_at) AS first_date,
        max(t.captured_at) AS last_date,
        ST_Extent(t.footprint) AS box,
        coalesce(sum(octet_length(i.data)), 0)::bigint AS image_bytes
    FROM tile AS t
    LEFT JOIN tile_image AS i ON i.tile_id = t.id
    GROUP BY t.gallery_id
),
sets AS (
    SELECT
        s.gallery_id,
        sum(pg_total_relation_size(to_regclass('embedding_' || s.id)))::bigint AS vector_bytes,
        jsonb_agg(
            jsonb_build_object(
                'model', m.name, 'weights_hash', m.weights_hash,
                'level', s.level, 'window_tiles', s.window_tiles, 'index_kind', s.index_kind
            )
            ORDER BY m.name, m.weights_hash, s.level, s.window_tiles
        ) AS embeddings
    FROM embedding_set AS s
    JOIN model AS m ON m.id = s.model_id
    GROUP BY s.gallery_id
)
SELECT
    g.name,
    g.status,
    g.grid,
    g.source_kind,
    g.source,
    g.images,
    g.attribution,
    coalesce(t.tiles, 0) AS tiles,
    coalesce(t.cells, 0) AS cells,
    coalesce(t.levels, '{}') AS levels,
    t.first_date,
    t.last_date,
    CASE WHEN t.tiles > 0 THEN ARRAY[ST_XMin(t.box), ST_YMin(t.box), ST_XMax(t.box), ST_YMax(t.box)] END AS extent,
    coalesce(s.embeddings, '[]') AS embeddings,
    (SELECT count(*) FROM ingest_failure AS f WHERE f.gallery_id = g.id) AS failures,
    coalesce(t.image_bytes, 0) + coalesce(s.vector_bytes, 0) AS size_bytes
FROM gallery AS g
LEFT JOIN tiles AS t ON t.gallery_id = g.id
LEFT JOIN sets AS s ON s.gallery_id = g.id
ORDER BY g.name;

-- name: failure_list
-- Tiles of a gallery that were skipped.
SELECT name, reason FROM ingest_failure WHERE gallery_id = %(gallery_id)s ORDER BY id;

-- name: failure_add
-- Note a tile that was skipped, once.
INSERT INTO ingest_failure (gallery_id, name, reason)
VALUES (%(gallery_id)s, %(name)s, %(reason)s)
ON CONFLICT (gallery_id, name) DO UPDATE SET reason = excluded.reason;

-- name: tile_count
-- How many rows of a source a level's tiles and skipped tiles account for (a skipped tile's name begins with its level).
SELECT
    (SELECT count(*) FROM tile WHERE gallery_id = %(gallery_id)s AND level = %(level)s),
    (
        SELECT count(*) FROM ingest_failure
        WHERE gallery_id = %(gallery_id)s AND split_part(name, '_', 1) = %(level)s::text
    );

-- name: tile_last
-- The cell of the tile that was added last: keys rise in the order of adding.
SELECT level, tile_column, tile_row FROM tile WHERE gallery_id = %(gallery_id)s ORDER BY id DESC LIMIT 1;

-- name: tile_known
-- Which tiles a gallery has from one cell to another in the order of (row, column).
SELECT tile_column, tile_row, captured_at
FROM tile
WHERE
    gallery_id = %(gallery_id)s AND level = %(level)s
    AND (tile_row, tile_column) >= (%(first_row)s, %(first_column)s)
    AND (tile_row, tile_column) <= (%(last_row)s, %(last_column)s);

-- name: session_watch
-- Let the server notice within seconds that its client was killed, even in the middle of a long statement, and within
-- half a minute that its machine is gone: until then it holds what the client had locked.
SELECT
    set_config('client_connection_check_interval', '2s', false),
    set_config('tcp_keepalives_idle', '10', false),
    set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '4', false),
    set_config('tcp_user_timeout', '30s', false);

-- name: server_folder
-- The server's data folder, for those who may know it.
SELECT setting FROM pg_settings WHERE name = 'data_directory';

-- name: image_compression
-- Images are compressed already: where the server was built with LZ4, let it find that out ten times faster.
SELECT set_config('default_toast_compression', 'lz4', false)
FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals);

-- name: tile_add
-- Add the tiles that the gallery lacks, in the source's order.
INSERT INTO tile (gallery_id, level, tile_column, tile_row, captured_at, footprint, center)
SELECT
    %(gallery_id)s, %(level)s, tile_column, tile_row, captured_at,
    ST_MakeEnvelope(west_deg, south_deg, east_deg, north_deg, 4326),
    ST_Point((west_deg + east_deg) / 2, (south_deg + north_deg) / 2, 4326)
FROM unnest(
    %(columns)s::integer [], %(rows)s::integer [], %(dates)s::timestamptz [],
    %(west)s::float8 [], %(south)s::float8 [], %(east)s::float8 [], %(north)s::float8 []
) WITH ORDINALITY AS new (
    tile_column, tile_row, captured_at, west_deg, south_deg, east_deg, north_deg, position
)
ORDER BY position
ON CONFLICT DO NOTHING
RETURNING id, tile_column, tile_row, captured_at;

-- name: tile_image_copy
-- Fill in the images of new tiles.
COPY tile_image (tile_id, data) FROM STDIN (FORMAT binary);

-- name: tile_images
-- Tiles of a box of cells with their images (null where referenced), cell by cell, the newest date first.
SELECT t.id, t.level, t.tile_column, t.tile_row, t.captured_at, i.data
FROM tile AS t
LEFT JOIN tile_image AS i ON i.tile_id = t.id
WHERE
    t.gallery_id = %(gallery_id)s AND t.level = %(level)s
    AND t.tile_row BETWEEN %(first_row)s AND %(last_row)s
    AND t.tile_column BETWEEN %(first_column)s AND %(last_column)s
ORDER BY t.tile_row, t.tile_column, t.captured_at DESC NULLS LAST;

-- name: tile_images_of_layer
-- One tile of every cell of a box, with its image (null where referenced): of layer 0 the newest, of layer 1 the one
-- before it, and so on; where a cell has fewer dates, its oldest.
SELECT t.id, t.level, t.tile_column, t.tile_row, t.captured_at, i.data
FROM (
    SELECT id, level, tile_column, tile_row, captured_at,
           row_number() OVER (PARTITION BY tile_row, tile_column ORDER BY captured_at DESC NULLS LAST) AS n,
           count(*) OVER (PARTITION BY tile_row, tile_column) AS dates
    FROM tile
    WHERE
        gallery_id = %(gallery_id)s AND level = %(level)s
        AND tile_row BETWEEN %(first_row)s AND %(last_row)s
        AND tile_column BETWEEN %(first_column)s AND %(last_column)s
) AS t
LEFT JOIN tile_image AS i ON i.tile_id = t.id
WHERE t.n = least(%(layer)s + 1, t.dates);

-- name: tile_analyze
-- Let the planner know the tables' new sizes.
ANALYZE tile, tile_image;

-- name: gallery_levels
-- The levels that a gallery has tiles of.
SELECT DISTINCT level FROM tile WHERE gallery_id = %(gallery_id)s ORDER BY level;
