-- name: upsert_query
-- Register a query image; the same set and name again keeps its key and takes the newest file's facts. No row where it
-- is another image, of another folder, and runs of the first one would be taken for runs of this one.
INSERT INTO query AS known (query_set, name, path, content_hash)
VALUES (%(query_set)s, %(name)s, %(path)s, %(content_hash)s)
ON CONFLICT (query_set, name) DO UPDATE SET path = excluded.path, content_hash = excluded.content_hash
WHERE known.path = excluded.path OR known.content_hash = excluded.content_hash
   OR NOT EXISTS (SELECT FROM run_query r WHERE r.query_id = known.id)
RETURNING id;

-- name: query_path
-- Where the image of a query was.
SELECT path FROM query WHERE query_set = %(query_set)s AND name = %(name)s;

-- name: set_query_size
-- Keep a query's size once its pixels have been read.
UPDATE query SET width_px = %(width_px)s, height_px = %(height_px)s WHERE id = %(query_id)s;

-- name: find_run
-- The newest run of equal settings, queries, galleries and code: it is continued instead of done again.
SELECT id FROM run WHERE settings_hash = %(settings_hash)s ORDER BY id DESC LIMIT 1;

-- name: insert_run
-- Begin a run.
INSERT INTO run (query_set, settings, settings_hash, code_version)
VALUES (%(query_set)s, %(settings)s, %(settings_hash)s, %(code_version)s) RETURNING id;

-- name: insert_run_queries
-- Say which queries belong to a run.
INSERT INTO run_query (run_id, query_id) SELECT %(run_id)s, unnest(%(query_ids)s::bigint[])
ON CONFLICT DO NOTHING;

-- name: pending_queries
-- Queries of a run that are still to do; those that failed are tried again.
SELECT query_id FROM run_query WHERE run_id = %(run_id)s AND status <> 'done';

-- name: lock_run
-- Let one process at a time look for a run of these settings and begin it.
SELECT pg_advisory_xact_lock(hashtext('rsloc-db run'), hashtext(%(settings_hash)s));

-- name: claim_query
-- Lock a query of a run until the transaction ends; no row when another process holds it or has done it.
SELECT query_id FROM run_query WHERE run_id = %(run_id)s AND query_id = %(query_id)s AND status <> 'done'
FOR UPDATE SKIP LOCKED;

-- name: await_query
-- The same, but wait for a process that holds it; no row when that has done it.
SELECT query_id FROM run_query WHERE run_id = %(run_id)s AND query_id = %(query_id)s AND status <> 'done'
FOR UPDATE;

-- name: delete_patches
-- Forget the patches of a query in a run, and with them their hits.
DELETE FROM patch WHERE run_id = %(run_id)s AND query_id = %(query_id)s;

-- name: delete_cliques
-- Forget the cliques of a query in a run.
DELETE FROM clique WHERE run_id = %(run_id)s AND query_id = %(query_id)s;

-- name: delete_places
-- Forget the places of a query in a run, and with them their matches.
DELETE FROM place WHERE run_id = %(run_id)s AND query_id = %(query_id)s;

-- name: delete_localization
-- Forget the answer for a query in a run.
DELETE FROM localization WHERE run_id = %(run_id)s AND query_id = %(query_id)s;

-- name: finish_query
-- Mark a query of a run as done or failed, with the seconds that each stage took and the process's memory.
UPDATE run_query SET status = %(status)s, retrieve_s = %(retrieve_s)s, cliques_s = %(cliques_s)s,
    verify_s = %(verify_s)s, refine_s = %(refine_s)s, total_s = %(total_s)s,
    peak_memory_mb = %(peak_memory_mb)s
WHERE run_id = %(run_id)s AND query_id = %(query_id)s;

-- name: finish_run
-- Mark a run as finished once none of its queries is pending; a rerun with nothing to do leaves it as it is.
UPDATE run SET finished_at = now()
WHERE id = %(run_id)s AND finished_at IS NULL AND NOT EXISTS (SELECT FROM run_query WHERE run_id = %(run_id)s AND status = 'pending');

-- name: insert_place
-- Keep a place that was verified.
INSERT INTO place (run_id, query_id, clique_id, gallery_id, level, rank, correlation, evidence, center, footprint,
    turn_deg, zoom, layer)
VALUES (%(run_id)s, %(query_id)s, %(clique_id)s, %(gallery_id)s, %(level)s, %(rank)s, %(correlation)s, %(evidence)s,
    ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326), ST_GeomFromWKB(%(footprint)s, 4326), %(turn_deg)s, %(zoom)s,
    %(layer)s)
RETURNING id;

-- name: insert_localization
-- Keep the answer for a query.
INSERT INTO localization (run_id, query_id, place_id, verdict, reason, confidence, center, footprint, ellipse,
    ellipse_a_m, ellipse_b_m, ellipse_azimuth_deg, transform, transform_srid, corners)
VALUES (%(run_id)s, %(query_id)s, %(place_id)s, %(verdict)s, %(reason)s, %(confidence)s,
    ST_SetSRID(ST_MakePoint(%(lon)s, %(lat)s), 4326), ST_GeomFromWKB(%(footprint)s, 4326),
    ST_GeomFromWKB(%(ellipse)s, 4326), %(ellipse_a_m)s, %(ellipse_b_m)s, %(ellipse_azimuth_deg)s,
    %(transform)s, %(transform_srid)s, ST_GeomFromWKB(%(corners)s, 4326));

-- name: run_results
-- The answers of a run, one row a query.
SELECT q.query_set, q.name, q.id, l.verdict, l.reason, l.confidence, ST_X(l.center), ST_Y(l.center),
       ST_AsGeoJSON(l.footprint, 9), l.ellipse_a_m, l.ellipse_b_m, l.ellipse_azimuth_deg, l.transform, l.transform_srid
FROM run_query r
JOIN query q ON q.id = r.query_id
JOIN localization l ON l.run_id = r.run_id AND l.query_id = r.query_id
WHERE r.run_id = %(run_id)s ORDER BY q.query_set, q.name;

-- name: run_places
-- The best places of each query of a run.
SELECT query_id, rank, correlation, evidence, ST_X(center), ST_Y(center), ST_AsGeoJSON(footprint, 9) FROM place
WHERE run_id = %(run_id)s AND rank <= %(top)s ORDER BY query_id, rank;

-- name: count_tiles
-- How many tiles galleries have.
SELECT count(*) FROM tile WHERE gallery_id = ANY (%(gallery_ids)s);
