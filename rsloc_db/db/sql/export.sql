-- What a map of a run shows. Used by rsloc_db/db/export.py.

-- name: map_queries
-- Queries of a run with answer and truth, one row each; shapes as GeoJSON (EPSG:4326).
SELECT
    query.id,
    query.name,
    query.path,
    coalesce(answer.verdict, 'pending') AS verdict,
    coalesce(answer.reason, '') AS reason,
    answer.confidence,
    ST_X(answer.center) AS lon,
    ST_Y(answer.center) AS lat,
    ST_AsGeoJSON(answer.footprint, 7) AS footprint,
    ST_AsGeoJSON(answer.ellipse, 7) AS ellipse,
    answer.ellipse_a_m,
    answer.ellipse_b_m,
    coalesce(judged.state, 'unlabelled') AS state,
    judged.error_m,
    ST_AsGeoJSON(truth.footprint, 7) AS truth
FROM run_query
JOIN query ON query.id = run_query.query_id
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (run_query.run_id, run_query.query_id)
LEFT JOIN evaluation_query AS judged ON (judged.run_id, judged.query_id) = (run_query.run_id, run_query.query_id)
LEFT JOIN evaluation_truth_map AS truth ON truth.id = query.id
WHERE run_query.run_id = %(run)s
ORDER BY query.query_set, query.name;

-- name: map_galleries
-- Galleries that a run searched and that are still there, each with the lowest and the highest level searched.
SELECT gallery.name, min(searched.level), max(searched.level)
FROM run
JOIN embedding_set AS searched ON searched.id = ANY (searched_sets(run.settings))
JOIN gallery ON gallery.id = searched.gallery_id
WHERE run.id = %(run)s
GROUP BY gallery.name
ORDER BY gallery.name;

-- name: map_cells
-- Cells with tiles in a box of cells: all of them, or evenly spread ones where there are more than asked for.
WITH cell AS (
    SELECT DISTINCT tile_column, tile_row
    FROM tile
    WHERE
        gallery_id = %(gallery_id)s AND level = %(level)s
        AND tile_row BETWEEN %(first_row)s AND %(last_row)s
        AND tile_column BETWEEN %(first_column)s AND %(last_column)s
),
spread AS (
    SELECT greatest(1, ceil(sqrt(count(*) / %(most)s::double precision)))::integer AS stride FROM cell
)
SELECT tile_column, tile_row, stride
FROM cell
CROSS JOIN spread
WHERE tile_column %% stride = 0 AND tile_row %% stride = 0
ORDER BY tile_row, tile_column;

-- name: map_places
-- The best places of each query of a run, the answers' own among them.
SELECT
    place.query_id AS id,
    place.rank,
    place.correlation,
    place.evidence,
    ST_X(place.center) AS lon,
    ST_Y(place.center) AS lat,
    ST_AsGeoJSON(place.footprint, 7) AS footprint,
    coalesce(answer.verdict IN ('accepted', 'ambiguous') AND answer.place_id = place.id, false) AS chosen
FROM place
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (place.run_id, place.query_id)
WHERE place.run_id = %(run)s AND place.rank <= %(top)s
ORDER BY place.query_id, place.rank;
