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

-- name: export_localizations
-- Answers of a run, judged where the truth is loaded; transforms as stored.
SELECT
    answer.id,
    answer.run_id,
    query.query_set,
    query.name,
    answer.verdict,
    answer.reason,
    answer.confidence,
    ST_X(answer.center) AS lon_deg,
    ST_Y(answer.center) AS lat_deg,
    answer.ellipse_a_m,
    answer.ellipse_b_m,
    answer.ellipse_azimuth_deg,
    answer.transform,
    answer.transform_srid,
    judged.state AS truth,
    judged.error_m,
    judged.corner_error_m,
    judged.in_ellipse,
    judged.total_s,
    ST_AsBinary(ST_ForcePolygonCCW(answer.footprint)) AS geometry
FROM localization AS answer
JOIN query ON query.id = answer.query_id
LEFT JOIN evaluation_query AS judged ON (judged.run_id, judged.query_id) = (answer.run_id, answer.query_id)
WHERE answer.run_id = %(run)s
ORDER BY query.query_set, query.name;

-- name: export_queries
-- Queries of a run, each at the centre that was found.
SELECT id, run_id, query_set, name, path, width_px, height_px, status, verdict, confidence, total_s,
       ST_AsBinary(center) AS geometry
FROM query_map WHERE run_id = %(run)s ORDER BY query_set, name;

-- name: export_ellipses
-- Ellipses of the centres that hold 95 of 100.
SELECT id, run_id, query_set, name, verdict, ellipse_a_m, ellipse_b_m, ellipse_azimuth_deg,
       ST_AsBinary(ST_ForcePolygonCCW(cut_at_antimeridian(ellipse))) AS geometry
FROM ellipse_map WHERE run_id = %(run)s ORDER BY query_set, name;

-- name: export_places
-- Places that were verified, chosen or not.
SELECT shown.id, shown.run_id, query_set, name, shown.rank, shown.correlation, shown.evidence, turn_deg, zoom, chosen,
       ST_AsBinary(ST_ForcePolygonCCW(shown.footprint)) AS geometry
FROM place_map AS shown
JOIN place USING (id)
WHERE shown.run_id = %(run)s
ORDER BY query_set, name, shown.rank;

-- name: export_cliques
-- Cliques as stars of lines.
SELECT id, run_id, query_set, name, rank, score, patches, ST_AsBinary(cut_at_antimeridian(lines)) AS geometry
FROM clique_map WHERE run_id = %(run)s ORDER BY query_set, name, rank;

-- name: export_votes
-- Every hit's vote.
SELECT id, run_id, query_set, name, patch_id, level, window_tiles, tile_id, rank, similarity,
       ST_AsBinary(vote) AS geometry
FROM vote_map WHERE run_id = %(run)s ORDER BY query_set, name, patch_id, rank;

-- name: export_matches
-- Matched blocks, from where the fit puts them to where they were found.
SELECT id, run_id, query_set, name, score, residual_m, inlier, ST_AsBinary(cut_at_antimeridian(line)) AS geometry
FROM match_map WHERE run_id = %(run)s ORDER BY query_set, name, id;

-- name: export_truth
-- Where a run's queries really are, as far as that is loaded.
SELECT known.id, query_set, name, provider, landscape, simulated, source,
       ST_AsBinary(ST_ForcePolygonCCW(footprint)) AS geometry
FROM evaluation_truth_map AS known
JOIN run_query ON run_query.query_id = known.id
WHERE run_query.run_id = %(run)s
ORDER BY query_set, name;

-- name: export_errors
-- Lines from the found centres to the true ones.
SELECT id, run_id, query_set, name, verdict, error_m, ST_AsBinary(cut_at_antimeridian(line)) AS geometry
FROM evaluation_error_map WHERE run_id = %(run)s ORDER BY query_set, name;

-- name: export_coverage
-- Where the galleries that a run searched have tiles, at the levels that it searched.
SELECT coverage.id, coverage.gallery, coverage.level, coverage.tiles, coverage.first_at, coverage.last_at,
       ST_AsBinary(ST_ForcePolygonCCW(ST_Multi(coverage.footprint))) AS geometry
FROM coverage_map AS coverage
JOIN gallery ON gallery.name = coverage.gallery
WHERE (gallery.id, coverage.level) IN (
    SELECT searched.gallery_id, searched.level
    FROM run JOIN embedding_set AS searched ON searched.id = ANY (searched_sets(run.settings))
    WHERE run.id = %(run)s
)
ORDER BY coverage.gallery, coverage.level, coverage.id;

-- name: view_comment
-- What a view is, as its comment says.
SELECT obj_description(to_regclass(%(view)s), 'pg_class');

-- name: georeference_queries
-- Queries of a run with what is needed to write them as maps; the transform is null unless a place was found.
SELECT
    query.query_set,
    query.name,
    query.path,
    query.content_hash,
    coalesce(answer.verdict, 'pending') AS verdict,
    answer.confidence,
    answer.ellipse_a_m,
    answer.transform,
    answer.transform_srid
FROM run_query
JOIN query ON query.id = run_query.query_id
LEFT JOIN localization AS answer ON (answer.run_id, answer.query_id) = (run_query.run_id, run_query.query_id)
WHERE run_query.run_id = %(run)s
ORDER BY query.query_set, query.name;

-- name: report_strips
-- What a report shows of each query of a run, failures first, with its number on the map; shapes as WKB (EPSG:4326).
SELECT
    row_number() OVER (ORDER BY query_set, name) AS number,
    name, path, verdict, reason, confidence, state, error_m, in_ellipse, total_s, outcome, gallery, level, turn_deg,
    ST_AsBinary(best_footprint) AS best_footprint,
    ST_AsBinary(found_corners) AS found_corners,
    ST_AsBinary(true_corners) AS true_corners
FROM evaluation_strip
WHERE run_id = %(run)s
ORDER BY
    array_position(
        ARRAY['false place', 'misplaced', 'failed', 'missed', 'unlabelled', 'right', 'rightly refused', 'pending'],
        outcome
    ),
    error_m DESC NULLS LAST,
    query_set,
    name;

-- name: run_extent
-- Box around all that a run found, and the truth of its queries; null where there is nothing.
SELECT ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box)
FROM (
    SELECT ST_Extent(shape) AS box
    FROM (
        SELECT footprint AS shape FROM localization_map WHERE run_id = %(run)s
        UNION ALL
        SELECT known.footprint
        FROM evaluation_truth_map AS known
        JOIN run_query ON run_query.query_id = known.id
        WHERE run_query.run_id = %(run)s
    ) AS shown
) AS extent;
