-- name: pending_gradient_blocks
-- Blocks of so many tiles a side whose gradient maps are missing or were made from other tiles than there are now: layer
-- 0 of each, and as many more as its cells have dates, up to a limit.
SELECT t.block_row, t.block_column, l.layer, t.tiles
FROM (SELECT block_row, block_column, sum(dates)::int AS tiles, max(dates)::int AS dates
      FROM (SELECT tile_row / %(side)s AS block_row, tile_column / %(side)s AS block_column, count(*) AS dates FROM tile
            WHERE gallery_id = %(gallery_id)s AND level = %(level)s GROUP BY tile_row, tile_column) c
      GROUP BY 1, 2) t
CROSS JOIN LATERAL generate_series(0, least(t.dates, %(layers)s) - 1) AS l (layer)
LEFT JOIN gradient_block b ON b.gallery_id = %(gallery_id)s AND b.level = %(level)s AND b.layer = l.layer
    AND b.pool = %(pool)s AND b.block_row = t.block_row AND b.block_column = t.block_column AND b.tiles = t.tiles
WHERE b.id IS NULL
ORDER BY 3, 1, 2;

-- name: gradient_layers
-- How many layers of dates the gradient maps of a gallery level have at most.
SELECT coalesce(max(layer), 0) + 1 FROM gradient_block WHERE gallery_id = %(gallery_id)s AND level = %(level)s;

-- name: put_gradient_block
-- Keep the gradient maps of a block, in place of older ones.
INSERT INTO gradient_block (gallery_id, level, layer, pool, block_column, block_row, footprint, tiles, maps, cover)
VALUES (%(gallery_id)s, %(level)s, %(layer)s, %(pool)s, %(block_column)s, %(block_row)s,
    ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326), %(tiles)s, %(maps)s, %(cover)s)
ON CONFLICT (gallery_id, level, layer, pool, block_row, block_column) DO UPDATE
SET tiles = excluded.tiles, maps = excluded.maps, cover = excluded.cover;

-- name: list_gradient_blocks
-- Where a gallery level has gradient maps, all over or inside a polygon (GeoJSON, EPSG:4326).
SELECT block_column, block_row FROM gradient_block
WHERE gallery_id = %(gallery_id)s AND level = %(level)s AND layer = %(layer)s AND pool = 1
  AND (%(within)s::text IS NULL OR ST_Intersects(footprint, ST_SetSRID(ST_GeomFromGeoJSON(%(within)s::text), 4326)))
ORDER BY block_row, block_column;

-- name: read_gradient_blocks
-- Gradient maps of some blocks.
SELECT b.block_column, b.block_row, b.maps, b.cover
FROM unnest(%(columns)s::int[], %(rows)s::int[]) AS want (block_column, block_row)
JOIN gradient_block b ON b.gallery_id = %(gallery_id)s AND b.level = %(level)s AND b.layer = %(layer)s
    AND b.pool = %(pool)s AND b.block_column = want.block_column AND b.block_row = want.block_row;
