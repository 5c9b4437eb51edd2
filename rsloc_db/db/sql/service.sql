-- What the service shows. Used by rsloc_db/db/service.py. Places of files are never among it.

-- name: service_levels
-- Tiles of a gallery by level and year of their image; the year is null where the date is not known.
SELECT level, extract(year FROM captured_at)::integer AS year, count(*) AS tiles
FROM tile
WHERE gallery_id = %(gallery_id)s
GROUP BY level, year
ORDER BY level, year;

-- name: service_coverage
-- Where a gallery has tiles of a level, in blocks of up to 16 x 16 cells.
SELECT id, ST_AsGeoJSON(footprint, 7) AS geometry, level, tiles, first_at, last_at
FROM coverage_map
WHERE gallery = %(gallery)s AND level = coalesce(%(level)s, level)
ORDER BY id
LIMIT %(limit)s;

-- name: service_tiles
-- Tiles of a gallery that touch a box, the newest first.
SELECT id, ST_AsGeoJSON(footprint, 7) AS geometry, level, tile_column, tile_row, captured_at
FROM tile
WHERE
    gallery_id = %(gallery_id)s
    AND level = %(level)s
    AND footprint && ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
    AND (%(since)s::date IS NULL OR captured_at >= %(since)s::date)
    AND (%(until)s::date IS NULL OR captured_at < %(until)s::date + 1)
ORDER BY captured_at DESC NULLS LAST, tile_row, tile_column
LIMIT %(limit)s;

-- name: service_many_tiles
-- Whether a box of cells holds more tiles than a limit; they are counted no further.
SELECT count(*) > %(most)s
FROM (
    SELECT FROM tile
    WHERE
        gallery_id = %(gallery_id)s AND level = %(level)s
        AND tile_row BETWEEN %(first_row)s AND %(last_row)s
        AND tile_column BETWEEN %(first_column)s AND %(last_column)s
    LIMIT %(most)s + 1
) AS counted;

-- name: service_sampled_cells
-- Cells with tiles in some rows of a box, every so many columns: no more of a large gallery is looked at.
SELECT DISTINCT tile_column, tile_row
FROM tile
WHERE
    gallery_id = %(gallery_id)s AND level = %(level)s
    AND tile_row = ANY (%(rows)s)
    AND tile_column BETWEEN %(first_column)s AND %(last_column)s
    AND tile_column %% %(stride)s = 0
ORDER BY tile_row, tile_column;

-- name: service_fingerprint
-- What tells that galleries have changed: which there are, and the last of their tiles and embedding sets.
SELECT
    (SELECT coalesce(json_agg(json_build_array(id, name, status) ORDER BY id), '[]')::text FROM gallery),
    (SELECT max(id) FROM tile),
    (SELECT count(index_kind) FROM embedding_set);

-- name: service_no_hurry
-- Let the statements of this transaction take as long as they need.
SET LOCAL statement_timeout = 0;

-- name: service_tile
-- A tile and the gallery it belongs to.
SELECT gallery.name, tile.level, tile.tile_column, tile.tile_row, tile.captured_at
FROM tile
JOIN gallery ON gallery.id = tile.gallery_id
WHERE tile.id = %(tile)s;

-- name: service_settings
-- All options that decided the result of a run.
SELECT settings FROM run WHERE id = %(run)s;

-- name: service_forget_pending
-- Forget the unfinished run of an uploaded image, whose process was ended; a run with other queries stays.
DELETE FROM run
WHERE
    id IN (
        SELECT member.run_id
        FROM run_query AS member
        JOIN query ON query.id = member.query_id
        WHERE query.path = %(path)s AND member.status = 'pending'
    )
    AND (SELECT count(*) FROM run_query WHERE run_query.run_id = run.id) = 1;

-- name: service_patience
-- Give up on a lock that a process which was just ended still holds.
SET LOCAL lock_timeout = '5s';

-- name: service_run_queries
-- Queries of a run with their answers, judged where the truth is known.
SELECT
    strip.query_id AS id,
    strip.query_set,
    strip.name,
    strip.verdict,
    strip.reason,
    strip.confidence,
    strip.state,
    strip.outcome,
    strip.error_m,
    strip.total_s,
    strip.gallery,
    strip.level,
    ST_X(answer.center) AS lon_deg,
    ST_Y(answer.center) AS lat_deg,
    answer.ellipse_a_m,
    answer.ellipse_b_m,
    count(*) OVER () AS matched
FROM evaluation_strip AS strip
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (strip.run_id, strip.query_id)
WHERE
    strip.run_id = %(run)s
    AND (%(verdict)s::text IS NULL OR strip.verdict = %(verdict)s)
    AND (%(outcome)s::text IS NULL OR strip.outcome = %(outcome)s)
    AND (%(name)s::text IS NULL OR strpos(lower(strip.name), lower(%(name)s)) > 0)
ORDER BY {order} NULLS LAST, strip.query_set, strip.name
LIMIT %(limit)s OFFSET %(offset)s;

-- name: service_query
-- A query of a run: its answer, its seconds, and what became of it.
SELECT
    query.id,
    query.query_set,
    query.name,
    query.path,
    query.content_hash,
    query.width_px,
    query.height_px,
    member.status,
    member.retrieve_s,
    member.cliques_s,
    member.verify_s,
    member.refine_s,
    member.total_s,
    coalesce(answer.verdict, 'pending') AS verdict,
    coalesce(answer.reason, '') AS reason,
    answer.confidence,
    ST_X(answer.center) AS lon_deg,
    ST_Y(answer.center) AS lat_deg,
    answer.ellipse_a_m,
    answer.ellipse_b_m,
    answer.ellipse_azimuth_deg,
    answer.transform,
    answer.transform_srid,
    strip.state,
    strip.outcome,
    strip.error_m,
    strip.in_ellipse,
    strip.gallery,
    strip.level,
    strip.turn_deg,
    (SELECT count(*) FROM patch WHERE (patch.run_id, patch.query_id) = (member.run_id, query.id)) AS patches,
    (SELECT count(*) FROM hit WHERE (hit.run_id, hit.query_id) = (member.run_id, query.id)) AS hits,
    (SELECT count(*) FROM clique WHERE (clique.run_id, clique.query_id) = (member.run_id, query.id)) AS cliques,
    (SELECT count(*) FROM match WHERE match.place_id = answer.place_id) AS matches,
    (SELECT count(*) FROM match WHERE match.place_id = answer.place_id AND match.inlier) AS inliers
FROM run_query AS member
JOIN query ON query.id = member.query_id
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (member.run_id, member.query_id)
LEFT JOIN evaluation_strip AS strip ON (strip.run_id, strip.query_id) = (member.run_id, member.query_id)
WHERE member.run_id = %(run)s AND member.query_id = %(query)s;

-- name: service_places
-- Candidate places of a query of a run, the one with the most evidence first.
SELECT
    place.rank,
    place.correlation,
    place.evidence,
    place.level,
    place.turn_deg,
    place.zoom,
    gallery.name AS gallery,
    ST_X(place.center) AS lon_deg,
    ST_Y(place.center) AS lat_deg,
    coalesce(answer.place_id = place.id AND answer.verdict IN ('accepted', 'ambiguous'), false) AS chosen
FROM place
LEFT JOIN gallery ON gallery.id = place.gallery_id
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (place.run_id, place.query_id)
WHERE place.run_id = %(run)s AND place.query_id = %(query)s
ORDER BY place.rank;

-- name: service_comparison
-- Queries of two runs with both places, to draw what moved.
SELECT
    query.id,
    query.query_set,
    query.name,
    a.verdict AS verdict_a,
    b.verdict AS verdict_b,
    ST_X(a.center) AS lon_a_deg,
    ST_Y(a.center) AS lat_a_deg,
    ST_X(b.center) AS lon_b_deg,
    ST_Y(b.center) AS lat_b_deg,
    ground_distance_m(a.center, b.center) AS moved_m
FROM query
LEFT JOIN localization AS a ON a.query_id = query.id AND a.run_id = %(a)s
LEFT JOIN localization AS b ON b.query_id = query.id AND b.run_id = %(b)s
WHERE a.id IS NOT NULL OR b.id IS NOT NULL
ORDER BY query.query_set, query.name;

-- name: service_view_columns
-- Columns of a view with their types, as PostgreSQL names them.
SELECT attname, format_type(atttypid, NULL)
FROM pg_attribute
WHERE attrelid = to_regclass(%(view)s) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum;

-- name: service_features
-- Rows of a view as features: key, geometry as GeoJSON, all other columns.
SELECT
    shown.id,
    ST_AsGeoJSON({geometry}, 7) AS geometry,
    to_jsonb(shown) - ARRAY['id', {column_name}] - %(hidden)s::text[] AS properties
FROM {view} AS shown
WHERE shown.id > %(after)s AND {conditions}
ORDER BY shown.id
LIMIT %(limit)s;

-- name: service_feature_count
-- How many rows there are, counted up to a limit.
SELECT count(*) FROM (SELECT FROM {view} AS shown WHERE {conditions} LIMIT %(most)s) AS counted;

-- name: service_feature_box
-- A condition of the two above: the geometry touches a box, which may run over the antimeridian.
(
    shown.{column} && ST_MakeEnvelope(%(west)s, %(south)s, %(east)s, %(north)s, 4326)
    OR shown.{column} && ST_MakeEnvelope(%(west_2)s, %(south)s, %(east_2)s, %(north)s, 4326)
);
