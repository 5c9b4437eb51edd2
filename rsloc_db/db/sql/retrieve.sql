-- name: search_targets
-- The gallery levels that a run may look in: their grid, latitudes and embedding sets of one model.
SELECT g.id AS gallery_id, g.name, g.grid, s.level, s.window_tiles, s.id AS set_id, s.index_kind,
       m.dimensions, e.min_abs_lat_deg, e.max_abs_lat_deg
FROM gallery g
JOIN embedding_set s ON s.gallery_id = g.id AND s.index_kind IS NOT NULL
JOIN model m ON m.id = s.model_id AND m.name = %(model)s AND m.weights_hash = %(weights_hash)s
CROSS JOIN LATERAL (
    SELECT CASE WHEN south < 0 AND north > 0 THEN 0 ELSE least(abs(south), abs(north)) END AS min_abs_lat_deg,
           greatest(abs(south), abs(north)) AS max_abs_lat_deg
    FROM (
        -- the first and last row by the index: a gallery may have millions of tiles
        SELECT (SELECT ST_Y(t.center) FROM tile t WHERE t.gallery_id = g.id AND t.level = s.level
                ORDER BY t.tile_row LIMIT 1) AS north,
               (SELECT ST_Y(t.center) FROM tile t WHERE t.gallery_id = g.id AND t.level = s.level
                ORDER BY t.tile_row DESC LIMIT 1) AS south
    ) y
) e
WHERE g.status = 'ready' AND (%(galleries)s::text[] IS NULL OR g.name = ANY (%(galleries)s))
ORDER BY g.name, s.level, s.window_tiles;

-- name: replica_lag
-- The age in seconds of what a replica has last replayed; null on a primary.
SELECT extract(epoch FROM now() - pg_last_xact_replay_timestamp());

-- name: patches_stored
-- The patches of a query for one embedding set, from where they are stored.
SELECT id, east_offset, north_offset, min_abs_lat_deg, max_abs_lat_deg, vector FROM patch
WHERE run_id = %(run_id)s AND query_id = %(query_id)s AND level = %(level)s AND window_tiles = %(window_tiles)s;

-- name: patches_sent
-- The same, sent along to a connection that cannot see them yet. Materialised, or a vector's text would be read anew
-- for every tile that the patch is compared with.
WITH sent AS MATERIALIZED (
    SELECT id, east_offset, north_offset, min_abs_lat_deg, max_abs_lat_deg, vector::halfvec
    FROM unnest(%(ids)s::bigint[], %(east)s::float8[], %(north)s::float8[], %(low)s::real[], %(high)s::real[],
                %(vectors)s::text[]) AS s (id, east_offset, north_offset, min_abs_lat_deg, max_abs_lat_deg, vector)
) SELECT * FROM sent;

-- name: insert_hits
-- Keep the tiles that a search finds.
INSERT INTO hit (run_id, query_id, patch_id, gallery_id, tile_id, rank, similarity, vote)
SELECT %(run_id)s, %(query_id)s, f.patch_id, %(gallery_id)s, f.tile_id, f.rank, f.similarity, f.vote FROM ({search}) f;

-- name: copy_hits
-- Keep the tiles that other connections found.
COPY hit (run_id, query_id, gallery_id, patch_id, tile_id, rank, similarity, vote) FROM STDIN;

-- name: search_exact
-- Nearest tiles of each patch by comparing every row of an embedding set: small sets, or a part of one inside a polygon.
-- A patch's scale suits a band of latitudes only, so tiles outside it are left out first.
WITH pool AS MATERIALIZED (
    SELECT e.tile_id, e.vector::{vector} AS vector, t.center, abs(ST_Y(t.center)) AS abs_lat
    FROM {partition} e JOIN tile t ON t.id = e.tile_id
    WHERE %(within)s::text IS NULL OR ST_Intersects(t.footprint, ST_SetSRID(ST_GeomFromGeoJSON(%(within)s::text), 4326))
)
SELECT p.id AS patch_id, k.tile_id, k.rank, (1 - k.distance)::real AS similarity, {vote} AS vote
FROM ({patches}) p
CROSS JOIN LATERAL (
    SELECT n.*, row_number() OVER (ORDER BY n.distance) AS rank
    FROM (SELECT pool.tile_id, pool.center, pool.vector <=> p.vector::{vector} AS distance
          FROM pool WHERE pool.abs_lat BETWEEN p.min_abs_lat_deg AND p.max_abs_lat_deg
          ORDER BY 3 LIMIT %(limit)s) n
) k;

-- name: count_tiles_within
-- How many tiles of a gallery level touch a polygon, counted to a limit.
SELECT count(*) FROM (
    SELECT FROM tile WHERE gallery_id = %(gallery_id)s AND level = %(level)s
      AND ST_Intersects(footprint, ST_SetSRID(ST_GeomFromGeoJSON(%(within)s::text), 4326)) LIMIT %(limit)s) t;

-- name: prepare_hnsw
-- Let the index be used whatever the planner thinks of it, and look through enough of it.
SELECT set_config('hnsw.ef_search', %(ef_search)s, true), set_config('enable_seqscan', 'off', true);

-- name: finish_hnsw
-- Let the planner choose again.
SELECT set_config('enable_seqscan', 'on', true);

-- name: search_hnsw
-- Nearest tiles of each patch by the embedding set's HNSW index. The search stands in a materialised CTE of its own: a
-- join or filter beside it would lose the index. The patch's band of latitudes and the polygon, which is a large one
-- here, are applied after it.
SELECT p.id AS patch_id, k.tile_id, k.rank, (1 - k.distance)::real AS similarity, {vote} AS vote
FROM ({patches}) p
CROSS JOIN LATERAL (
    WITH nearest AS MATERIALIZED (
        SELECT e.tile_id, (e.vector::{vector}) <=> (p.vector::{vector}) AS distance
        FROM {partition} e ORDER BY (e.vector::{vector}) <=> (p.vector::{vector}) LIMIT %(limit)s
    )
    SELECT n.tile_id, n.distance, row_number() OVER (ORDER BY n.distance) AS rank, t.center
    FROM nearest n JOIN tile t ON t.id = n.tile_id
    WHERE abs(ST_Y(t.center)) BETWEEN p.min_abs_lat_deg AND p.max_abs_lat_deg
      AND (%(within)s::text IS NULL OR ST_Intersects(t.footprint, ST_SetSRID(ST_GeomFromGeoJSON(%(within)s::text), 4326)))
) k;

-- name: vote_mercator
-- Where the query's centre lies if a patch lies at a tile: offsets are Web Mercator metres (EPSG:3857, sphere).
ST_SetSRID(ST_MakePoint(
    mod((ST_X(k.center) - degrees(p.east_offset / 6378137.0) + 540.0)::numeric, 360.0)::float8 - 180.0,
    degrees(atan(sinh(asinh(tan(radians(ST_Y(k.center)))) - p.north_offset / 6378137.0)))), 4326);

-- name: vote_ground
-- The same where offsets are metres on the ground (WGS84 geodesic back from the tile).
ST_Project(k.center::geography, sqrt(p.east_offset ^ 2 + p.north_offset ^ 2),
           atan2(-p.east_offset, -p.north_offset))::geometry(Point, 4326);

-- name: vote_degrees
-- The same where offsets are degrees of longitude and latitude (plate carree).
ST_SetSRID(ST_MakePoint(
    mod((ST_X(k.center) - p.east_offset + 540.0)::numeric, 360.0)::float8 - 180.0,
    greatest(-90.0, least(90.0, ST_Y(k.center) - p.north_offset))), 4326);
